"""Benchmarks that measure the speed of the project. `make bench` runs `benchmarks.__main__`."""
