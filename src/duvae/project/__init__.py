"""The DVC project around the results: its files, its fingerprints, and the records of each result's origin."""
