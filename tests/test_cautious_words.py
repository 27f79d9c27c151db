"""Captions and sentences say what a number does not cover, and claim no more than the numbers show."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from duvae.commands import search
from duvae.report import likelihood_table, study_text, tables
from duvae.report.checks import Check
from duvae.report.comparison import Comparison
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
        "labelled subsets, mean over seeds (too small for large subsets, since these overlap); without brackets there"
        " is one labelled subset, whose choice is not covered."
    )
    assert single in caption([60.0], [61.0])
    assert some in caption([60.0, 61.0], [61.0])
    assert "choice is not covered" not in caption([60.0, 61.0], [61.0, 62.0])
    assert caption([60.0], [61.0]).endswith("a classifier of them can be accurate although the decoder ignores z.")


def test_the_table_of_probes_names_labelled_sentences_of_other_splits() -> None:
    """The numbers are those of the largest labelled subset, as a mean over the subsets of this size."""

    def caption(in_test: Sequence[int], in_valid: Sequence[int]) -> str:
        result = model("vae", 1, [60.0])
        assert result.probe is not None
        counted = {"draws": [61.0] * len(in_test), "in_test": list(in_test), "in_valid": list(in_valid)}
        largest = {"accuracy": 61.0, "spread": 1.0, **counted}
        by_labels = {**result.probe["by_labels"], "10000": largest}
        probed = dataclasses.replace(result, probe={"by_labels": by_labels, "largest_class": 50.0})
        table = tables.probes([probed], {"vae": "#000000"})
        assert table is not None

        return table.caption

    assert caption([33], [381]).endswith(
        " Of 10,000 labelled sentences, 33 also stand in the test set and 381 in the validation set."
    )
    assert caption([0, 1], [2, 4]).endswith(
        " Of 10,000 labelled sentences, as a mean over the subsets, 0.5 also stand in the test set and 3 in the"
        " validation set."
    )
    assert "labelled sentences" not in caption([], [])


def test_the_table_of_probes_names_the_error_of_the_choice_of_test_examples() -> None:
    """It is the standard error of a share: 100 · √(0.5 · 0.5 / 625) = 2 points for an accuracy of 50 %."""
    models = [model(system, 1, [accuracy], sentences=625) for system, accuracy in (("vae", 90.0), ("fb", 50.0))]
    models = [dataclasses.replace(each, probe={**(each.probe or {}), "largest_class": 50.0}) for each in models]
    table = tables.probes(models, dict.fromkeys(("vae", "fb"), "#000000"), item="image")

    assert table is not None
    assert (
        "The choice of the 625 test images is not covered: it alone gives a standard error of up to 2.0"
        " points, if the images are independent of each other." in table.caption
    )


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


# ---------------------------------------------------------------------------------- studies


def study(maybe_best: list[int] | None, feasible: Sequence[bool | None], **changed: Any) -> tuple[Any, pd.DataFrame]:
    """The content of study.json and trials.csv of a study; trial 1 has the lowest NLL."""
    best = {"trial": 1, "hyperparameters": {"gamma": 1.0}, "nll": 30.5, "nll_stderr": 0.34, "mi": 1.7}
    cost = {"epochs": 230, "reached": 230, "grid": 16, "grid_epochs": 800, "share": 0.2875, "saved": 570}
    summary = {"study": "tpe", "system": "du_vae", "column": "synthetic", "min_mi": 1.0, "best": best}
    summary |= {"best_of_all": best, "maybe_best": maybe_best, "cost": cost, "against": None, "space": {"gamma": [1.0]}}
    summary["seeds"] = [1]
    summary |= {"trials": {"complete": sum(each is not None for each in feasible), "pruned": 0, "failed": 0}, **changed}
    states = ["pruned" if each is None else "complete" for each in feasible]

    return summary, pd.DataFrame({"trial": range(len(feasible)), "state": states, "feasible": feasible})


def test_a_trial_is_not_compared_with_itself() -> None:
    summary, trials = study([1, 3, 4], [False, True, None, True, True])
    lines = study_text.summary_lines(summary, trials)
    assert lines[0] == "Lowest NLL with MI above 1 nats: γ 1, NLL 30.50 [0.34], MI 1.70."
    assert lines[1] == (
        "As the lowest of 3 NLL and 1 that was stopped early, all on the same validation examples, it is biased low."
    )
    assert lines[2].startswith("2 other trials cannot be distinguished from it on the same examples")
    assert lines[2].endswith("together): numbers 3 and 4. All trials have one seed.")
    assert "other trials that cannot be distinguished from it (paired, 95 %, one seed): 3, 4" in (
        search.summary_lines(summary)
    )
    (line,) = [
        line for line in study_text.summary_lines(*study([1, 3], [False, True, None, True])) if "1 other" in line
    ]
    assert line.endswith("together): number 3. All trials have one seed.")


def test_a_study_of_several_seeds_speaks_of_them() -> None:
    summary, trials = study([1, 3], [False, True, None, True, True], seeds=[1, 2])
    text = " ".join([*study_text.summary_lines(summary, trials), *search.summary_lines(summary)])
    assert "Lowest mean NLL with MI above 1 nats with every seed: γ 1" in text
    assert "(paired, 95 %, 2 seeds): 3" in text
    assert "one seed" not in text
    (line,) = [
        line for line in study_text.summary_lines(*study([1], [True, True], seeds=[1, 2])) if "lower than" in line
    ]
    assert line.endswith("on the same examples and seeds (95 % for all comparisons together).")


@pytest.mark.parametrize(
    ("feasible", "shown", "biased"),
    [([False, True, None], False, True), ([False, True], False, False), ([False, True, True], True, True)],
)
def test_a_single_trial_with_enough_information_is_lower_than_no_other(
    feasible: list[bool | None], shown: bool, biased: bool
) -> None:
    summary, trials = study([1], feasible)
    text = " ".join(study_text.summary_lines(summary, trials))
    assert ("lower than that of all other such trials" in text, "biased low" in text) == (shown, biased)
    assert "cannot be distinguished" not in " ".join([text, *search.summary_lines(summary)])


def test_the_cost_of_a_study_is_no_saving() -> None:
    winner = {"trial": 7, "hyperparameters": {"gamma": 0.9}, "nll": 30.4, "nll_stderr": 0.3, "mi": 1.5}
    against = {"study": "grid", "best": winner, "gap": 0.1, "epochs": 800, "share": 0.2875, "paired": None}
    lines = study_text.summary_lines(*study(None, [True, True], against=against))
    assert "230 epochs were trained. The grid of 16 trials takes at most 800, so this is 28.7 % of it." in lines
    assert lines[-1] == (
        "Its NLL minus that of grid's trial with the lowest NLL (γ 0.9, NLL 30.40 [0.30], MI 1.50): not compared, since"
        " the NLL of single examples is missing. It took 230 epochs, the other study 800 (28.7 %)."
    )
