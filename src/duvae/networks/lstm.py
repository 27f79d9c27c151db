"""The text networks: one LSTM that reads a sentence, one that writes it from z."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, dropout, linear

from duvae.data.store import END, PAD, START
from duvae.networks.bodies import Decoder, Encoder


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


class SoftmaxOutput(nn.Module):
    """From the outputs of an LSTM to log probabilities of words, by one linear map without bias.

    Args:
        hidden: Width of the outputs.
        words: Size of the vocabulary.
    """

    def __init__(self, hidden: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(words, hidden).uniform_(-1, 1) / math.sqrt(hidden))

    def forward(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """log p(word) in nats of one word for each output."""
        return self.plain(hidden, words)

    def plain(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The same by PyTorch's cross entropy, also where a subclass has a faster form."""
        logits = linear(hidden.flatten(0, -2), self.weight)

        return -cross_entropy(logits, words.flatten(), reduction="none").view(words.shape)


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

    Attributes:
        softmax: The class of the map to the vocabulary.
    """

    softmax: ClassVar[type[SoftmaxOutput]] = SoftmaxOutput

    def __init__(
        self, words: int, embedding: int, hidden: int, latent: int, dropout_in: float, dropout_out: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.initial = nn.Linear(latent, hidden, bias=False)
        self.lstm = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.output = self.softmax(hidden, words)
        self.dropout_in, self.dropout_out = dropout_in, dropout_out

    def drop(self, x: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
        """x with a share of its elements dropped in training."""
        return dropout(x, share, self.training)

    def log_prob(self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """log p(x|z) in nats: every word after `<s>` is counted, `</s>` included."""
        words = self.drop(self.embedding(x[:, :-1]), self.dropout_in)
        joined = torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1)
        cell = self.initial(z)[None]
        outputs, _ = self.lstm(joined, (cell.tanh(), cell))

        return self.output(self.drop(outputs, self.dropout_out), x[:, 1:]).sum(-1)

    def log_prob_plain(
        self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch"]:
        """`log_prob` word by word, and by PyTorch's own cross entropy: slower, and the reference for it.

        On a GPU this is also the one that can be differentiated twice, since cuDNN's LSTM cannot.
        """
        words = self.drop(self.embedding(x[:, :-1]), self.dropout_in)
        cell = self.initial(z)
        hidden = cell.tanh()
        outputs = []
        for word in words.unbind(1):
            hidden, cell = torch.lstm_cell(torch.cat([word, z], -1), (hidden, cell), *self.lstm.parameters())
            outputs.append(hidden)
        kept = self.drop(torch.stack(outputs, 1), self.dropout_out)

        return self.output.plain(kept, x[:, 1:]).sum(-1)

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
        """log p(x|z) of many z for each x, in nats."""
        return torch.stack([self.log_prob(x, each) for each in z])
