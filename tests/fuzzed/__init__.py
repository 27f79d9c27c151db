"""Mutations of everything that a user gives: params.yaml, texts, arrays, pictures and command lines.

`fuzzing.py` runs commands on each mutation.
"""
