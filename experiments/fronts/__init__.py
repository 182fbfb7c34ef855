"""What the benchmarks of fronts and limits share."""
