"""Computes the measures of a trained model; docs/metrics.md defines each measure."""
