"""Uses a trained model: loads it from its files, encodes examples, and generates examples with its decoder."""
