"""Manages the DVC project that produces the results.

The modules write files safely, compute hashes of the code that a result depends on, and record how a result was made.
"""
