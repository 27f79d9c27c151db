"""Bodies of encoders and decoders, which know nothing of systems and of training."""

from torch import nn

from duvae.config import ImageNetworks, Networks
from duvae.networks.bodies import Decoder, Encoder
from duvae.networks.fast.lstm import FastLSTMDecoder
from duvae.networks.fast.pixelcnn import FastPixelCNN
from duvae.networks.lstm import LSTMDecoder, LSTMEncoder, uniform_
from duvae.networks.pixelcnn import PixelCNN
from duvae.networks.resnet import ResNetEncoder


def build(networks: Networks, words: int, init: str, fast: bool = True) -> tuple[Encoder, Decoder]:
    """A data set's encoder and decoder, for texts or for images as their sizes are of one or the other.

    Args:
        networks: Their sizes.
        words: Values that an element of x may have: the size of the vocabulary; 2 for bits.
        init: A text encoder's initial weights: "torch" for PyTorch's defaults, "paper" for supplement E's.
            Everything else always starts from supplement E's.
        fast: Whether to take the decoders' faster forms, where they apply, instead of the plain ones.
    """
    if isinstance(networks, ImageNetworks):
        n = networks
        return (
            ResNetEncoder(n.size, n.channels, n.features),
            (FastPixelCNN if fast else PixelCNN)(n.size, n.latent, n.kernels, n.width, n.feature_maps),
        )
    encoder = LSTMEncoder(words, networks.embedding, networks.hidden)
    decoder = (FastLSTMDecoder if fast else LSTMDecoder)(
        words, networks.embedding, networks.hidden, networks.latent, networks.dropout_in, networks.dropout_out
    )
    initialize(encoder, init)
    initialize(decoder, "paper")

    return encoder, decoder


def initial(networks: Networks, init: str) -> str:
    """What the maps behind an encoder start from: for texts as `init` says, for images always "image"."""
    return "image" if isinstance(networks, ImageNetworks) else init


def initialize(module: nn.Module, init: str) -> None:
    """Gives a module its initial weights, in place: "paper" uniform ones, "image" Xavier's for a linear map."""
    if init == "paper":
        uniform_(module)
    if init == "image":
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
