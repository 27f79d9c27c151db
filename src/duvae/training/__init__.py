"""The training loop, the aggressive training of the encoder (Agg-VAE), and the saved state of a training."""
