"""The family `latent`: a hierarchical variational autoencoder."""
