"""Fetches, prepares, checks and stores data sets, and cuts them into batches."""
