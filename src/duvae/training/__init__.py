"""Trains models: the loop over epochs, the steps, the aggressive training of Agg-VAE, and saved states."""
