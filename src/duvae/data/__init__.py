"""Data sets: where they come from, how they are prepared, checked, stored and cut into batches."""
