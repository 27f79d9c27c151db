"""Faster CPU forms of the networks. `duvae.networks.build` chooses between these forms and the plain ones."""
