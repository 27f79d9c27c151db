"""A trained model in use: its files, codes and likelihoods, generated examples."""
