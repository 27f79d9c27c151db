"""Data sets: their sources, and how they are prepared, checked, stored and cut into batches."""
