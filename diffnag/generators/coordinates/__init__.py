"""The family `coordinates`: architectures lifted to points, and an equivariant diffusion of these."""
