"""Bodies of encoders and decoders, which know nothing of systems and of training."""

from torch import nn

from duvae.config import TextNetworks
from duvae.networks.lstm import LSTMDecoder, LSTMEncoder, uniform_


def build(networks: TextNetworks, words: int, init: str) -> tuple[LSTMEncoder, LSTMDecoder]:
    """A data set's encoder and decoder.

    Args:
        networks: Their sizes.
        words: Size of the vocabulary.
        init: The encoder's initial weights: "torch" for PyTorch's defaults, "paper" for supplement E's.
            The decoder always starts from supplement E's.
    """
    encoder = LSTMEncoder(words, networks.embedding, networks.hidden)
    decoder = LSTMDecoder(
        words, networks.embedding, networks.hidden, networks.latent, networks.dropout_in, networks.dropout_out
    )
    initialize(encoder, init)
    initialize(decoder, "paper")

    return encoder, decoder


def initialize(module: nn.Module, init: str) -> None:
    """Gives a module its initial weights, in place."""
    if init == "paper":
        uniform_(module)
