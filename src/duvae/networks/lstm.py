"""The text networks: one LSTM that reads a sentence, one that writes it from z."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from duvae.data.store import END, PAD, START
from duvae.networks.bodies import Decoder, Encoder, Slope
from duvae.networks.elementwise import dropout, tanh_
from duvae.networks.products import Factor, add_products_
from duvae.networks.slope import lstm_slope
from duvae.networks.tokens import IN_BLOCK, SoftmaxOutput, block, even, log_normalizer

IN_STATE = 2**20
"""Numbers in the gates of all that is computed at once: 4 MiB."""

LSTM_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def uniform_(module: nn.Module, generator: Generator | None = None) -> None:
    """The paper's initial weights (supplement E): uniform on +-0.01, embeddings on +-0.1."""
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.01, 0.01, generator=generator)
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.uniform_(part.weight, -0.1, 0.1, generator=generator)


class LSTMEncoder(Encoder):
    """The last hidden state of an LSTM over the word embeddings, `<s>` and `</s>` included.

    Args:
        words: Size of the vocabulary.
        embedding: Width of a word's embedding.
        hidden: Width of the LSTM.

    Attributes:
        features: Width of what it returns.
    """

    def __init__(self, words: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.features = hidden

    def forward(self, x: Int[Tensor, "batch length"]) -> Float[Tensor, "batch features"]:
        _, (hidden, _) = self.lstm(self.embedding(x))

        return hidden[0]


class LSTMDecoder(Decoder):
    r"""$p(x|z) = \prod_t p(x_t | x_{<t}, z)$: z starts the LSTM and joins every word's embedding.

    The first cell state is a linear map of z, the first hidden state its tanh. The maps of z and to the
    vocabulary have no bias, as in the code of He et al. (2018).

    Args:
        words: Size of the vocabulary.
        embedding: Width of a word's embedding.
        hidden: Width of the LSTM.
        latent: Dimensions of z.
        dropout_in: Share of the word embeddings' elements dropped in training.
        dropout_out: Share of the LSTM's outputs dropped in training, before the softmax.
    """

    def __init__(
        self, words: int, embedding: int, hidden: int, latent: int, dropout_in: float, dropout_out: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.initial = nn.Linear(latent, hidden, bias=False)
        self.lstm = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.output = SoftmaxOutput(hidden, words)
        self.dropout_in, self.dropout_out = dropout_in, dropout_out

    def log_prob(self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """log p(x|z) in nats: every word after `<s>` is counted, `</s>` included."""
        words = dropout(self.embedding(x[:, :-1]), self.dropout_in, self.training)
        joined = torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1)
        cell = self.initial(z)[None]
        outputs, _ = self.lstm(joined, (cell.tanh(), cell))

        return self.output(dropout(outputs, self.dropout_out, self.training), x[:, 1:]).sum(-1)

    def log_prob_plain(
        self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch"]:
        """`log_prob` word by word, and by PyTorch's own cross entropy: slower, and the reference for it.

        On a GPU this is also the one that can be differentiated twice, since cuDNN's LSTM cannot.
        """
        words = dropout(self.embedding(x[:, :-1]), self.dropout_in, self.training)
        cell = self.initial(z)
        hidden = cell.tanh()
        outputs = []
        for word in words.unbind(1):
            hidden, cell = torch.lstm_cell(torch.cat([word, z], -1), (hidden, cell), *self.lstm.parameters())
            outputs.append(hidden)
        kept = dropout(torch.stack(outputs, 1), self.dropout_out, self.training)

        return self.output.plain(kept, x[:, 1:]).sum(-1)

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

    def units(self, x: Int[Tensor, "batch length"]) -> int:
        """The words that `log_prob` counts in a batch."""
        return x[:, 1:].numel()

    @torch.no_grad()
    def sample(
        self,
        z: Float[Tensor, "batch latent"],
        generator: Generator | None = None,
        likely: bool = False,
        longest: int = 100,
    ) -> Int[Tensor, "batch length"]:
        """A sentence of each z in evaluation, word by word: drawn, or each word the likeliest.

        Args:
            z: What of.
            generator: Of the draws.
            likely: Draw nothing.
            longest: Ids a sentence at most, `<s>` and `</s>` counted; what is not over by then is cut.

        Returns:
            Word ids from `<s>` to `</s>`, and `<pad>` behind it.
        """
        cell = self.initial(z)
        hidden = cell.tanh()
        word = torch.full((len(z),), START, device=z.device)
        ended = torch.zeros_like(word, dtype=torch.bool)
        sentence = [word]
        while len(sentence) < longest and not ended.all():
            joined = torch.cat([self.embedding(word), z], -1)
            hidden, cell = torch.lstm_cell(joined, (hidden, cell), *self.lstm.parameters())
            logits = linear(hidden, self.output.weight)
            shares = logits.softmax(-1)
            word = logits.argmax(-1) if likely else torch.multinomial(shares, 1, generator=generator)[:, 0]
            word = word.masked_fill(ended, PAD)
            ended = ended | (word == END)
            sentence.append(word)

        return torch.stack(sentence, 1)

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
