"""A plain PyTorch VAE, measured with `duvae.metrics.functions`, and trained again with DU-VAE's regularizers.

The data are rows of bits. Each row has its own rate of ones, drawn uniformly from 0 to 1, so that -log p(x) is known.
The decoder predicts each bit from the bits before it, and from z. It starts from Laplace's rule of succession, the best
prediction without z. Such a strong decoder can do without z: the VAE collapses.

    python docs/examples/plain_vae.py
"""

import math

import torch
from torch import Tensor, nn

from duvae.metrics.functions import Measures, measure, table
from duvae.metrics.statistics import standard_error, with_error
from duvae.regularizers import MeanBatchNorm, VarianceDropout, VarianceFloor

BITS, LATENT, HIDDEN = 20, 4, 32


def rows_of_bits(count: int, seed: int) -> Tensor:
    """Draws rows of bits, shape (count, BITS), each row with its own rate of ones."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(count, 1, generator=generator)

    return (torch.rand(count, BITS, generator=generator) < rates).float()


def exact_nll(x: Tensor) -> Tensor:
    """Computes -log p(x) of the rows in nats, shape (count,): the logarithm of (BITS + 1) * (BITS choose ones)."""
    ones, bits = x.sum(1), torch.tensor(float(BITS))

    return math.log(BITS + 1) + (bits + 1).lgamma() - (ones + 1).lgamma() - (bits - ones + 1).lgamma()


class PlainVAE(nn.Module):
    """A VAE whose decoder reads, for each bit, the number of bits and of ones before it, and z.

    Args:
        means: Module that acts on the means of q(z|x).
        variances: Module that acts on the variances of q(z|x).
    """

    def __init__(self, means: nn.Module | None = None, variances: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(BITS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(2 + LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.means, self.variances = means or nn.Identity(), variances or nn.Identity()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the means and the log variances of q(z|x), both of shape (batch, LATENT)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)

        return self.means(mean), self.variances(log_variance.exp()).log()

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Computes log p(x|z) in nats, shape (batch,): the sum over the bits."""
        before, ones = torch.arange(float(BITS)).expand_as(x), x.cumsum(1) - x
        rule = ((ones + 1) / (before - ones + 1)).log()
        context = torch.cat([torch.stack([before / BITS, rule], 2), z[:, None].expand(-1, BITS, -1)], 2)
        logits = rule + self.decoder(context).squeeze(2)

        return -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def train(model: PlainVAE, x: Tensor, steps: int = 600, seed: int = 1) -> PlainVAE:
    """Trains a model on the negative ELBO by Adam, with batches of 64 rows."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (64,), generator=generator)]
        mean, log_variance = model.encode(batch)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        loss = (kl - model.log_likelihood(batch, z)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(model.means, MeanBatchNorm):
            model.means.rescale_()  # keeps the mean of the squared scales at gamma^2

    return model


def main() -> dict[str, Measures]:
    """Trains and measures both models, prints the comparison, and returns the measures by name."""
    x, test = rows_of_bits(5000, seed=1), rows_of_bits(500, seed=2)
    torch.manual_seed(1)
    plain = train(PlainVAE(), x)
    torch.manual_seed(1)
    regularized = train(
        PlainVAE(
            MeanBatchNorm(LATENT, gamma=0.7),
            nn.Sequential(VarianceFloor(), VarianceDropout(p=0.8)),
        ),
        x,
    )
    measures = {
        name: measure(model.encode, model.log_likelihood, test, samples=50, model=model)
        for name, model in (("VAE", plain), ("with DU-VAE's regularizers", regularized))
    }
    print(table(measures))
    one, other = (each.nll_by_example for each in measures.values())
    assert one is not None  # the posteriors have densities
    assert other is not None
    difference = other - one
    print(f"exact NLL of the data: {exact_nll(test).mean():.2f} nats")
    print(f"NLL, second minus first: {with_error(difference.mean(), standard_error(difference), 3)} nats")

    return measures


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
