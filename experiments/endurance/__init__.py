"""Endurance: thousands of bad inputs, kills at random moments, storages that fail. `python -m experiments.endurance --help`."""
