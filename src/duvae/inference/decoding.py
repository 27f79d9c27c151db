r"""Decodes latent codes into sentences, with control over the choice of each word.

The decoder computes one logit $l_w$ for each word w of the vocabulary, given z and the words before. Three steps turn
the logits into the next word:

1. `penalized`: the repetition penalty R lowers the logits of words that the sentence already has.
2. `restricted`: some words get the logit $-\infty$. The decoder never writes `<pad>` and `<s>`. On request it does not
   write `<unk>` either, nor a word that would repeat an n-gram.
3. The word is the likeliest one, or a draw from the softmax of $l / T$, cut to its `nucleus`, or `beam_search` chooses
   it together with the words around it.

A sentence has at most as many words as `max_words` says. If the decoder has not written `</s>` after these words, the
sentence is cut there. The row of a cut sentence is the only kind of row without `</s>`.

`LSTMDecoder.sample` is the plain form, which the stage `samples` uses: it has none of these options, and it also writes
`<pad>` and `<s>` if they are drawn.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import linear, log_softmax, pad

from duvae.data.splits import END, PAD, START, UNKNOWN
from duvae.inference import generation
from duvae.inference.options import Decoding, check
from duvae.metrics.encoding import evaluating
from duvae.networks.lstm import LSTMDecoder
from duvae.vae import VAE

MAX_WORDS = generation.LONGEST - 2
"""Largest number of words of a sentence if the data set is not at hand."""

LENGTH_POWER = 0.6
"""The power of the length normalization of beam search; Wu et al. (2016) name values from 0.6 to 0.7."""

VALUES = 2**23
"""Largest number of logits that are computed at once: the product of sentences, beams and words of the vocabulary."""

State = tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]]
"""The hidden state and the cell state of the decoder's LSTM."""


def decode(
    model: VAE,
    z: Float[Tensor, "batch latent"],
    decoding: Decoding,
    generator: Generator | None = None,
    max_words: int = MAX_WORDS,
) -> Tensor:
    """Decodes each z into a sentence or an image.

    Args:
        model: The trained VAE; it does not change.
        z: Latent codes to decode, shape (batch, latent).
        decoding: The way in which each word or pixel is chosen.
        generator: The random generator of the draws; None: PyTorch's global generator.
        max_words: Largest number of words of a sentence, without `<s>` and `</s>`; not used for images.

    Returns:
        Word ids as `sentences` returns them, or images of bits, shape (batch, 1, height, width).

    Raises:
        UserError: If an option is out of range, excludes another one, or has no meaning for images.
    """
    decoder = model.decoder
    check(decoding, images=not isinstance(decoder, LSTMDecoder))
    if not isinstance(decoder, LSTMDecoder):
        return generation.decode(model, z, generator, decoding.likely, decoding.temperature or 1.0)
    with evaluating(model):
        return sentences(decoder, z, decoding, generator, max_words)


def prior(model: VAE, count: int, latent: int, seed: int, decoding: Decoding, max_words: int = MAX_WORDS) -> Tensor:
    """Decodes samples of the prior, z ~ N(0, I).

    Args:
        model: The trained VAE; it does not change.
        count: Number of samples to draw and decode.
        latent: Number of dimensions of z.
        seed: Seed of z and of the draws from p(x|z).
        decoding: The way in which each word or pixel is chosen.
        max_words: Largest number of words of a sentence.

    Returns:
        The examples in the form that `decode` returns, shape (count, ...).
    """
    device = next(model.parameters()).device
    generator = Generator(device).manual_seed(seed)
    z = torch.randn(count, latent, generator=generator, device=device)

    return decode(model, z, decoding, generator, max_words)


def interpolations(
    model: VAE,
    ends: Float[Tensor, "pairs 2 latent"],
    steps: int,
    seed: int,
    decoding: Decoding,
    max_words: int = MAX_WORDS,
) -> Tensor:
    """Decodes points on the lines between pairs of z.

    Args:
        model: The trained VAE; it does not change.
        ends: The first and the last z of each line, shape (pairs, 2, latent).
        steps: Number of points on each line, including both ends.
        seed: Seed of the draws from p(x|z).
        decoding: The way in which each word or pixel is chosen.
        max_words: Largest number of words of a sentence.

    Returns:
        The examples in the form that `decode` returns, shape (pairs * steps, ...), one pair after the other.
    """
    generator = Generator(ends.device).manual_seed(seed)
    z = generation.between(ends[:, 0], ends[:, 1], steps).flatten(0, 1)

    return decode(model, z, decoding, generator, max_words)


@torch.no_grad()
def sentences(
    decoder: LSTMDecoder,
    z: Float[Tensor, "batch latent"],
    decoding: Decoding,
    generator: Generator | None,
    max_words: int,
) -> Int[Tensor, "batch length"]:
    """Writes one sentence for each z, some sentences at a time.

    Args:
        decoder: The decoder, in evaluation mode.
        z: Latent codes to decode, shape (batch, latent).
        decoding: The way in which each word is chosen.
        generator: The random generator of the draws; None: PyTorch's global generator.
        max_words: Largest number of words of a sentence, without `<s>` and `</s>`.

    Returns:
        Word ids from `<s>` to `</s>`, shape (batch, length). The word `<pad>` fills shorter sentences up to the
        length of the longest one. A sentence that was cut lacks `</s>`.
    """
    words = decoder.output.weight.shape[0]
    rows = max(1, VALUES // (words * (decoding.beams or 1)))
    parts = [
        one_by_one(decoder, some, decoding, generator, max_words)
        if decoding.beams is None
        else beam_search(decoder, some, decoding.beams, decoding, max_words)
        for some in z.split(rows)
    ]
    length = max(part.shape[1] for part in parts)

    return torch.cat([pad(part, (0, length - part.shape[1]), value=PAD) for part in parts])


def one_by_one(
    decoder: LSTMDecoder,
    z: Float[Tensor, "batch latent"],
    decoding: Decoding,
    generator: Generator | None,
    max_words: int,
) -> Int[Tensor, "batch length"]:
    """Writes one sentence for each z. Each word is the likeliest one or a draw, given the words before it.

    The arguments and the result are those of `sentences`.
    """
    state = initial_state(decoder, z)
    sentence = torch.full((len(z), 1), START, device=z.device)
    ended = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    for _ in range(max_words + 1):
        if ended.all():
            break
        logits, state = next_logits(decoder, sentence[:, -1], z, state)
        logits = restricted(logits, sentence, decoding)
        if decoding.likely:
            word = logits.argmax(-1)
        else:
            shares = (logits / (decoding.temperature or 1.0)).softmax(-1)
            word = torch.multinomial(nucleus(shares, decoding.top_p or 1.0), 1, generator=generator)[:, 0]
        word = word.masked_fill(ended, PAD)
        ended = ended | (word == END)
        sentence = torch.cat([sentence, word[:, None]], 1)
    # The last place is for `</s>` alone.
    sentence[:, -1].masked_fill_(~ended, PAD)

    return sentence


def initial_state(decoder: LSTMDecoder, z: Float[Tensor, "rows latent"]) -> State:
    """Computes the state of the decoder's LSTM before the first word."""
    cell = decoder.initial(z)

    return cell.tanh(), cell


def next_logits(
    decoder: LSTMDecoder, word: Int[Tensor, "rows"], z: Float[Tensor, "rows latent"], state: State
) -> tuple[Float[Tensor, "rows words"], State]:
    """Reads one word, and computes the logits of the next word.

    Args:
        decoder: The LSTM decoder, whose cell reads one word and z at a time.
        word: The word ids that the LSTM reads, shape (rows,).
        z: The latent codes, shape (rows, latent).
        state: The state of the LSTM before these words.

    Returns:
        The logits, shape (rows, words), and the new state.
    """
    joined = torch.cat([decoder.embedding(word), z], -1)
    hidden, cell = torch.lstm_cell(joined, state, *decoder.lstm.parameters())

    return linear(hidden, decoder.output.weight), (hidden, cell)


def restricted(
    logits: Float[Tensor, "rows words"], sentence: Int[Tensor, "rows length"], decoding: Decoding
) -> Float[Tensor, "rows words"]:
    """Applies the repetition penalty, and forbids the words that the decoder must not write.

    Args:
        logits: The logits of the next word, shape (rows, words).
        sentence: The word ids so far, `<s>` included, shape (rows, length).
        decoding: The options. Here the repetition penalty, the n-grams and `<unk>` matter.

    Returns:
        The new logits, shape (rows, words). The logit of a forbidden word is minus infinity.
    """
    if decoding.repetition_penalty is not None:
        logits = penalized(logits, sentence, decoding.repetition_penalty)
    forbidden = torch.zeros_like(logits, dtype=torch.bool)
    forbidden[:, [PAD, START]] = True
    if decoding.no_unknown:
        forbidden[:, UNKNOWN] = True
    if decoding.no_repeat_ngram is not None:
        forbidden |= repeating(sentence, decoding.no_repeat_ngram, logits.shape[1])

    return logits.masked_fill(forbidden, -torch.inf)


def penalized(
    logits: Float[Tensor, "rows words"], sentence: Int[Tensor, "rows length"], penalty: float
) -> Float[Tensor, "rows words"]:
    r"""Lowers the logits of the words that a sentence already has.

    With the penalty R, a word of the sentence gets the logit $l_w / R$ if $l_w > 0$, and $R\,l_w$ otherwise. Keskar et
    al. (2019, section 4.1) divide the logits by R. A quotient would raise a negative logit, so a product lowers it.

    Args:
        logits: The logits of the next word, shape (rows, words).
        sentence: The word ids so far, shape (rows, length).
        penalty: The penalty R, at least 1. A penalty of 1 changes nothing.
    """
    chosen = logits.gather(1, sentence)

    return logits.scatter(1, sentence, torch.where(chosen > 0, chosen / penalty, chosen * penalty))


def repeating(sentence: Int[Tensor, "rows length"], n: int, words: int) -> Bool[Tensor, "rows words"]:
    """Finds the words that would repeat an n-gram, a sequence of n words (Paulus et al., 2018).

    Args:
        sentence: The word ids so far, `<s>` included, shape (rows, length).
        n: Length of the sequences; 1: no word occurs twice.
        words: Size of the vocabulary.

    Returns:
        Whether a word would end an n-gram that the sentence already has, shape (rows, words).
    """
    mask = torch.zeros(len(sentence), words, dtype=torch.bool, device=sentence.device)
    after_start = sentence[:, 1:]
    if after_start.shape[1] < n:
        return mask
    ngrams = after_start.unfold(1, n, 1)  # (rows, places, n)
    last = after_start[:, after_start.shape[1] - n + 1 :]
    rows, places = (ngrams[..., :-1] == last[:, None]).all(-1).nonzero(as_tuple=True)
    mask[rows, ngrams[rows, places, -1]] = True

    return mask


def nucleus(shares: Float[Tensor, "rows words"], p: float) -> Float[Tensor, "rows words"]:
    """Keeps the nucleus of a distribution: the smallest set of words whose probability is at least P.

    The other words get the probability 0, and the words of the nucleus are divided by their sum (Holtzman et al., 2020,
    section 3.1). If words at the border are equally likely, those with the smaller ids are kept.

    Args:
        shares: Probabilities of the words, shape (rows, words).
        p: The share P, above 0. A share of 1 changes nothing.
    """
    if p >= 1:
        return shares
    ordered, order = shares.sort(stable=True, dim=-1, descending=True)
    # A word belongs to the nucleus if the likelier words together have less than P.
    likelier = pad(ordered.cumsum(-1)[:, :-1], (1, 0))
    kept = ordered.masked_fill(likelier >= p, 0.0)

    return torch.zeros_like(shares).scatter(-1, order, kept / kept.sum(-1, keepdim=True))


def length_penalty(length: Float[Tensor, "*shape"], power: float = LENGTH_POWER) -> Float[Tensor, "*shape"]:
    r"""Computes the divisor of the log probability of a sentence, $lp = (5 + n)^\alpha / 6^\alpha$.

    The formula is equation 14 of Wu et al. (2016), without their penalty of the coverage, which needs attention.

    Args:
        length: Numbers n of words, `</s>` included.
        power: The power $\alpha$; 0: no normalization, so that short sentences win.
    """
    return ((5 + length) / 6) ** power


def beam_search(
    decoder: LSTMDecoder,
    z: Float[Tensor, "batch latent"],
    beams: int,
    decoding: Decoding,
    max_words: int,
    power: float = LENGTH_POWER,
) -> Int[Tensor, "batch length"]:
    r"""Searches for the sentence x with the highest $\log p(x|z) / lp$ for each z, without any draw.

    The search keeps the best `beams` hypotheses of each z. A hypothesis is a beginning of a sentence, or a whole
    sentence, which stays as it is. In each step, all words continue each hypothesis, and the best results are kept. One
    beam takes the likeliest word each time. The result is the best whole sentence; if there is none, it is the best
    hypothesis, cut at `max_words`.

    The log probabilities are those of the logits that `restricted` returns. They are in double precision, so that the
    order of two words is the order of their logits.

    Args:
        decoder: The decoder, in evaluation mode.
        z: Latent codes to decode, shape (batch, latent).
        beams: Number of hypotheses to keep for each z.
        decoding: The options. Here the repetition penalty, the n-grams and `<unk>` matter.
        max_words: Largest number of words of a sentence, without `<s>` and `</s>`.
        power: The power of the length normalization (see `length_penalty`).

    Returns:
        Word ids in the form that `sentences` returns.
    """
    batch, words = len(z), decoder.output.weight.shape[0]
    state = initial_state(decoder, z)
    # The search starts with one hypothesis of each z. In the step after it, there are at most `beams`.
    sentence = torch.full((batch, 1, 1), START, device=z.device)
    total = torch.zeros(batch, 1, dtype=torch.float64, device=z.device)
    length, ended = torch.zeros_like(total), torch.zeros_like(total, dtype=torch.bool)
    unchanged = torch.full((words,), -torch.inf, dtype=torch.float64, device=z.device)
    unchanged[PAD] = 0.0
    limit = length_penalty(torch.tensor(max_words + 1.0, dtype=torch.float64, device=z.device), power)
    for _ in range(max_words + 1):
        count = total.shape[1]
        rows = z.repeat_interleave(count, 0)
        logits, state = next_logits(decoder, sentence[..., -1].flatten(), rows, state)
        logits = restricted(logits, sentence.flatten(0, 1), decoding)
        log_p = torch.where(ended[..., None], unchanged, log_softmax(logits.double(), -1).view(batch, count, words))
        log_p = total[..., None] + log_p
        length = length + ~ended
        scores = log_p / length_penalty(length, power)[..., None]
        best = scores.flatten(1).topk(min(beams, count * words), 1).indices
        parent, word = best // words, best % words
        total = log_p.flatten(1).gather(1, best)
        length, ended = length.gather(1, parent), ended.gather(1, parent) | (word == END)
        earlier = sentence.gather(1, parent[..., None].expand(-1, -1, sentence.shape[2]))
        sentence = torch.cat([earlier, word[..., None]], 2)
        moved = (parent + count * torch.arange(batch, device=z.device)[:, None]).flatten()
        state = (state[0][moved], state[1][moved])
        # The score of a hypothesis cannot exceed its log probability over the divisor of the longest sentence.
        whole = (total / length_penalty(length, power)).masked_fill(~ended, -torch.inf)
        hope = (total / limit).masked_fill(ended, -torch.inf)
        if (whole.amax(1) >= hope.amax(1)).all():
            break
    scores = total / length_penalty(length, power)
    best = torch.where(whole.amax(1).isfinite(), whole.argmax(1), scores.argmax(1))
    chosen, is_whole = sentence[torch.arange(batch), best], ended[torch.arange(batch), best]
    chosen[:, -1].masked_fill_(~is_whole, PAD)

    return chosen
