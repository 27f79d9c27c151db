"""A trained model in use: its files, its codes, and examples that it generates."""
