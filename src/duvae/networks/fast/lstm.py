"""The text decoder's faster forms for a CPU."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from duvae.networks.bodies import Slope
from duvae.networks.fast.elementwise import dropout, tanh_
from duvae.networks.fast.products import Factor, add_products_
from duvae.networks.fast.slope import lstm_slope
from duvae.networks.fast.tokens import IN_BLOCK, FastSoftmaxOutput, block, even, log_normalizer
from duvae.networks.lstm import LSTMDecoder

IN_STATE = 2**20
"""Numbers in the gates of all that is computed at once: 4 MiB."""

LSTM_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class FastLSTMDecoder(LSTMDecoder):
    """The plain decoder with a faster dropout, softmax, gradient with respect to z, and log p(x|z) of many z.

    On a GPU dropout is PyTorch's.
    """

    softmax = FastSoftmaxOutput

    def drop(self, x: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
        return dropout(x, share, self.training)

    def slope(self, x: Int[Tensor, "batch length"]) -> Slope:
        words = self.embedding(x[:, :-1].T)
        weight, recurrent, bias_in, bias_hidden = (self.lstm.get_parameter(f"{name}_l0") for name in LSTM_PARAMETERS)
        bias, outputs = bias_in + bias_hidden, words.new_ones(*words.shape[:2], len(recurrent.T))

        def at(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
            return lstm_slope(
                z,
                dropout(words, self.dropout_in, self.training),
                dropout(outputs, self.dropout_out, True) if self.training and self.dropout_out else None,
                x[:, 1:],
                self.initial.weight,
                weight,
                recurrent,
                bias,
                self.output.weight,
            )

        return at

    @torch.no_grad()
    def log_prob_samples(
        self, x: Int[Tensor, "batch length"], z: Float[Tensor, "samples batch latent"]
    ) -> Float[Tensor, "samples batch"]:
        """log p(x|z) for many z of each x, in evaluation: equal to `log_prob` of each, at a fraction of the cost.

        The words' share of the input product is computed once a sentence, z's once a sample, and no logits are
        kept: of each softmax only its normalizer and the one logit that is asked for. So few samples of so few
        sentences are gone through at a time that their gates stay near the processor.
        """
        rows = max(1, IN_STATE // (4 * self.lstm.hidden_size))
        sentences = max(1, rows // len(z))
        samples = even(len(z), rows)
        vocabulary = block(self.output.weight, samples * min(sentences, len(x)))
        by_hidden = by_gate(self.lstm.get_parameter("weight_hh_l0").T)  # (4, hidden, hidden)
        found = [
            torch.cat([self._log_prob_samples(some, each, by_hidden, vocabulary) for each in of_some.split(samples)])
            for some, of_some in zip(x.split(sentences), z.split(sentences, 1), strict=True)
        ]

        return torch.cat(found, 1)

    def _log_prob_samples(
        self,
        x: Int[Tensor, "batch length"],
        z: Float[Tensor, "samples batch latent"],
        by_hidden: Float[Tensor, "4 hidden hidden"],
        vocabulary: Factor,
    ) -> Float[Tensor, "samples batch"]:
        """The same all at once, and of the words' shares of the input product, where there are many, some at a time.

        The four gates lie one behind the other, since a function of every row of a block runs several
        times as fast as one of a part of every row.
        """
        samples, batch, _ = z.shape
        weight, _, bias_in, bias_hidden = (self.lstm.get_parameter(f"{name}_l0") for name in LSTM_PARAMETERS)
        width = self.embedding.embedding_dim
        by_sample = by_gate(z @ weight[:, width:].T)
        gates = torch.empty_like(by_sample)  # (4, samples, batch, hidden)
        cell = self.initial(z).flatten(0, 1)
        hidden = tanh_(cell.clone())
        total = z.new_zeros(samples, batch)
        steps = max(1, IN_BLOCK // (batch * len(weight)))
        for t in range(x.shape[1] - 1):
            if t % steps == 0:
                words = self.embedding(x[:, t : min(t + steps, x.shape[1] - 1)])
                by_word = by_gate(linear(words, weight[:, :width], bias_in + bias_hidden))
            torch.add(by_sample, by_word[:, None, :, t % steps], out=gates)
            i, f, g, o = add_products_(gates.flatten(1, 2), hidden, by_hidden)
            cell.mul_(f.sigmoid_()).addcmul_(i.sigmoid_(), tanh_(g))
            tanh_(hidden.copy_(cell)).mul_(o.sigmoid_())
            logit = (hidden.view(samples, batch, -1) * self.output.weight[x[:, t + 1]]).sum(-1)
            total += logit - log_normalizer(hidden, vocabulary).view_as(total)

        return total


def by_gate(x: Float[Tensor, "*batch gates"]) -> Float[Tensor, "4 *batch hidden"]:
    """The four gates of an LSTM one behind the other."""
    return torch.stack(x.chunk(4, -1))
