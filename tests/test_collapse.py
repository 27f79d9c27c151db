"""The report's text about the collapse agrees with the results, whatever they are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from duvae.config import Job
from duvae.report import collapse, results
from duvae.report.comparison import Comparison
from duvae.report.results import Result


def model(
    system: str, seed: int = 1, course: Callable[[np.ndarray], np.ndarray] = lambda e: 0 * e, **changed: Any
) -> Result:
    """A model with 20 epochs. The first ten are the warm-up."""
    epoch = np.arange(1, 21)
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(20))
    history["epoch"], history["kl_weight"] = epoch, np.minimum(1, epoch / 10)
    history["valid_mi"] = course(epoch.astype(float))
    history["valid_kl"] = history["valid_mi"] + 0.5 / epoch
    history["best"] = (epoch == 18).astype(int)
    metrics = {
        "system": system,
        "hyperparameters": {},
        "sentences": 9,
        "nll": 30.0,
        "nll_stderr": 0.1,
        "perplexity": 2.0,
    }
    metrics |= {
        "reconstruction": 29.0,
        "kl": 0.0,
        "mi": 0.0,
        "au": 0,
        "mpd": 0.0,
        "ce": 2.84,
        "use": 0.0,
        "use_stderr": 0.01,
        "epochs": 20,
        "best_epoch": 18,
    }

    return Result(Job("made_up", system, seed, "yelp"), {**metrics, **changed}, history, None, {})


def pair(*models: Result) -> collapse.Pair:
    found = collapse.choose_pair(models, 2, 10, "sentence")
    assert found is not None

    return found


def compared(difference: float, error: float = 0.0) -> Comparison:
    """The NLL of 40 examples under a VAE and a DU-VAE, and the spread of their differences around the mean."""
    hard, noise = np.linspace(20, 40, 40), error * np.resize([-1.0, 1.0], 40)

    return Comparison({"vae": {1: hard}, "du_vae": {1: hard + difference + noise}})


END: dict[str, Any] = {"ending": "decays", "decays": 5}
ALIVE: dict[str, float | None] = {"kl": 1.5, "mi": 1.25, "au": 2, "mpd": 4.5, "ce": 1.5, "use": 3.0}


def test_a_collapse_is_told_as_one_and_only_then() -> None:
    _, vae, du_vae, both, _ = collapse.paragraphs(
        pair(model("vae"), model("du_vae", course=lambda e: 1 + 0 * e, **ALIVE)), compared(0.01, 2.0)
    )
    assert (
        "KL of 0.00 nats and an MI of 0.00; log p(x|z) is 0.00 nats higher than with the z of another sentence" in vae
    )
    assert "sentence; 0 of 2 dimensions are active" in vae
    assert "CE 2.84, equal to two digits to the prior's: it has collapsed‡." in vae
    assert "stayed under 0.1 nats in all 20 epochs, although its KL was 0.50 nats in epoch 1" in vae
    assert "CE 1.50, 1.34 nats below the prior's: it has not collapsed‡." in du_vae
    assert "0.1 nats or more in all 20 epochs" in du_vae
    assert "lie 4.50 nats apart on average under DU-VAE and 0.00 under VAE" in both
    assert "Its NLL, compared on the same sentences: not distinguishable (95 % interval of the diff" in both
    assert "erence −0.64 to 0.66 nats; one seed, so other seeds may differ)" in both
    assert "The means are 30.00 and 30.00" in both
    assert both.endswith(
        "‡ None of these 2 trainings converged (epochs: 20), so the differences may change with more epochs."
    )
    assert vae.startswith("This VAE ends, on test (one seed; other seeds may differ), with a KL")
    assert both.startswith("Side by side (one seed): ")


def test_differences_between_converged_trainings_have_no_mark() -> None:
    of = pair(model("vae", **END), model("du_vae", **ALIVE, **END))
    assert "‡" not in collapse.paragraphs(of, compared(1.5))[3]


def test_the_reason_for_the_difference_names_its_limits() -> None:
    """Batch normalization keeps means apart only above epsilon, and the bound is one of training."""
    explanation = collapse.paragraphs(pair(model("vae"), model("du_vae")), compared(1.5))[4]
    assert "apart as long as their variance over a batch, before the normalization, is far above its ε" in explanation
    assert "With an ε of 1e-5, one training on the synthetic data fell below it and collapsed" in explanation
    assert "This bound holds in training, with the dropout on variances; the figure shows evaluation" in explanation
    assert "cannot" not in explanation


def test_the_other_way_round_is_told_as_well() -> None:
    _, vae, du_vae, both, _ = collapse.paragraphs(
        pair(model("vae", course=lambda e: 1 + 0 * e, **ALIVE), model("du_vae", nll=31.5)), compared(1.5)
    )
    assert "it has not collapsed" in vae
    assert "it has collapsed" in du_vae
    assert (
        "lie 0.00 nats apart on average under DU-VAE and 4.50 under VAE, and DU-VAE's CE is 1.34 nats above VAE's"
        in both
    )
    assert "1.50 nats higher (95 % interval 1.50 to 1.50; one seed, so other seeds may differ)" in both
    assert "The means are 31.50 and 30.00" in both


def test_the_use_of_z_is_explained_only_where_it_was_measured() -> None:
    def told(**changed: float | None) -> list[str]:
        return collapse.paragraphs(pair(model("vae", **changed), model("du_vae", **changed)), Comparison({}))

    measures, vae, *_ = told(use=-0.004, use_stderr=0.01)
    assert "The use of z, on test, is by how much log p(x|z) is higher than with the z of another sentence" in measures
    assert "log p(x|z) is 0.00 nats higher than with the z of another sentence" in vae
    assert "log p(x|z) is 0.25 nats lower than with the z of another" in told(use=-0.25)[1]
    assert "The use of z" not in told(use=None, use_stderr=None)[0]
    assert "with the z of another" not in " ".join(told(use=None, use_stderr=None))
    assert not [text for text in told() if " gains " in text]


def test_the_words_about_collapse_are_those_of_the_rule() -> None:
    measures = collapse.paragraphs(pair(model("vae"), model("du_vae")), Comparison({}))[0]
    bounds = (
        "less than 0.1 nats of information about the sentence x, or if the decoder ignores z (apart from the length"
    )
    assert bounds in measures
    assert "The bounds are ours." in measures


def test_without_values_of_examples_there_is_no_difference_in_nll() -> None:
    both = collapse.paragraphs(pair(model("vae"), model("du_vae", nll=31.5)), Comparison({}))[3]
    assert "The NLL was not compared in pairs (DU-VAE 31.50 [0.10] and VAE 30.00 [0.10])." in both
    assert "less is better" not in both


@pytest.mark.parametrize(
    ("course", "said"),
    [
        (lambda e: np.where(e < 4, 0.9 - 0.2 * e, 0.0), "at most 0.70 nats, in epoch 1, and fell under 0.1 nats"),
        (lambda e: np.where(e < 4, 0.9, 0.0), "in epoch 4, when the KL weight had risen to 0.40."),
        (lambda e: np.where(e < 15, 0.5, 0.0), "fell under 0.1 nats in epoch 15, after the warm-up"),
        (lambda e: np.where(e < 6, 0.0, 0.5), "came to 0.1 nats in epoch 6, when the KL weight had risen to 0.60, and"),
        (lambda e: np.where(e % 2 == 0, 0.0, 0.5), "crossed 0.1 nats 19 times, first in epoch 2"),
    ],
)  # fmt: skip
def test_when_it_happened(course: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    assert said in collapse.mi_course([model("vae", course=course)])


def test_seeds_that_differ_are_counted() -> None:
    models = [model("vae", 1), model("vae", 2, lambda e: 1 + 0 * e, **ALIVE)]
    told = collapse.paragraphs(pair(*models, model("du_vae")), Comparison({}))[1]
    assert "of its seeds, 1 of 2 collapsed" in told
    assert "(means over 2 seeds)" in told
    assert "1 of 2 dimensions is active" in told


def test_the_two_columns_share_their_scales() -> None:
    of = pair(model("vae"), model("du_vae", course=lambda e: 1 + 0 * e, **ALIVE))
    axes = np.reshape(collapse.figure(of).axes, (5, 2))
    for left, right in axes:
        assert left.get_ylim() == right.get_ylim()
        assert left.get_xlim() == right.get_xlim()
        assert left.patches[0].get_width() == 10  # the warm-up
    dots = [line for line in axes[1, 1].lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [(18, 1.0)]
    assert collapse.choose_pair([model("vae")], 2, 10, "sentence") is None
