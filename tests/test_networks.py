import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from duvae.config import TextNetworks
from duvae.data.splits import END, SPECIALS, START
from duvae.networks import build
from duvae.networks.fast import lstm, tokens
from duvae.networks.fast.products import Factor
from duvae.networks.fast.tokens import log_normalizer
from duvae.networks.lstm import LSTMDecoder, LSTMEncoder

WORDS, HIDDEN, LATENT = 7, 8, 3
SIZES = {"embedding": 5, "hidden": HIDDEN, "latent": LATENT, "dropout_in": 0.5, "dropout_out": 0.5}


def lively(module: nn.Module, reach: float = 0.8) -> nn.Module:
    for parameter in module.parameters():
        nn.init.uniform_(parameter.requires_grad_(False), -reach, reach)

    return module.eval()


def networks(seed: int = 1) -> tuple[LSTMEncoder, LSTMDecoder]:
    torch.manual_seed(seed)
    encoder, decoder = build(TextNetworks.model_validate(SIZES), WORDS, "paper")
    lively(encoder)
    lively(decoder)

    return encoder, decoder


def sentences(count: int, length: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(len(SPECIALS), WORDS, (count, length), generator=generator)

    return torch.cat([torch.full((count, 1), START), words, torch.full((count, 1), END)], 1)


# ------------------------------------------------------------------------- against a plain LSTM


def cell(module: nn.LSTM, x: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One step of Hochreiter and Schmidhuber's equations with a forget gate, for one vector x."""
    w, u = module.weight_ih_l0.double(), module.weight_hh_l0.double()
    b = (module.bias_ih_l0 + module.bias_hh_l0).double()
    i, f, g, o = (w @ x + u @ hidden + b).split(len(hidden))
    memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()

    return o.sigmoid() * memory.tanh(), memory


def test_the_encoder_is_the_last_state_of_an_lstm() -> None:
    encoder, _ = networks()
    x = sentences(4, 5)
    for sentence, features in zip(x, encoder(x), strict=True):
        hidden = memory = torch.zeros(HIDDEN, dtype=torch.float64)
        for word in sentence:
            hidden, memory = cell(encoder.lstm, encoder.embedding.weight[word].double(), hidden, memory)

        assert torch.allclose(features.double(), hidden, atol=1e-6)


def plain_log_prob(decoder: LSTMDecoder, sentence: Tensor, z: Tensor) -> float:
    """log p(x|z) of one sentence, word by word, in double precision."""
    z = z.double()
    memory = decoder.initial.weight.double() @ z
    hidden = memory.tanh()
    total = 0.0
    for before, word in itertools.pairwise(sentence.tolist()):
        joined = torch.cat([decoder.embedding.weight[before].double(), z])
        hidden, memory = cell(decoder.lstm, joined, hidden, memory)
        logits = decoder.output.weight.double() @ hidden
        total += float(logits[word]) - math.log(sum(math.exp(float(logit)) for logit in logits))

    return total


def test_the_decoder_is_that_lstm_started_and_joined_by_z() -> None:
    _, decoder = networks()
    x, z = sentences(4, 5), torch.randn(4, LATENT)
    expected = [plain_log_prob(decoder, *pair) for pair in zip(x, z, strict=True)]

    assert decoder.log_prob(x, z).tolist() == pytest.approx(expected, abs=1e-5)
    assert decoder.units(x) == 4 * 6


# ------------------------------------------------------------------------------- p(x|z) is a density


@pytest.mark.parametrize("begun", [[], [4], [5, 4]])
def test_all_continuations_of_a_sentence_together_have_its_probability(begun: list[int]) -> None:
    """The probability of the first words of a sentence is the sum over all continuations of these words.

    Without first words, the sum over all sentences of three words is 1. No word's probability depends on a later word.
    """
    _, decoder = networks()
    z = torch.randn(1, LATENT)
    rest = list(itertools.product(range(WORDS), repeat=3 - len(begun)))
    x = torch.tensor([[START, *begun, *words] for words in rest])
    together = decoder.log_prob(x, z.expand(len(x), -1)).double().logsumexp(0)
    so_far = decoder.log_prob(torch.tensor([[START, *begun]]), z) if begun else torch.zeros(1)

    assert float(together) == pytest.approx(float(so_far), abs=1e-5)


def test_the_end_of_a_sentence_is_counted_and_its_start_is_not() -> None:
    _, decoder = networks()
    x, z = torch.tensor([[START, 4, END]]), torch.randn(1, LATENT)
    without = decoder.log_prob(x[:, :-1], z)
    ends = torch.tensor([[START, 4, word] for word in range(WORDS)])
    shares = (decoder.log_prob(ends, z.expand(WORDS, -1)) - without).exp()

    assert decoder.log_prob(x, z) < without
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert float(shares[END]) == pytest.approx(float((decoder.log_prob(x, z) - without).exp()), abs=1e-6)


def test_each_word_depends_on_z_and_on_all_words_before() -> None:
    _, decoder = networks()
    decoder.requires_grad_(True)
    z = torch.randn(1, LATENT, requires_grad=True)
    x = sentences(1, 4)
    seen: list[Tensor] = []
    decoder.embedding.register_forward_hook(lambda _, __, output: seen.append(output) or output.retain_grad())
    last = decoder.log_prob(x, z) - decoder.log_prob(x[:, :-1], z)
    last.sum().backward()

    assert (seen[0].grad[0].abs().sum(1) > 1e-6).all()
    assert (z.grad.abs() > 1e-6).all()


# --------------------------------------------------------------------------------------- many z


@pytest.mark.parametrize("at_once", [1, 50, 2**19])
@pytest.mark.parametrize("reach", [0.8, 20.0])
@pytest.mark.parametrize("rows", [1, 2, 7, 13, 1000])
def test_many_z_are_decoded_like_one_at_a_time(
    at_once: int, reach: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results agree for small and for large logits, and for any number of logits and z at a time."""
    monkeypatch.setattr(tokens, "AT_ONCE", at_once)
    monkeypatch.setattr(lstm, "IN_STATE", rows * 4 * HIDDEN)
    monkeypatch.setattr(lstm, "IN_BLOCK", at_once)
    _, decoder = networks()
    nn.init.uniform_(decoder.output.weight, -reach, reach)
    x, z = sentences(4, 5), torch.randn(9, 4, LATENT)
    one_by_one = torch.stack([decoder.log_prob(x, each) for each in z])
    found = decoder.log_prob_samples(x, z)

    assert torch.allclose(found, one_by_one, atol=1e-4)
    assert not decoder.requires_grad_(True).log_prob_samples(x, z).requires_grad


def rows(seed: int, count: int, words: int, scale: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    return torch.rand(count, 6, generator=generator) * 2 - 1, scale * torch.randn(words, 6, generator=generator)


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 30), st.integers(1, 200), st.floats(0.01, 60))
@settings(max_examples=150)
def test_the_normalizer_of_a_softmax(seed: int, count: int, words: int, at_once: int, scale: float) -> None:
    hidden, weight = rows(seed, count, words, scale)
    plain = (hidden.double() @ weight.double().T).logsumexp(-1)

    assert torch.allclose(
        log_normalizer(hidden, Factor(weight, max(1, at_once // words))).double(), plain, atol=2e-4, rtol=1e-5
    )


@pytest.mark.parametrize("logit", [-1e4, -90.0, 90.0, 1e4])
def test_the_normalizer_neither_overflows_nor_vanishes(logit: float) -> None:
    hidden, weight = torch.tensor([[logit]]), torch.ones(1000, 1)

    assert float(log_normalizer(hidden, Factor(weight, 1))) == pytest.approx(logit + math.log(1000), rel=1e-5)


# -------------------------------------------------------------------------- weights and dropout


def uniform(values: Tensor, reach: float) -> bool:
    """Whether the values fill the interval from -reach to reach evenly."""
    return bool(values.abs().max() <= reach) and float(values.std()) == pytest.approx(reach / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("init", ["paper", "paper_zero_bias", "uniform_01", "torch"])
def test_initial_weights(init: str) -> None:
    """The decoder always has the weights of `paper`, except with `uniform_01`."""
    torch.manual_seed(1)
    encoder, decoder = build(TextNetworks.model_validate({**SIZES, "hidden": 40, "embedding": 30}), 200, init)
    for module in (encoder, decoder):
        paper = module is decoder or init in ("paper", "paper_zero_bias")
        for name, parameter in module.requires_grad_(False).named_parameters():
            if init == "uniform_01":
                expected = uniform(parameter, 0.1)
            elif init == "paper_zero_bias" and module is encoder and "bias" in name:
                expected = not parameter.any()
            elif "embedding" in name:
                expected = uniform(parameter, 0.1) if paper else float(parameter.std()) == pytest.approx(1, rel=0.1)
            else:
                expected = uniform(parameter, 0.01 if paper else 1 / math.sqrt(40))
            assert expected, (init, name)


def test_dropout_is_on_the_decoder_in_training_alone() -> None:
    encoder, decoder = networks()
    x, z = sentences(4, 5), torch.randn(4, LATENT)
    for module, call in ((encoder, lambda: encoder(x)), (decoder, lambda: decoder.log_prob(x, z))):
        assert torch.equal(call(), call())
        module.train()
    assert torch.equal(encoder(x), encoder(x))
    assert not torch.equal(decoder.log_prob(x, z), decoder.log_prob(x, z))


@pytest.mark.parametrize(("inside", "outside"), [(0.5, 0.0), (0.0, 0.5)])
def test_dropout_is_on_word_embeddings_and_on_outputs(inside: float, outside: float) -> None:
    """Dropout zeroes half of the elements and doubles the rest; it never changes z."""
    torch.manual_seed(1)
    decoder = lively(LSTMDecoder(WORDS, 40, 60, LATENT, inside, outside)).train()
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    decoder.lstm.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    decoder.output.register_forward_pre_hook(lambda _, arguments: outputs.append(arguments[0]))
    x, z = sentences(20, 8), torch.randn(20, LATENT)
    decoder.log_prob(x, z)
    words = decoder.embedding(x[:, :-1])
    share_in, share_out = ((found == 0).double().mean() for found in (inputs[0][..., :40], outputs[0]))

    assert float(share_in) == pytest.approx(inside, abs=0.03)
    assert float(share_out) == pytest.approx(outside, abs=0.03)
    assert torch.equal(inputs[0][..., 40:], z[:, None].expand(-1, 9, -1))
    kept = inputs[0][..., :40] != 0
    assert torch.allclose(inputs[0][..., :40][kept], words[kept] / (1 - inside))


def test_a_batch_is_its_sentences() -> None:
    encoder, decoder = networks()
    x, z = sentences(5, 4), torch.randn(5, LATENT)
    features = torch.cat([encoder(x[n : n + 1]) for n in range(5)])
    probabilities = torch.cat([decoder.log_prob(x[n : n + 1], z[n : n + 1]) for n in range(5)])

    assert np.allclose(encoder(x), features, atol=1e-6)
    assert np.allclose(decoder.log_prob(x, z), probabilities, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_an_image_encoder_of_few_channels_writes_nowhere_else(channels: int) -> None:
    """The encoder runs in a process of its own, since a write past a buffer ends the process sooner or later."""
    code = f"""
import torch
from duvae.networks.resnet import ResNetEncoder
torch.manual_seed(1)
torch.set_num_threads(1)
encoder = ResNetEncoder(28, [{channels}] * 3, 8)
for _ in range(40):
    encoder(torch.rand(12, 1, 28, 28)).sum().backward()
print(all(bool(p.grad.isfinite().all()) for p in encoder.parameters()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
