"""Captions and sentences say what a number does not cover, and claim no more than the numbers show."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from duvae.report import likelihood_table, tables
from duvae.report.comparison import Comparison
from duvae.report.evidence import Check
from duvae.report.results import Result
from test_paper_claims import found, model

# ---------------------------------------------------------------------------------- probes


def accuracies(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], seeds: int) -> Check:
    """Compares the probes of two systems, given the accuracies on the labelled subsets for each number of labels."""
    of = found({"du_vae": 0.0, "ae": 0.0}, seeds)

    def probed(result: Result) -> Result:
        draws = first if result.system == "du_vae" else second
        by_labels = {
            str(100 * (place + 1)): {"accuracy": 50.0, "spread": 1.0, "draws": list(each)}
            for place, each in enumerate(draws)
        }

        return dataclasses.replace(result, probe={"by_labels": by_labels})

    return dataclasses.replace(of, results=[probed(each) for each in of.results]).more_accurate("du_vae", "ae")


def test_a_range_over_numbers_of_labels_does_not_look_like_an_interval() -> None:
    check = accuracies([[60.0], [62.5]], [[60.5], [61.5]], 1)
    assert check.text == (
        "accuracy of DU-VAE minus AE: between −0.5 and +1.0 points over 2 numbers of labels (one seed, so no interval)"
    )
    check = accuracies([[60.0]], [[60.5]], 1)
    assert check.text.endswith("−0.5 points over one number of labels (one seed, so no interval)")


def test_the_least_favourable_interval_of_accuracies_is_named() -> None:
    """The differences of both sizes are equal for all seeds and subsets, so only the test examples count."""
    check = accuracies([[90.0, 90.0], [60.0, 60.0]], [[60.0, 60.0], [59.0, 59.0]], 2)
    half = 2.2414 * 100 * ((0.6 * 0.4 + 0.59 * 0.41) / 200) ** 0.5

    assert check.holds is None
    assert check.text == (
        "accuracy of DU-VAE minus AE: between +1.0 and +30.0 points over 2 numbers of labels (of 2 intervals, 1 above 0"
        f" and 1 around 0; least favourable interval −{half - 1:.1f} to +{1 + half:.1f})"
    )


@pytest.mark.parametrize(
    ("draws", "words"),
    [
        ([[60.0], [62.0]], "; one labelled subset for each number of labels: its choice is not covered)"),
        ([[60.0, 61.0], [62.0]], "; one labelled subset for 1 of the 2 numbers of labels: its choice is not covered)"),
        ([[60.0, 61.0], [62.0, 63.0]], ")"),
    ],
)
def test_a_single_labelled_subset_is_named(draws: list[list[float]], words: str) -> None:
    text = accuracies(draws, draws, 2).text

    assert text.endswith(words)
    assert ("not covered" in text) == (len(words) > 1)


def test_the_table_of_probes_names_a_single_labelled_subset() -> None:
    def caption(*draws: Sequence[float]) -> str:
        models = [probed(model("vae", 1, first), second) for first, second in [draws]]
        table = tables.probes(models, {"vae": "#000000"})
        assert table is not None

        return table.caption

    def probed(result: Result, draws: Sequence[float]) -> Result:
        more: dict[str, Any] = {"accuracy": 60.0, "spread": 1.0, "draws": list(draws)}
        assert result.probe is not None

        return dataclasses.replace(
            result, probe={"by_labels": {**result.probe["by_labels"], "500": more}, "largest_class": 50.0}
        )

    single = "one labelled subset for each number, whose choice is not covered."
    some = (
        "labelled subsets, mean over seeds; without brackets there is one labelled subset, whose choice is not covered."
    )
    assert single in caption([60.0], [61.0])
    assert some in caption([60.0, 61.0], [61.0])
    assert "not covered" not in caption([60.0, 61.0], [61.0, 62.0])
    assert caption([60.0], [61.0]).endswith("a classifier of them can be accurate although the decoder ignores z.")


# ---------------------------------------------------------------------------------- the table of metrics


def test_the_caption_explains_the_brackets_of_the_columns_that_have_some() -> None:
    hard = np.linspace(20, 40, 50)
    flow = model("iaf_fb", 1, mi=None, au=None, mpd_t=2.0, mpd_t_stderr=0.1, ce_t=1.0, ce_t_stderr=0.1)
    models = [model("vae", 1), flow]
    compared = Comparison({"vae": {1: hard}, "iaf_fb": {1: hard + np.linspace(0, 0.2, 50)}})

    def caption(results: Sequence[Result], compared: Comparison) -> str:
        return likelihood_table.likelihood(results, {"vae": "", "iaf_fb": "", "ae": ""}, compared).caption

    assert (
        "; in brackets the standard error over sentences, for Minus VAE's half of the 95 % interval of that comparison"
        " alone, for MPD of zᵀ and CE of zᵀ the standard error of sampling; – where a system has no such number."
    ) in caption(models, compared)
    assert "; in brackets the standard error over sentences; – where" in caption([model("vae", 1)], Comparison({}))
    bare = model("ae", 1, use=None, use_stderr=None, **dict.fromkeys(("nll", "nll_stderr", "kl", "mi", "mpd", "ce")))
    assert "in brackets" not in caption([bare], Comparison({}))
