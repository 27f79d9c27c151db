"""Faster forms of the networks in `duvae.networks`, mostly for CPUs.

The function `duvae.networks.build` chooses between these fast forms and the plain forms, which need only PyTorch's
usual operations. A fast form has the weights of its plain form. In evaluation, the two forms compute the
same values up to rounding.
"""
