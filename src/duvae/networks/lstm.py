"""The text networks: an LSTM that encodes a sentence, and an LSTM that decodes z into a sentence."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, dropout, linear

from duvae.data.splits import END, PAD, START
from duvae.networks.bodies import Decoder, Encoder
from duvae.networks.precision import single, single_precision


def uniform_(module: nn.Module, generator: Generator | None = None) -> None:
    """Draws the initial weights of a module in place, as supplement E of the paper describes.

    The weights of embeddings are uniform between -0.1 and 0.1, all other weights between -0.01 and 0.01.

    Args:
        module: The module whose weights are drawn.
        generator: The random generator; None: PyTorch's global generator.
    """
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.01, 0.01, generator=generator)
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.uniform_(part.weight, -0.1, 0.1, generator=generator)


def run(
    lstm: nn.LSTM, x: Float[Tensor, "batch length inputs"], state: tuple[Tensor, Tensor] | None = None
) -> tuple[Float[Tensor, "batch length hidden"], tuple[Tensor, Tensor]]:
    """Runs an LSTM over its inputs.

    Inside of autocast on a CPU, PyTorch's own operations compute the LSTM. oneDNN's LSTM fails there on a processor
    that cannot compute in bfloat16.

    Args:
        lstm: The LSTM.
        x: The inputs, shape (batch, length, inputs).
        state: The first hidden state and the first cell state, each of shape (1, batch, hidden); None: zeros.

    Returns:
        The outputs, and the last hidden state and the last cell state.
    """
    onednn = torch._C._get_mkldnn_enabled()
    switched = onednn and not x.is_cuda and torch.is_autocast_enabled("cpu")
    try:
        if switched:
            torch._C._set_mkldnn_enabled(False)
        found: tuple[Tensor, tuple[Tensor, Tensor]] = lstm(x, state)
    finally:
        if switched:
            torch._C._set_mkldnn_enabled(True)

    return found


class LSTMEncoder(Encoder):
    """An encoder whose feature vector is the last hidden state of an LSTM.

    The LSTM reads all words of the sentence, from `<s>` (start of the sentence) to `</s>` (end of the sentence).

    Args:
        words: The size of the vocabulary.
        embedding: The width of a word embedding.
        hidden: The width of the hidden state of the LSTM.

    Attributes:
        features: The width of a feature vector, which equals `hidden`.
    """

    def __init__(self, words: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.features = hidden

    def forward(self, x: Int[Tensor, "batch length"]) -> Float[Tensor, "batch features"]:
        _, (hidden, _) = run(self.lstm, self.embedding(x))

        return hidden[0]


class SoftmaxOutput(nn.Module):
    """The map from LSTM outputs to log probabilities of words: a linear map without a bias, then a softmax.

    The map always computes in single precision at least, also inside of autocast.

    Args:
        hidden: The width of an LSTM output.
        words: The size of the vocabulary.
    """

    def __init__(self, hidden: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(words, hidden).uniform_(-1, 1) / math.sqrt(hidden))

    def forward(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Computes log p(word) in nats, for one given word per LSTM output."""
        with single_precision(hidden):
            return self.plain(single(hidden), words)

    def plain(self, hidden: Float[Tensor, "*batch hidden"], words: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Computes log p(word) by PyTorch's cross entropy. Subclasses with a faster `forward` keep this method."""
        logits = linear(hidden.flatten(0, -2), self.weight)

        return -cross_entropy(logits, words.flatten(), reduction="none").view(words.shape)


class LSTMDecoder(Decoder):
    r"""A decoder $p(x|z) = \prod_t p(x_t | x_{<t}, z)$, with an LSTM that reads each word together with z.

    A linear map of z gives the first cell state of the LSTM. The first hidden state is the tanh of that cell state. A
    second linear map turns the outputs of the LSTM into one logit per word of the vocabulary. Neither map has a bias,
    as in the code of He et al. (2018).

    Args:
        words: The size of the vocabulary.
        embedding: The width of a word embedding.
        hidden: The width of the hidden state of the LSTM.
        latent: The number of dimensions of z.
        dropout_in: The share of the elements of word embeddings that training sets to 0.
        dropout_out: The share of the elements of LSTM outputs that training sets to 0.

    Attributes:
        softmax: The class of the map from LSTM outputs to log probabilities of words.
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
        """Applies dropout to x in training: each element becomes 0 with probability `share`; evaluation returns x."""
        return dropout(x, share, self.training)

    def log_prob(self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """Computes log p(x|z) in nats per sentence: the sum over all words after `<s>`, including `</s>`."""
        words = self.drop(self.embedding(x[:, :-1]), self.dropout_in)
        joined = torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1)
        cell = self.initial(z)[None]
        outputs, _ = run(self.lstm, joined, (cell.tanh(), cell))

        return self.output(self.drop(outputs, self.dropout_out), x[:, 1:]).sum(-1)

    def log_prob_plain(
        self, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch"]:
        """Computes log p(x|z) in a slower way than `log_prob`: word by word, and with PyTorch's cross entropy.

        Tests use this method as the reference. On a GPU its result can be differentiated twice. The result of
        `log_prob` cannot, because `log_prob` uses cuDNN's LSTM.
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
        """Counts the words whose log probabilities `log_prob` sums: all words but the first of each sentence."""
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
            likely: True: each word is the most likely one, given the words before it. False: each word is a random
                draw.
            longest: The largest number of word ids in a sentence, including `<s>` and `</s>`. Longer sentences are cut,
                and then lack `</s>`.

        Returns:
            Word ids from `<s>` to `</s>`, shape (batch, length). The word `<pad>` fills shorter sentences up to the
            length of the longest one.
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
        """Computes log p(x|z) with several z for each x, in nats per sentence."""
        return torch.stack([self.log_prob(x, each) for each in z])
