"""The project around the results: what they depend on, and what made them."""
