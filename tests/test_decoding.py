"""The choice of each word when a decoder writes a sentence: nucleus sampling, beam search and repetition control."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import family
from duvae.data.splits import END, PAD, START, UNKNOWN
from duvae.errors import UserError
from duvae.inference import decoding, vocabulary_files
from duvae.inference.decoding import LENGTH_POWER, MAX_WORDS
from duvae.inference.options import Decoding, check, command_line_name
from duvae.networks.lstm import LSTMDecoder


def decoder(words: int = family.WORDS, seed: int = 1) -> LSTMDecoder:
    """A decoder with large random weights, so that its distributions are far from uniform."""
    plain = family.lively(family.build("vae", words=words)[0], seed).decoder.eval()
    assert isinstance(plain, LSTMDecoder)
    with torch.no_grad():
        plain.output.weight.mul_(4)

    return plain


def codes(count: int, seed: int = 1) -> Tensor:
    return 2 * torch.randn(count, family.LATENT, generator=torch.Generator().manual_seed(seed))


def write(z: Tensor, max_words: int = 8, seed: int = 1, words: int = family.WORDS, **options: object) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    return decoding.sentences(decoder(words), z, Decoding(**options), generator, max_words)  # type: ignore[arg-type]


def lists(x: Tensor) -> list[list[int]]:
    """The word ids of each sentence, without `<pad>`."""
    return [[word for word in row if word != PAD] for row in x.tolist()]


# --------------------------------------------------------------------------- the distribution of a word


def test_the_nucleus_is_the_smallest_set_with_the_share() -> None:
    shares = torch.tensor([[0.125, 0.5, 0.0625, 0.25, 0.0625]])

    for p, kept in ((0.5, [1]), (0.500001, [1, 3]), (0.75, [1, 3]), (0.76, [0, 1, 3]), (0.9, [0, 1, 2, 3])):
        expected = torch.zeros_like(shares)
        expected[0, kept] = shares[0, kept] / shares[0, kept].sum()
        torch.testing.assert_close(decoding.nucleus(shares, p), expected)
    assert torch.equal(decoding.nucleus(shares, 1.0), shares)
    assert decoding.nucleus(shares, 1e-9).tolist() == [[0, 1, 0, 0, 0]]


@pytest.mark.parametrize("p", [0.2, 0.6, 0.95])
def test_no_smaller_set_of_words_has_the_share(p: float) -> None:
    """Tests the definition of Holtzman et al. on random distributions, against all sets of words."""
    shares = torch.randn(20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).mul(2).softmax(-1)
    for row, kept in zip(shares, decoding.nucleus(shares, p) > 0, strict=True):
        smaller = itertools.combinations(row.tolist(), int(kept.sum()) - 1)
        assert row[kept].sum() >= p
        assert max(map(sum, smaller)) < p
        assert sorted(row[kept].tolist()) == sorted(row.tolist())[-int(kept.sum()) :]


def test_drawn_words_have_the_frequencies_of_the_nucleus() -> None:
    z, count = codes(1), 20_000
    lstm = decoder()
    with torch.no_grad():
        logits, _ = decoding.next_logits(lstm, torch.tensor([START]), z, decoding.initial_state(lstm, z))
    logits[:, [PAD, START]] = -torch.inf
    for p, temperature in ((0.6, 1.0), (0.9, 2.0), (1.0, 0.5)):
        drawn = write(z.expand(count, -1), max_words=1, top_p=p, temperature=temperature)[:, 1]
        # The place of the second word is for `</s>` alone, so the first word is the only one.
        expected = decoding.nucleus((logits / temperature).softmax(-1), p)[0]
        shares = torch.bincount(drawn, minlength=family.WORDS) / count
        assert (shares - expected).abs().max() < 0.0175
        assert (shares[expected == 0] == 0).all()


def test_a_share_of_one_draws_the_words_of_plain_sampling() -> None:
    """`LSTMDecoder.sample` may also draw `<pad>` and `<s>`. Up to such a word, the draws are the same."""
    z, plain = codes(300), decoder()
    with torch.no_grad():
        plain.output.weight[[PAD, START]] = -plain.output.weight[3:].mean(0)
    expected = plain.sample(z, torch.Generator().manual_seed(1), longest=10)
    found = {}
    for options in (Decoding(), Decoding(top_p=1.0), Decoding(repetition_penalty=1.0, temperature=1.0)):
        found[options] = decoding.sentences(plain, z, options, torch.Generator().manual_seed(1), 8)
    assert all(torch.equal(one, found[Decoding()]) for one in found.values())
    compared = 0
    for row, words in zip(found[Decoding()].tolist(), expected.tolist(), strict=True):
        end = words.index(END) if END in words else len(words) - 1
        if {PAD, START}.isdisjoint(words[1:end]):
            compared += 1
            assert row[:end] == words[:end]
    assert compared > 100


def test_the_penalty_divides_positive_logits_and_multiplies_negative_ones() -> None:
    logits = torch.tensor([[2.0, -2.0, 0.0, 1.0, -1.0], [2.0, -2.0, 0.0, 1.0, -1.0]])
    sentence = torch.tensor([[0, 1, 1], [3, 2, 4]])

    assert decoding.penalized(logits, sentence, 2.0).tolist() == [[1, -4, 0, 1, -1], [2, -2, 0, 0.5, -2]]
    assert torch.equal(decoding.penalized(logits, sentence, 1.0), logits)


def test_an_ngram_that_occurred_must_not_come_again() -> None:
    sentence = torch.tensor([[START, 4, 5, 6, 4, 5]])

    def forbidden(n: int) -> list[int]:
        return decoding.repeating(sentence, n, 8)[0].nonzero()[:, 0].tolist()

    assert [forbidden(n) for n in (1, 2, 3, 4, 5, 6)] == [[4, 5, 6], [6], [6], [], [], []]
    together = torch.cat([sentence, torch.tensor([[START, 7, 7, 7, 7, 7]])])
    assert decoding.repeating(together, 3, 8).nonzero().tolist() == [[0, 6], [1, 7]]


# ------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize("options", [{}, {"likely": True}, {"top_p": 0.7}, {"beams": 3}])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sentences_repeat_no_ngram_and_have_no_forbidden_word(options: dict[str, object], n: int) -> None:
    free = lists(write(codes(40), 30, **options))
    written = lists(write(codes(40), 30, no_repeat_ngram=n, no_unknown=True, **options))

    def repeated(sentence: list[int]) -> bool:
        ngrams = list(zip(*(sentence[1 + k :] for k in range(n)), strict=False))
        return len(set(ngrams)) < len(ngrams)

    assert any(map(repeated, free))
    assert not any(map(repeated, written))
    assert any(UNKNOWN in sentence for sentence in free)
    assert not any(UNKNOWN in sentence for sentence in written)
    assert not any(START in sentence[1:] for sentence in free)


@pytest.mark.parametrize("options", [{}, {"likely": True}, {"top_p": 0.5, "temperature": 2.0}, {"beams": 4}])
@pytest.mark.parametrize("most", [1, 3, 20])
def test_the_length_of_a_sentence_is_bounded(options: dict[str, object], most: int) -> None:
    sentences = lists(write(codes(60), most, **options))
    lengths = [len([word for word in sentence if word not in (START, END)]) for sentence in sentences]

    assert all(sentence[0] == START for sentence in sentences)
    assert max(lengths) <= most
    for sentence, length in zip(sentences, lengths, strict=True):
        # Only a sentence with all the words that it may have can lack `</s>`.
        assert sentence[-1] == END or length == most
        assert END not in sentence[:-1]


@pytest.mark.parametrize("options", [{"likely": True}, {"beams": 1}, {"beams": 5}, {"beams": 3, "no_repeat_ngram": 2}])
def test_a_batch_gives_the_sentences_that_each_code_gives_alone(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    z = codes(9)
    together = lists(write(z, repetition_penalty=1.3, **options))

    assert together == [lists(write(one[None], repetition_penalty=1.3, **options))[0] for one in z]
    monkeypatch.setattr(decoding, "VALUES", 4 * family.WORDS * int(str(options.get("beams", 1))))
    assert together == lists(write(z, repetition_penalty=1.3, **options))


def test_draws_follow_the_seed() -> None:
    options = {"top_p": 0.9, "repetition_penalty": 1.1}
    one, again, other = (lists(write(codes(20), seed=seed, **options)) for seed in (1, 1, 2))

    assert one == again != other
    assert lists(write(codes(20), seed=1, beams=3)) == lists(write(codes(20), seed=2, beams=3))


def test_a_penalty_of_one_changes_nothing_and_a_larger_one_repeats_less() -> None:
    def repeats(rows: list[list[int]]) -> int:
        return sum(len(row) - len(set(row)) for row in rows)

    for options in ({}, {"likely": True}, {"beams": 3}):
        free, same, less = (
            lists(write(codes(60), 20, repetition_penalty=penalty, **options))  # type: ignore[arg-type]
            for penalty in (None, 1.0, 3.0)
        )
        assert free == same
        assert repeats(less) < repeats(free)


# ----------------------------------------------------------------------------------- beam search


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_takes_the_likeliest_words(seed: int) -> None:
    z = codes(50, seed)
    for further in ({}, {"repetition_penalty": 1.5, "no_repeat_ngram": 3, "no_unknown": True}):
        assert torch.equal(write(z, 12, beams=1, **further), write(z, 12, likely=True, **further))  # type: ignore[arg-type]


def all_sentences(words: int, most: int) -> list[list[int]]:
    """All whole sentences of at most `most` words."""
    usable = [word for word in range(words) if word not in (PAD, START, END)]

    return [[START, *inner, END] for length in range(most + 1) for inner in itertools.product(usable, repeat=length)]


def score(lstm: LSTMDecoder, code: Tensor, sentence: list[int], penalty: float, power: float) -> float:
    """The log probability of a sentence over its length penalty, word by word."""
    state, total = decoding.initial_state(lstm, code), 0.0
    for t in range(1, len(sentence)):
        with torch.no_grad():
            logits, state = decoding.next_logits(lstm, torch.tensor([sentence[t - 1]]), code, state)
        row = logits[0].double()
        for word in set(sentence[:t]):
            row[word] *= 1 / penalty if row[word] > 0 else penalty
        row[[PAD, START]] = -torch.inf
        total += float(row.log_softmax(0)[sentence[t]])

    return float(total / ((5 + len(sentence) - 1) / 6) ** power)


@pytest.mark.parametrize(("power", "penalty"), [(0.0, 1.0), (LENGTH_POWER, 1.0), (2.0, 1.0), (LENGTH_POWER, 2.0)])
def test_enough_beams_find_the_best_of_all_sentences(power: float, penalty: float) -> None:
    lstm, z = decoder(words=7, seed=2), codes(5)
    sentences = all_sentences(words=7, most=3)
    best = [max(sentences, key=lambda x: score(lstm, code, x, penalty, power)) for code in z[:, None]]
    found = decoding.beam_search(lstm, z, 1_000, Decoding(repetition_penalty=penalty), 3, power)

    assert lists(found) == best
    assert len({len(sentence) for sentence in best}) > 1


def test_more_beams_find_likelier_sentences() -> None:
    lstm, z = decoder(), codes(40)

    def mean(beams: int) -> float:
        rows = lists(write(z, 8, beams=beams))
        scores = [score(lstm, code, row, 1.0, LENGTH_POWER) for code, row in zip(z[:, None], rows, strict=True)]
        return sum(scores) / len(scores)

    assert mean(1) < mean(3) < mean(30)


# ---------------------------------------------------------------------------------- the options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likely": True, "temperature": 0.5}, "--temperature, --likely: expected one of them, since --likely draws"),
        ({"likely": True, "top_p": 0.5}, "--top-p, --likely: expected one of them"),
        ({"likely": True, "beams": 2}, "--beams, --likely: expected one of them"),
        ({"beams": 2, "temperature": 0.5}, "--temperature, --beams: expected one of them, since --beams draws"),
        ({"beams": 2, "top_p": 0.5}, "--top-p, --beams: expected one of them"),
        ({"top_p": 0.0}, "--top-p: expected a share above 0, and at most 1; found 0.0"),
        ({"top_p": 1.1}, "--top-p: expected a share"),
        ({"top_p": float("nan")}, "--top-p: expected a share"),
        ({"beams": 0}, "--beams: expected a number from 1 to 100; found 0"),
        ({"repetition_penalty": 0.9}, "--repetition-penalty: expected a number from 1.0 to 100.0; found 0.9"),
        ({"no_repeat_ngram": 0}, "--no-repeat-ngram: expected a number"),
        ({"temperature": float("inf")}, "--temperature: expected a number from 0.001 to 1000.0; found inf"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as raised:
        check(Decoding(**options), False, command_line_name)  # type: ignore[arg-type]

    assert message in str(raised.value)


def test_every_option_for_words_is_refused_for_images() -> None:
    values = {"top_p": 0.9, "beams": 2, "repetition_penalty": 1.2, "no_repeat_ngram": 3, "no_unknown": True}
    for field in dataclasses.fields(Decoding):
        if field.name in values:
            with pytest.raises(UserError, match=f"{field.name}: expected only for models of texts"):
                check(Decoding(**{field.name: values[field.name]}), images=True)  # type: ignore[arg-type]
    check(Decoding(likely=True), images=True)
    check(Decoding(temperature=0.5), images=True)


def test_the_likeliest_words_are_the_default_where_nothing_else_is_chosen() -> None:
    assert Decoding(no_unknown=True).or_likeliest() == Decoding(likely=True, no_unknown=True)
    for chosen in (Decoding(temperature=0.5), Decoding(top_p=0.9), Decoding(beams=2), Decoding(likely=True)):
        assert chosen.or_likeliest() == chosen


def test_the_longest_document_bounds_the_sentences_of_a_loaded_model(tmp_path: Path) -> None:
    assert vocabulary_files.longest_document(tmp_path) == MAX_WORDS
    for name, split in (("train", family.documents(9, (3, 6))), ("test", family.documents(9, (9,)))):
        np.save(tmp_path / f"{name}.offsets.npy", split.offsets)
    assert vocabulary_files.longest_document(tmp_path) == 7
    (tmp_path / "valid.offsets.npy").write_bytes(b"broken")
    assert vocabulary_files.longest_document(tmp_path) == MAX_WORDS
