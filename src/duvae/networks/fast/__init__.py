"""Faster CPU forms of the networks. `networks.build` chooses between these and the plain forms."""
