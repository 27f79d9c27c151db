"""Faster forms of the networks for a CPU; `networks.build` chooses between them and the plain ones."""
