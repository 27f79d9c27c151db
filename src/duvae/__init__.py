"""DU-VAE (Shen et al. 2021) and the systems that its paper compares it with."""
