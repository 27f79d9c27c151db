"""DU-VAE's regularizers in the VAE of pythae, a library of autoencoders, with pythae's own networks and trainer.

The data are the 8 x 8 pictures of handwritten digits that scikit-learn brings along. A pixel is ink with the
probability that its grey says, so the decoder's likelihood is Bernoulli. The networks are pythae's default networks.

    pip install pythae scikit-learn
    pip uninstall dataclasses  # pythae brings this old copy of a module of Python, which breaks some other programs
    python docs/examples/pythae_vae.py
"""

import tempfile

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseEncoder
from pythae.models.nn.default_architectures import Encoder_VAE_MLP
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from sklearn.datasets import load_digits
from torch import Tensor, nn

from duvae.metrics.functions import Measures, measure, table
from duvae.metrics.statistics import standard_error, with_error
from duvae.regularizers import MeanBatchNorm, VarianceDropout, VarianceFloor

PIXELS, LATENT = 64, 16


class RegularizedEncoder(BaseEncoder):
    """Any encoder of pythae, with DU-VAE's regularizers behind it.

    Args:
        encoder: Encoder whose output has `embedding` and `log_covariance`, both of shape (batch, latent).
        latent: Number of dimensions of z.
        gamma: Scale of the batch-normalized means (equation 9).
        p: Probability to keep a variance (equation 6).
    """

    def __init__(self, encoder: BaseEncoder, latent: int, gamma: float, p: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalize = MeanBatchNorm(latent, gamma)
        self.regularize = nn.Sequential(VarianceFloor(), VarianceDropout(p))

    def forward(self, x: Tensor) -> ModelOutput:
        output = self.encoder(x)
        variance = self.regularize(output.log_covariance.exp())

        return ModelOutput(embedding=self.normalize(output.embedding), log_covariance=variance.log())


class Rescale(TrainingCallback):
    """Rescales the scales of the means after each optimizer step (Algorithm 1, line 9).

    Args:
        normalize: Module whose scales are learned.
    """

    def __init__(self, normalize: MeanBatchNorm) -> None:
        self.normalize = normalize

    def on_train_step_end(self, training_config: BaseTrainerConfig, **_: object) -> None:
        self.normalize.rescale_()


def pictures() -> tuple[Tensor, Tensor]:
    """Draws the pixels of all digits, as bits: 1,500 pictures for training and 297 for the test, shape (count, 64)."""
    grey = torch.from_numpy(load_digits().data).float() / 16
    bits = torch.bernoulli(grey, generator=torch.Generator().manual_seed(1))

    return bits[:1500], bits[1500:]


def train(x: Tensor, regularized: bool, epochs: int = 15) -> VAE:
    """Trains a VAE of pythae by pythae's trainer.

    Args:
        x: Pictures of bits, shape (count, 64).
        regularized: Whether DU-VAE's regularizers act on the encoder's output.
        epochs: Number of epochs.

    Returns:
        The trained model.
    """
    torch.manual_seed(1)
    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENT, reconstruction_loss="bce")
    encoder, callbacks = Encoder_VAE_MLP(config), []
    if regularized:
        encoder = RegularizedEncoder(encoder, LATENT, gamma=0.7, p=0.8)
        callbacks = [Rescale(encoder.normalize)]
    model = VAE(config, encoder=encoder)
    with tempfile.TemporaryDirectory() as folder:  # pythae saves its own copies there
        options = BaseTrainerConfig(folder, per_device_train_batch_size=64, num_epochs=epochs, learning_rate=1e-3)
        BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=options, callbacks=callbacks).train()

    return model


def measured(model: VAE, x: Tensor) -> Measures:
    """Measures a model of pythae: its encoder and its decoder are the two functions that `measure` needs.

    Args:
        model: Model with a Bernoulli likelihood.
        x: Pictures of bits, shape (count, 64).

    Returns:
        The measures, in nats per picture.
    """

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        output = model.encoder(x)

        return output.embedding, output.log_covariance

    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        probabilities = model.decoder(z)["reconstruction"].reshape(x.shape)

        return -nn.functional.binary_cross_entropy(probabilities, x, reduction="none").sum(1)

    return measure(encode, log_likelihood, x, samples=100, model=model)


def main() -> dict[str, Measures]:
    """Trains and measures both models, prints the comparison, and returns the measures by name."""
    x, test = pictures()
    measures = {
        "pythae's VAE": measured(train(x, regularized=False), test),
        "with DU-VAE's regularizers": measured(train(x, regularized=True), test),
    }
    print(table(measures))
    one, other = (each.nll_by_example for each in measures.values())
    assert one is not None  # the posteriors have densities
    assert other is not None
    difference = other - one
    print(f"NLL, second minus first: {with_error(difference.mean(), standard_error(difference), 3)} nats")

    return measures


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
