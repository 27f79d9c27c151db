"""DU-VAE, a variational autoencoder (Shen et al. 2021), and the systems with which the paper compares it."""
