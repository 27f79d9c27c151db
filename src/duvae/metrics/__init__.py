"""What a trained model is measured by; docs/metrics.md defines each."""
