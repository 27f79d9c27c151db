"""Sentences about results say what the statistics support: verdicts, paired comparisons, endings of trainings."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duvae.config import Job
from duvae.data.splits import Array
from duvae.metrics import verdict
from duvae.metrics.paired import Interval
from duvae.report import compare as report_compare
from duvae.report import comparison, convergence, likelihood_table, observations, per_example, results
from duvae.report.comparison import Comparison, compare, difference_text
from duvae.report.per_example import Floor, PerExample
from duvae.report.results import Result

WORKING = {"kl": 1.6, "mi": 1.2, "use": 3.0, "use_stderr": 0.2}


def model(setting: str, system: str = "", seed: int = 1, **changed: Any) -> Result:
    """A model of a working VAE of 20 epochs, with some metrics changed."""
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(20))
    history["epoch"], history["learning_rate"] = range(1, 21), 1.0
    metrics = {
        "system": system or setting,
        "hyperparameters": {},
        "sentences": 100,
        "nll": 30.0,
        "nll_stderr": 0.1,
        "perplexity": 2.0,
        "reconstruction": 29.0,
        "au": 2,
        "mpd": 1.0,
        "ce": 2.0,
        "epochs": 20,
        "best_epoch": 12,
        "stopped": "at the 5th decay, in epoch 20",
        **WORKING,
        **changed,
    }

    return Result(Job("made_up", setting, seed, "yelp"), metrics, history, None, {})


def values(nll: Array | None, index: Sequence[int] | None = None) -> PerExample:
    count = 0 if nll is None else len(nll)

    return PerExample({}, np.asarray(range(count) if index is None else index), nll, None, None, None)


# ---------------------------------------------------------------------------------- collapse


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        # a VAE whose posteriors equal the prior
        ({"mi": 0.0, "kl": 0.0, "use": 0.0, "use_stderr": 0.0}, verdict.COLLAPSED),
        # a VAE with different posteriors, whose decoder ignores z
        ({"mi": 0.8, "kl": 1.0, "use": 0.01, "use_stderr": 0.01}, verdict.COLLAPSED),
        # batch-normalized means keep KL and MI up by construction, and the decoder ignores z
        ({"mi": 0.69, "kl": 1.0, "use": -0.002, "use_stderr": 0.005}, verdict.COLLAPSED),
        # an autoencoder has no MI
        ({"mi": None, "kl": None, "use": 5.0, "use_stderr": 0.1}, verdict.NOT_COLLAPSED),
        ({"mi": None, "kl": None, "use": 0.0, "use_stderr": 0.01}, verdict.COLLAPSED),
        # a working model
        ({"mi": 1.2, "kl": 1.6, "use": 3.0, "use_stderr": 0.2}, verdict.NOT_COLLAPSED),
        # a flow: the KL, or the MPD of z, bounds the MI from above
        ({"mi": None, "kl": 0.05, "mpd_t": 0.2, "use": 0.05, "use_stderr": 0.1}, verdict.COLLAPSED),
        ({"mi": None, "kl": 0.5, "mpd_t": 0.05, "use": 0.05, "use_stderr": 0.1}, verdict.COLLAPSED),
        ({"mi": None, "kl": 0.5, "mpd_t": 0.5, "use": 2.0, "use_stderr": 0.1}, verdict.NOT_COLLAPSED),
        # not known well enough, or not measured
        ({"mi": 1.2, "kl": 1.6, "use": 0.15, "use_stderr": 0.1}, verdict.CANNOT_TELL),
        ({"mi": 1.2, "kl": 1.6, "use": 3.0, "use_stderr": None}, verdict.CANNOT_TELL),
        ({"mi": 1.2, "kl": 1.6}, verdict.CANNOT_TELL),
        ({"mi": 0.0, "kl": 0.0}, verdict.COLLAPSED),
        # a contradiction: hardly any information, yet a large use of z
        ({"mi": 0.05, "kl": 1.6, "use": 3.0, "use_stderr": 0.2}, verdict.CANNOT_TELL),
    ],
)
def test_the_verdict_follows_from_use_of_z_and_information(metrics: dict[str, Any], expected: str) -> None:
    assert verdict.verdict({"mpd_t": None, **metrics}) == expected


def test_seeds_with_different_verdicts_are_counted() -> None:
    assert verdict.over_seeds([True, True]) == "collapsed"
    assert verdict.over_seeds([False]) == "not collapsed"
    assert verdict.over_seeds([None, None]) == "cannot tell"
    assert verdict.over_seeds([True, False, None]) == "1 of 3 collapsed, 1 unclear"
    assert verdict.over_seeds([False, None]) == "0 of 2 collapsed, 1 unclear"


def test_settings_are_grouped_by_their_verdicts() -> None:
    lines = observations.collapse_lines(
        [
            model("vae", mi=0.0, kl=0.0, use=0.0),
            model("du_vae"),
            model("fb", use=0.11),
            model("ae", mi=None, kl=None),
            model("bn_vae", seed=1, use=0.0, use_stderr=0.01),
            model("bn_vae", seed=2),
            model("mae", seed=1, use=0.1),
            model("mae", seed=2),
        ]
    )

    assert lines[0] == "Collapsed: VAE (use of z 0.00, MI 0.00)."
    assert lines[1] == "Not collapsed: DU-VAE (use of z 3.00, MI 1.20) and AE (use of z 3.00)."
    assert lines[2] == (
        "The seeds differ: BN-VAE (1 of 2 collapsed; use of z 1.50, MI 1.20) and MAE (0 of 2 collapsed, 1 unclear;"
        " use of z 1.55, MI 1.20)."
    )
    assert lines[3] == "The results cannot tell whether these collapsed: FB (use of z 0.11, MI 1.20)."
    assert lines[4] == verdict.RULE


def test_where_nothing_was_measured_there_is_no_verdict() -> None:
    """The use of z decides about an autoencoder; without it, nothing does."""
    bare = {"mi": None, "kl": None, "use": None, "use_stderr": None}
    assert verdict.of_setting([bare, bare]) is None
    assert verdict.of_setting([bare, {**bare, "use": 3.0, "use_stderr": 0.1}]) == "0 of 2 collapsed, 1 unclear"
    assert verdict.of_setting([{**bare, "kl": 1.0}]) == verdict.CANNOT_TELL
    lines = observations.collapse_lines([model("ae", **bare), model("du_vae")])
    assert lines[:-1] == ["Not collapsed: DU-VAE (use of z 3.00, MI 1.20).", observations.ONE_SEED, verdict.RULE]
    assert observations.ONE_SEED not in observations.collapse_lines([model("du_vae"), model("du_vae", seed=2)])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "all verdicts are the same."),
        ({"mi": 0.15, "use": 3.0}, "other verdicts: FB with 0.2 (cannot tell)."),
        ({"mi": 0.07, "use": 0.02, "use_stderr": 0.001}, "all verdicts are the same."),
        ({"mi": 0.07, "use": 0.15, "use_stderr": 0.001}, "other verdicts: FB with 0.05 (not collapsed)"),
        ({"mi": None, "kl": 0.3, "mpd_t": 0.15, "use": None}, "other verdicts: FB with 0.2 (collapsed)."),
    ],
)
def test_verdicts_that_hang_on_the_bounds_are_named(changed: dict[str, Any], words: str) -> None:
    (line,) = observations.bound_lines([model("vae"), model("fb", **changed)])
    assert line.startswith(f"With 0.05 or 0.2 nats in the place of these bounds, {words}"[:-1])
    bare = {"mi": None, "kl": None, "mpd_t": None, "use": None}
    assert observations.bound_lines([model("ae", **bare)]) == []


# ---------------------------------------------------------------------------------- convergence


def history(rates: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame({"learning_rate": rates})


@pytest.mark.parametrize(
    ("metrics", "rates", "text"),
    [
        (
            {"epochs": 5, "best_epoch": 2, "stopped": "at the 3th decay, in epoch 5"},
            [1, 1, 0.5, 0.25, 0.25],
            "converged after 5 epochs, 3 decays",
        ),
        (
            {"epochs": 12, "best_epoch": 12, "stopped": "after 12 epochs"},
            [1] * 12,
            "epoch limit (12) after no decay, best epoch 12 of 12",
        ),
        (
            {"epochs": 12, "best_epoch": 7, "stopped": "after 12 epochs"},
            [1] * 11 + [0.5],
            "epoch limit (12) after 1 decay, best epoch 7 of 12",
        ),
        (
            {"epochs": 9, "best_epoch": 9, "ending": "decays", "decays": 4},
            [1] * 9,
            "converged after 9 epochs, 4 decays",
        ),
        (
            {"epochs": 9, "best_epoch": 8, "ending": "rate", "decays": 4},
            [1] * 9,
            "end of its schedule after 9 epochs, 4 decays, best epoch 8 of 9",
        ),
        (
            {"epochs": 3, "best_epoch": 3, "stopped": "at a learning rate below 0.03, in epoch 3"},
            [1, 0.5, 0.25],
            "end of its schedule after 3 epochs, 3 decays, best epoch 3 of 3",
        ),
        (
            {"epochs": 9, "best_epoch": 9, "ending": "epochs", "decays": 2},
            [1] * 9,
            "epoch limit (9) after 2 decays, best epoch 9 of 9",
        ),
    ],
)
def test_the_end_of_a_training_is_told(metrics: dict[str, Any], rates: list[float], text: str) -> None:
    assert convergence.ending(metrics, history(rates)).text == text


def test_seeds_that_ended_alike_share_one_text() -> None:
    endings = [convergence.Ending(epochs, 5, "decays", 70) for epochs in (80, 90)]
    endings += [convergence.Ending(120, 1, "epochs", best) for best in (118, 113)]

    assert convergence.over_seeds(endings) == (
        "converged after 80 to 90 epochs, 5 decays; epoch limit (120) after 1 decay, best epoch 113 to 118 of 120"
    )


def test_trainings_without_convergence_are_named() -> None:
    open_ended = model("fb", stopped="after 20 epochs", best_epoch=20)
    (line,) = observations.convergence_lines([model("vae"), open_ended])
    assert line == (
        "1 of the 2 settings converged with every seed. A difference from one of the others may be a difference in the"
        " speed of training: FB (epoch limit (20) after no decay, best epoch 20 of 20)."
    )
    (line,) = observations.convergence_lines([model("vae")])
    assert line.startswith("All trainings converged")


def test_where_nothing_converged_no_model_is_set_apart() -> None:
    """An autoencoder has no NLL, so the sentence speaks of models; settings that ended alike share one text."""
    (line,) = observations.convergence_lines(
        [
            *(model(n, stopped="after 20 epochs", best_epoch=best, nll=None) for n, best in (("ae", 20), ("vae", 17))),
            model("fb", ending="epochs", decays=2, best_epoch=19),
        ]
    )
    assert line == (
        "No training converged. Differences between these models may be differences in the speed of training:"
        " AE and VAE (epoch limit (20) after no decay, best epoch 17 to 20 of 20);"
        " FB (epoch limit (20) after 2 decays, best epoch 19 of 20)."
    )


# ---------------------------------------------------------------------------------- comparisons


def test_models_are_compared_on_the_examples_that_all_have() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 5.0, 9.0])
    found = compare([model("vae"), model("fb"), model("ae")], [values(first), values(second, [0, 2, 3]), values(None)])

    assert set(found.nll) == {"vae", "fb"}
    assert found.nll["vae"][1].tolist() == [1.0, 3.0, 4.0]
    pair = found.pair("fb", "vae")
    assert pair is not None
    assert pair.difference == pytest.approx((1 + 2 + 5) / 3)
    assert found.between("fb", "ae") is None
    assert compare([model("vae")], [None]).best == []


def test_only_seeds_that_both_settings_have_are_compared() -> None:
    nll = {"vae": {1: np.zeros(3), 2: np.ones(3)}, "fb": {2: np.array([1.1, 1.2, 1.3]), 3: np.full(3, 9.0)}}
    found = Comparison(nll).between("fb", "vae")
    assert found is not None
    assert found.difference == pytest.approx(0.2)
    assert found.seeds == 1
    assert Comparison({"vae": {1: np.zeros(3)}, "fb": {2: np.zeros(3)}}).between("fb", "vae") is None


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 4),
    seeds=st.integers(1, 3),
    shift=st.sampled_from([0.0, 0.05, 3.0]),
    spread=st.sampled_from([0.0, 0.1, 2.0]),
    seed=st.integers(0, 10**6),
)
def test_no_sentence_says_more_than_the_comparison(
    count: int, seeds: int, shift: float, spread: float, seed: int
) -> None:
    """A setting is called the lowest alone only if every other one is higher by its interval; ties are ties."""
    random = np.random.default_rng(seed)
    names = ["vae", "fb", "bn_vae", "du_vae"][:count]
    hard = random.normal(30, 8, 40)
    models, examples = [], []
    for place, name in enumerate(names):
        for number in range(1, seeds + 1):
            models.append(model(name, seed=number))
            examples.append(values(hard + shift * place + spread * random.standard_normal(40)))
    found = comparison.compare(models, examples)
    lines = observations.nll_lines(models, found)

    assert len(lines) == (count > 1)
    if not lines:
        return
    if spread == 0 and shift == 0:
        assert lines[0].startswith("Of VAE")
        assert "none can be distinguished from the one with the lowest NLL." in lines[0]
    if " has the lowest NLL, " in lines[0]:
        (best,) = found.best
        others = [found.between(best, other) for other in names if other != best]
        assert all(each is not None and each.sign == -1 for each in others)
    assert ("over one seed, so other seeds may differ." in lines[0]) == (seeds == 1)
    assert "Not compared" not in lines[0]
    for first in names:
        for second in names:
            between = found.between(first, second)
            text = difference_text(between)
            assert between is not None
            assert (" lower (" in text, " higher (" in text) == (between.sign == -1, between.sign == 1)
            assert ("other seeds may differ" in text) == (seeds == 1)
            assert "nan" not in text


def test_an_interval_has_the_sign_of_its_words() -> None:
    assert difference_text(Interval(-0.67, -0.8, -0.55, 2)) == "0.67 nats lower (95 % interval 0.55 to 0.80; 2 seeds)"
    assert difference_text(Interval(0.67, 0.55, 0.8, 2)) == "0.67 nats higher (95 % interval 0.55 to 0.80; 2 seeds)"
    assert "of the difference −0.10 to 0.30 nats" in difference_text(Interval(0.1, -0.1, 0.3, 2))


def test_the_page_compares_each_pair_once() -> None:
    """The differences per example are 1 to 4, all of one sign, or 0.5 with both signs."""
    first = np.array([30.0, 31.0, 32.0, 33.0])
    nll = {
        "vae": {1: first},
        "fb": {1: first + np.arange(1.0, 5.0)},
        "mae": {1: first + np.array([0.5, -0.5, -0.5, -0.5])},
    }
    found = report_compare.pairs(Comparison(nll))

    assert {one: list(others) for one, others in found.items()} == {"vae": ["fb", "mae"], "fb": ["mae"]}
    difference, half, seeds, sign, won = found["vae"]["fb"]
    assert (difference, seeds, sign, won) == (2.5, 1, 1, 0.0)
    assert half == pytest.approx(3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2, rel=1e-5)
    assert found["vae"]["mae"][3:] == [0, 0.75]
    assert report_compare.pairs(Comparison({})) == {}


def test_a_setting_far_ahead_is_called_the_lowest() -> None:
    """The test above can see this case."""
    hard = np.linspace(20, 40, 50)
    found = Comparison({"vae": {1: hard}, "fb": {1: hard + 1 + np.linspace(0, 0.1, 50)}})

    assert found.best == ["vae"]
    (line,) = observations.nll_lines([model("vae"), model("fb")], found)
    assert line.startswith("Of VAE and FB, this VAE has the lowest NLL, in paired comparisons with the 1 other.")


def test_what_was_not_compared_is_named() -> None:
    """Without the NLL of single examples, a setting takes no part, and no setting is the best of the table."""
    hard = np.linspace(20, 40, 50)
    models = [model("vae"), model("fb"), model("mae"), model("ae", nll=None)]
    found = compare(models, [values(hard), values(hard + 1 + np.linspace(0, 0.1, 50)), None, values(None)])
    colours = {each.job.setting: "#000" for each in models}

    assert found.left_out == ["mae"]
    (line,) = observations.nll_lines(models, found)
    assert line.startswith("Of VAE and FB, this VAE has the lowest NLL")
    assert line.endswith("Not compared, since the NLL of single examples is missing: MAE.")
    table = likelihood_table.likelihood(models, colours, found)
    assert not any(cell.strong for row in table.rows for cell in row.cells)
    assert "No setting is bold, since not all were compared. Not compared, since the NLL" in table.caption
    table = likelihood_table.likelihood(
        models[:2], colours, found := compare(models[:2], [values(hard), values(hard + 1)])
    )
    assert sum(cell.strong for row in table.rows for cell in row.cells) == 1
    assert "Bold: the setting with a lower NLL than all others" in table.caption
    (line,) = observations.nll_lines(models[:2], compare(models[:2], [None, None]))
    assert line.startswith("The NLL of the settings was not compared in pairs. Not compared, since")
    assert "VAE and FB" in line


def test_seeds_that_not_all_settings_have_take_no_part() -> None:
    hard = np.linspace(20, 40, 50)
    models = [
        model("vae", seed=1),
        model("vae", seed=2),
        model("vae", seed=3),
        model("fb", seed=1),
        model("fb", seed=2),
    ]
    examples = [values(hard + 0.1 * each.job.seed + (each.job.setting == "fb")) for each in models]
    (line,) = observations.nll_lines(models, compare(models, examples))
    assert "over 2 seeds that all settings share." in line
    (line,) = observations.nll_lines(models[1:4], compare(models[1:4], examples[1:4]))
    assert line.startswith("The NLL of the settings was not compared in pairs. They have no seed in common.")
    (line,) = observations.nll_lines(models[:4], compare(models[:4], examples[:4]))
    assert "over 1 seed that all settings have, so other seeds may differ." in line


def test_settings_that_were_trained_longer_take_no_part() -> None:
    hard, tilt = np.linspace(20, 40, 50), np.linspace(0, 0.1, 50)
    models = [model("vae"), model("fb"), model("vae_fifth_decay", "vae")]
    found = compare(models, [values(hard), values(hard + 1 + tilt), values(hard - 2 + tilt)])

    assert found.best == ["vae"]
    assert found.between("vae_fifth_decay", "vae") is not None
    (line,) = observations.nll_lines(models, found)
    assert line.endswith("Settings that were trained longer take no part: VAE (fifth decay).")
    assert likelihood_table.best_text(models, found).endswith("take no part: VAE (fifth decay).")


def test_settings_that_were_trained_for_fewer_epochs_without_converging_take_no_part() -> None:
    """Their NLL may be higher only since they were trained for a shorter time."""
    hard, tilt = np.linspace(20, 40, 50), np.linspace(0, 0.1, 50)

    def of(**changed: Any) -> tuple[list[Result], Comparison]:
        models = [model("vae", stopped="after 20 epochs"), model("fb"), model("mae", **changed)]
        return models, compare(models, [values(hard), values(hard + 1 + tilt), values(hard - 2 + tilt)])

    models, found = of(epochs=10, stopped="after 10 epochs")
    assert found.shorter == ["mae"]
    assert found.best == ["vae"]
    line, *_ = observations.nll_lines(models, found)
    assert line.startswith("Of VAE and FB, this VAE has the lowest NLL")
    assert line.endswith("Not compared, since they ended unconverged after fewer epochs than others: MAE.")
    missing = compare(models, [values(hard), values(hard + 1 + tilt), None])
    line, *_ = observations.nll_lines(models, missing)
    assert line.endswith("than others: MAE. Of them, the NLL of single examples is missing, too.")
    table = likelihood_table.likelihood(models, dict.fromkeys(found.nll, "#000"), found)
    (place,) = [place for place, head in enumerate(table.heads) if head.label == "Minus VAE's"]
    assert [row.cells[place].text is None for row in table.rows] == [True, False, True]
    bold = [row.name for row in table.rows if any(cell.strong for cell in row.cells)]
    assert bold == ["VAE"]

    models, found = of(epochs=10, stopped="at the 5th decay, in epoch 10")
    assert found.shorter == [], "a training that converged early is no shorter one"
    assert found.best == ["mae"]


def test_examples_that_training_lacks_are_compared_apart() -> None:
    """Where a model has learned training sentences by heart, it wins by those alone."""
    hard, noise = np.linspace(20, 40, 80), np.tile([-0.05] * 4 + [0.05] * 4, 10)
    unseen = np.arange(80) % 4 == 0
    models = [model("vae", unseen=20), model("fb", unseen=20)]

    def of(better: Array) -> Comparison:
        both = [values(hard), values(hard - better + noise)]
        return compare(models, [dataclasses.replace(each, unseen=unseen) for each in both])

    first, second = observations.nll_lines(models, of(np.where(unseen, 0.0, 1.0)))
    assert first.startswith("Of VAE and FB, this FB has the lowest NLL")
    assert second == (
        "60 of the 80 test examples also stand in the training data. On the other 20, none can be distinguished from"
        " the one with the lowest NLL."
    )
    _, second = observations.nll_lines(models, of(np.where(unseen, 1.0, 1.0)))
    assert second.endswith("On the other 20, this FB has the lowest NLL, in paired comparisons with the 1 other.")
    all_seen = compare(models, [values(hard), values(hard + noise)])
    assert all_seen.unseen is None
    assert likelihood_table.unseen_text(models, ["nll_unseen"], "sentence") == " Unseen: 20 sentences."
    assert likelihood_table.unseen_text(models, ["nll"], "sentence") == ""


@given(st.floats(-0.02, 0.02), st.floats(0, 0.02))
def test_an_interval_on_one_side_of_0_does_not_seem_to_contain_it(difference: float, half: float) -> None:
    found = Interval(difference, difference - half, difference + half, 2)
    text = difference_text(found)
    ends = [float(end) for end in re.findall(r"[0-9]+\.[0-9]+", text.replace("95 %", "").partition("interval")[2])]
    if found.sign and min(abs(found.low), abs(found.high)) > 1e-8:
        assert all(end > 0 for end in ends), text
        assert ("lower" in text) == (found.sign < 0)
    assert comparison.enough_decimals(Interval(1.0, 0.5, 1.5, 2), 2) == 2


def test_every_difference_of_a_training_that_did_not_converge_is_marked() -> None:
    hard, tilt = np.linspace(20, 40, 50), np.linspace(0, 0.1, 50)
    models = [model("vae"), model("fb", stopped="after 20 epochs"), model("mae")]
    assert len({each.ending.epochs for each in models}) == 1, "none was trained for fewer epochs than others"
    found = compare(models, [values(hard), values(hard + 1 + tilt), values(hard + 2 + tilt)])
    floor = Floor({"nll": 29.0, "nll_stderr": 0.1, "sentences": 50}, None, None)
    gaps = {each.job.setting: [(1.0, 0.1)] for each in models}
    table = likelihood_table.likelihood(models, dict.fromkeys(found.nll, "#000"), found, floor, gaps)
    marks = {
        head.label: [row.cells[place].mark for row in table.rows if not row.floor]
        for place, head in enumerate(table.heads)
    }

    assert marks["NLL"] == marks["Minus VAE's"] == marks["Above floor"] == ["", "‡", ""]
    (line,) = observations.nll_lines(models, found)
    assert "2 of these 3 trainings converged, so more epochs may change the order." in line
    entries = {entry["id"]: entry["converged"] for entry in report_compare.settings(models)}
    assert entries == {"made_up/vae": True, "made_up/fb": False, "made_up/mae": True}
    models[0] = model("vae", stopped="after 20 epochs")
    table = likelihood_table.likelihood(models, dict.fromkeys(found.nll, "#000"), found)
    (place,) = [place for place, head in enumerate(table.heads) if head.label == "Minus VAE's"]
    assert [row.cells[place].mark for row in table.rows[1:]] == ["‡", "‡"]


def test_distances_from_the_floor_have_their_error() -> None:
    """Two seeds on the same sentences: the error is that of the means 19.5, 20.5, 21.5 and 22.5 of the sentences."""
    gaps = {"vae": [np.array([18.0, 20.0, 21.0, 25.0]), np.array([21.0, 21.0, 22.0, 20.0])], "fb": []}
    (line,) = observations.floor_lines([model("vae"), model("fb")], gaps)
    assert line == (
        "Nats above the floor, on its 4 sentences, with the standard error over them in brackets; not for ranking:"
        " VAE 21.00 [0.65]."
    )
    mean, spread, error = per_example.gap_over_seeds(gaps["vae"])
    assert (mean, spread) == (21.0, 0.0)
    assert error == pytest.approx(np.std([19.5, 20.5, 21.5, 22.5], ddof=1) / 2)
    assert np.isnan(per_example.gap_over_seeds([])).all()
    assert np.isnan(per_example.gap_over_seeds([np.array([3.0])])[1:]).all()
    assert observations.floor_lines([model("vae")], {}) == []


# ---------------------------------------------------------------------------------- limits of measures


def test_what_batch_normalization_gives_alone() -> None:
    models = [
        model("du_vae", hyperparameters={"gamma": 1.0, "p": 0.5}, kl=1.1, mi=0.72),
        model("bn_vae_fixed_beta_05", "bn_vae_fixed_beta", hyperparameters={"gamma": 0.6, "beta": 0.5}, kl=0.3, mi=0.0),
        model("vae"),
    ]
    (line,) = observations.construction_lines(models, 2)

    assert f"KL at least 1.00 (measured 1.10), MI {math.log(2):.2f} (measured 0.72)" in line
    assert "KL at least 0.25 (measured 0.30)" in line
    assert line.endswith(
        "That MI is a reference and no bound. AU and MPD are raised by construction, too. KL and MI describe the"
        " encoder alone, so they do not show whether the decoder uses z."
    )
    assert observations.construction_lines([model("vae")], 2) == []


def test_the_reference_is_the_information_of_gaussian_means() -> None:
    """n/2 log(1 + gamma^2), by simulation: the entropy of N(0, 1 + gamma^2) minus that of N(0, 1)."""
    from duvae.metrics.geometry import mutual_information

    random, gamma = np.random.default_rng(1), 0.8
    mean = gamma * random.standard_normal((4000, 2))
    estimate = mutual_information(mean, np.ones((4000, 2)), mean + random.standard_normal((4000, 2)))

    assert estimate == pytest.approx(math.log(1 + gamma**2), abs=0.03)


def test_information_near_its_ceiling_is_named() -> None:
    assert observations.ceiling_lines([model("vae", mi=4.0)]) == []  # log 100 = 4.61
    (line,) = observations.ceiling_lines([model("mae", mi=4.2), model("vae")])
    assert line.endswith("MAE (4.20 of at most 4.61).")
    assert observations.at_ceiling(8.9, 8070)
    assert not observations.at_ceiling(0.0, 1)
