"""The modules of this package fetch, prepare, check and store data sets, and cut them into batches."""
