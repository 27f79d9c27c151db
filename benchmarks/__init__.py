"""Measures the speed of the project. `make bench` runs these measurements."""
