"""Measurements of the project's speed, which `make bench` runs."""
