"""Use of a trained model: its files, the codes of examples, and examples that the decoder generates."""
