"""Encoders and decoders for texts and for images.

They do not depend on the way in which a model is trained, or on the kind of its posterior.
"""

from torch import nn

from duvae.config import ImageNetworks, Networks
from duvae.networks.bodies import Decoder, Encoder
from duvae.networks.fast.lstm import FastLSTMDecoder, FastLSTMEncoder
from duvae.networks.fast.pixelcnn import FastPixelCNN
from duvae.networks.lstm import LSTMDecoder, LSTMEncoder, uniform_
from duvae.networks.pixelcnn import PixelCNN
from duvae.networks.resnet import ResNetEncoder


def build(networks: Networks, words: int, init: str, fast: bool = True) -> tuple[Encoder, Decoder]:
    """Builds the encoder and the decoder of a data set: image networks for `ImageNetworks`, otherwise text networks.

    Args:
        networks: The sizes of both networks. Their type says whether the data are images or texts.
        words: The number of values that an element of x may have: the size of the vocabulary for texts, 2 for images of
            bits.
        init: The kind of initial weights of text networks (see `initialize`). A text decoder starts from "paper", the
            weights of supplement E of the paper, unless `init` is "uniform_01". Image networks start from the initial
            weights in the code of He et al. (2018).
        fast: Whether to use the faster CPU forms of the networks (`duvae.networks.fast`). A plain form and its fast
            form have the same weights. The image encoder has only a plain form.

    Returns:
        The encoder and the decoder.
    """
    if isinstance(networks, ImageNetworks):
        n = networks
        return (
            ResNetEncoder(n.size, n.channels, n.features),
            (FastPixelCNN if fast else PixelCNN)(n.size, n.latent, n.kernels, n.width, n.feature_maps),
        )
    encoder = (FastLSTMEncoder if fast else LSTMEncoder)(words, networks.embedding, networks.hidden)
    decoder = (FastLSTMDecoder if fast else LSTMDecoder)(
        words, networks.embedding, networks.hidden, networks.latent, networks.dropout_in, networks.dropout_out
    )
    initialize(encoder, init)
    initialize(decoder, "uniform_01" if init == "uniform_01" else "paper")

    return encoder, decoder


def initial(networks: Networks, init: str) -> str:
    """Chooses the initial weights of the linear map from the features of the encoder to the parameters of q(z|x).

    Args:
        networks: The sizes of the encoder and the decoder. Their type says whether the data are images or texts.
        init: The kind of initial weights if the data are texts.

    Returns:
        The kind of initial weights, as an argument of `initialize`: `init` for texts, "image" for images.
    """
    return "image" if isinstance(networks, ImageNetworks) else init


def initialize(module: nn.Module, init: str) -> None:
    """Sets the initial weights of a module in place.

    Args:
        module: The module to initialize.
        init: The kind of initial weights:

            - "paper": uniform weights (see `uniform_`).
            - "paper_zero_bias": the same, but all biases of LSTMs are 0, as in the code of the paper's authors for IAF.
            - "uniform_01": all weights uniform between -0.1 and 0.1, as in the code of Kim et al. (2018).
            - "image": Xavier's uniform weights for linear maps; other weights stay unchanged.
            - Any other value: all weights stay unchanged.
    """
    if init in ("paper", "paper_zero_bias"):
        uniform_(module)
    if init == "paper_zero_bias":
        for part in module.modules():
            if isinstance(part, nn.LSTM):
                for name, parameter in part.named_parameters():
                    if name.startswith("bias"):
                        nn.init.zeros_(parameter)
    if init == "uniform_01":
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
    if init == "image":
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
