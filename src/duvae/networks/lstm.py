"""The text networks: an LSTM that encodes a sentence, and an LSTM that decodes z into a sentence."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, dropout, linear

from duvae.data.splits import END, PAD, START
from duvae.networks.bodies import Decoder, Encoder


def uniform_(module: nn.Module, generator: Generator | None = None) -> None:
    """Draws the paper's initial weights in place (supplement E): uniform on +-0.01, and on +-0.1 for embeddings.

    Args:
        module: The module whose weights are drawn.
        generator: The random generator; None: PyTorch's global generator.
    """
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.01, 0.01, generator=generator)
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.uniform_(part.weight, -0.1, 0.1, generator=generator)


class LSTMEncoder(Encoder):
    """An encoder whose features are the last hidden state of an LSTM over all words, `<s>` and `</s>` included.

    Args:
        words: The size of the vocabulary.
        embedding: The width of a word embedding.
        hidden: The width of the LSTM.

    Attributes:
        features: The width of a feature vector, which equals the width of the LSTM.
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
    """The map from LSTM outputs to log probabilities of words: a linear map without a bias, then a softmax.

    Args:
        hidden: The width of an LSTM output.
        words: The size of the vocabulary.
    """

    def __init__(self, hidden: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(words, hidden).uniform_(-1, 1) / math.sqrt(hidden))

    def forward(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """log p(word) in nats, for one given word per LSTM output."""
        return self.plain(hidden, words)

    def plain(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Computes log p(word) by PyTorch's cross entropy, even if a subclass has a faster `forward`."""
        logits = linear(hidden.flatten(0, -2), self.weight)

        return -cross_entropy(logits, words.flatten(), reduction="none").view(words.shape)


class LSTMDecoder(Decoder):
    r"""$p(x|z) = \prod_t p(x_t | x_{<t}, z)$, with an LSTM that reads each word together with z.

    The first cell state is a linear map of z, and the first hidden state is the tanh of that cell state. Neither this
    map nor the map to the vocabulary has a bias, as in the code of He et al. (2018).

    Args:
        words: The size of the vocabulary.
        embedding: The width of a word embedding.
        hidden: The width of the LSTM.
        latent: The number of dimensions of z.
        dropout_in: The share of the elements of word embeddings that training sets to 0.
        dropout_out: The share of the elements of LSTM outputs that training sets to 0.

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
        """Drops a share (0 to 1) of the elements of x in training; returns x itself in evaluation."""
        return dropout(x, share, self.training)

    def log_prob(self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """log p(x|z) in nats per sentence, summed over all words after `<s>`, `</s>` included."""
        words = self.drop(self.embedding(x[:, :-1]), self.dropout_in)
        joined = torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1)
        cell = self.initial(z)[None]
        outputs, _ = self.lstm(joined, (cell.tanh(), cell))

        return self.output(self.drop(outputs, self.dropout_out), x[:, 1:]).sum(-1)

    def log_prob_plain(
        self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch"]:
        """Computes `log_prob` in a slower way: word by word, and with PyTorch's cross entropy.

        Tests use this method as the reference. On a GPU its result can be differentiated twice, whereas that of cuDNN's
        LSTM cannot.
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
        """The number of words in a batch whose log probabilities `log_prob` sums."""
        return x[:, 1:].numel()

    @torch.no_grad()
    def sample(
        self,
        z: Float[Tensor, "batch latent"],
        generator: Generator | None = None,
        likely: bool = False,
        longest: int = 100,
    ) -> Int[Tensor, "batch length"]:
        """Generates one sentence for each z, word by word.

        Args:
            z: Latent codes to decode, shape (batch, latent).
            generator: The random generator; None: PyTorch's global generator.
            likely: Whether each word is the most likely one instead of a random draw.
            longest: The largest number of word ids in a sentence, `<s>` and `</s>` included. Longer sentences are cut,
                and then lack `</s>`.

        Returns:
            Word ids from `<s>` to `</s>`, filled up with `<pad>`, shape (batch, length).
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
        """log p(x|z) with several z for each x, in nats per sentence."""
        return torch.stack([self.log_prob(x, each) for each in z])
