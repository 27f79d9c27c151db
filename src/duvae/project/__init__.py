"""Manages the DVC project around the results: its files, the hashes of its code, and the records of each result."""
