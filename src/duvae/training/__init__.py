"""The training loop and its variations; it does not know which system it trains."""
