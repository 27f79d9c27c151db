"""The fast forms of the text networks, the LSTM encoder and the LSTM decoder of `duvae.networks.lstm`."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from duvae.networks.bodies import Slope
from duvae.networks.fast.blocks import ROWS, block_size
from duvae.networks.fast.elementwise import dropout, tanh_
from duvae.networks.fast.products import Factor, add_products_
from duvae.networks.fast.slope import lstm_slope
from duvae.networks.fast.tokens import IN_BLOCK, FastSoftmaxOutput, block, even, log_normalizer
from duvae.networks.fast.unrolled import log_softmax_columns, tanh, unrolled_lstm
from duvae.networks.lstm import LSTMDecoder, LSTMEncoder

IN_STATE = 2**20
"""The largest number of values of LSTM gates that `FastLSTMDecoder.log_prob_samples` computes at once.

In single precision, these values take 4 MiB.
"""

LSTM_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""PyTorch's names for the parameters of an LSTM, without the suffix `_l0`, which stands for the first layer."""


def lstm_weights(
    lstm: nn.LSTM,
) -> tuple[Float[Tensor, "gates width"], Float[Tensor, "gates hidden"], Float[Tensor, "gates"]]:
    """Returns the input weights and the recurrent weights of an LSTM, and the sum of its two biases.

    The four gates i, f, g and o lie one after the other along the dimension `gates`. So this dimension has four times
    the size of the dimension `hidden`.
    """
    weight, recurrent, bias_in, bias_hidden = (lstm.get_parameter(f"{name}_l0") for name in LSTM_PARAMETERS)

    return weight, recurrent, bias_in + bias_hidden


class FastLSTMEncoder(LSTMEncoder):
    """The encoder `LSTMEncoder`, with an LSTM that can be compiled.

    In compiled training on a CPU, `unrolled_lstm` computes the LSTM, because `torch.compile` cannot compile PyTorch's
    own LSTM. Everywhere else this class computes what `LSTMEncoder` computes, by the same operations.
    """

    def forward(self, x: Int[Tensor, "batch length"]) -> Float[Tensor, "batch features"]:
        if x.is_cuda or not torch.compiler.is_compiling():
            return super().forward(x)
        # The batch is the last dimension of `inputs`, `hidden` and `cell`, as `unrolled_lstm` expects.
        weight, recurrent, bias = lstm_weights(self.lstm)
        words = self.embedding(x.T).flatten(0, 1)
        inputs = (weight @ words.T + bias[:, None]).unflatten(1, x.T.shape)
        hidden, cell = (inputs.new_zeros(self.features, len(x)) for _ in range(2))

        return unrolled_lstm(inputs, recurrent, hidden, cell)[:, -1].T


class FastLSTMDecoder(LSTMDecoder):
    """The decoder `LSTMDecoder`, with faster forms of five computations.

    These computations are:

    - dropout (`drop`) and the softmax,
    - log p(x|z) in compiled training (`log_prob`), and with several z for each x (`log_prob_samples`),
    - the gradient of log p(x|z) with respect to z (`slope`).

    On a GPU, dropout and `log_prob` have their plain forms.
    """

    softmax = FastSoftmaxOutput

    def drop(self, x: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
        return dropout(x, share, self.training)

    def log_prob(self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        if x.is_cuda or not torch.compiler.is_compiling():
            return super().log_prob(x, z)
        # The batch is the last dimension of `inputs` and `cell`, as `unrolled_lstm` expects. An element of `inputs` is
        # the sum of a term of the word, a term of z and a bias. The term of z is computed once for all words.
        weight, recurrent, bias = lstm_weights(self.lstm)
        by_word, by_z = weight.split([self.embedding.embedding_dim, z.shape[1]], 1)
        before, after = x[:, :-1].T, x[:, 1:].T
        words = self.drop(self.embedding(before), self.dropout_in).flatten(0, 1)
        inputs = (by_word @ words.T).unflatten(1, before.shape) + (by_z @ z.T + bias[:, None])[:, None]
        cell = self.initial.weight @ z.T
        outputs = self.drop(unrolled_lstm(inputs, recurrent, tanh(cell), cell), self.dropout_out)

        return log_softmax_columns(outputs.flatten(1), self.output.weight, after.flatten()).view(after.shape).sum(0)

    def slope(self, x: Int[Tensor, "batch length"]) -> Slope:
        words = self.embedding(x[:, :-1].T)
        weight, recurrent, bias = lstm_weights(self.lstm)
        outputs = words.new_ones(*words.shape[:2], len(recurrent.T))

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
        """Computes log p(x|z) with several z for each x, in nats per sentence, without dropout.

        The input of an LSTM gate is the sum of a term of the word, a term of z and a term of the hidden state. The
        terms of the words are computed once per sentence, and the term of z once per sample of z. For each word, the
        method computes only two parts of the softmax: the normalizer, and the logit of the target word. The method
        processes a few samples of a few sentences at a time, so that the values of the gates stay in the processor's
        cache. A GPU processes thousands at a time.
        """
        gates = 4 * self.lstm.hidden_size
        rows = block_size(z, max(1, IN_STATE // gates), ROWS, 4 * gates)
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
        """Computes `log_prob_samples` for one group of sentences and samples.

        The terms of the words are computed for a limited number of time steps at once, which limits the memory. The
        values of each gate form one block of memory. A function of such a block, such as the sigmoid, is several times
        as fast as the same function of a part of every row.

        Args:
            x: Word ids of the sentences, shape (batch, length).
            z: Latent codes, shape (samples, batch, latent).
            by_hidden: Recurrent weights of the LSTM, one transposed matrix per gate, shape (4, hidden, hidden).
            vocabulary: Weights of the linear map from LSTM outputs to logits, prepared for many products (see the
                function `block`).
        """
        samples, batch, _ = z.shape
        weight, _, bias = lstm_weights(self.lstm)
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
                by_word = by_gate(linear(words, weight[:, :width], bias))
            torch.add(by_sample, by_word[:, None, :, t % steps], out=gates)
            i, f, g, o = add_products_(gates.flatten(1, 2), hidden, by_hidden)
            cell.mul_(f.sigmoid_()).addcmul_(i.sigmoid_(), tanh_(g))
            tanh_(hidden.copy_(cell)).mul_(o.sigmoid_())
            logit = (hidden.view(samples, batch, -1) * self.output.weight[x[:, t + 1]]).sum(-1)
            total += logit - log_normalizer(hidden, vocabulary).view_as(total)

        return total


def by_gate(x: Float[Tensor, "*batch gates"]) -> Float[Tensor, "4 *batch hidden"]:
    """Splits the last dimension into the four gates of an LSTM, and stacks them along a new first dimension."""
    return torch.stack(x.chunk(4, -1))
