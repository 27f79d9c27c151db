"""The rule that ends trainings of a study early (pruning).

A study (a search for hyperparameters) compares the curves of its trainings at certain epochs, called rungs. The tests
use curves made by hand and random curves.
"""

import math
from collections.abc import Sequence

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from duvae.config import Prune
from duvae.search.pruning import MI, Curve, StudyPruner, reason_to_prune

RULE = Prune(rungs=[2, 4, 8], keep=0.34, grace=3)
WARMUP = 5


def curve_after_warmup(after: Sequence[float], mi: Sequence[float] = (), before: float = 90.0) -> Curve:
    """A training curve with the losses `after`, and the values `mi` if given, in the epochs after the warm-up."""
    return Curve([before] * WARMUP + list(after), [0.1] * WARMUP + list(mi) if mi else ())


losses = st.floats(20, 60)
information = st.floats(0, 3)
epochs = st.integers(1, 14)


@st.composite
def curves(draw: st.DrawFn, length: int | None = None) -> Curve:
    n = length if length is not None else draw(epochs)

    return Curve(draw(st.lists(losses, min_size=n, max_size=n)), draw(st.lists(information, min_size=n, max_size=n)))


# ------------------------------------------------------------------- curves made by hand


def test_the_worst_of_four_ends_at_a_rung_and_not_between_rungs() -> None:
    others = [curve_after_warmup([50 - k] * 10) for k in range(1, 4)]

    assert reason_to_prune(curve_after_warmup([50]), others, WARMUP, RULE) is None
    assert (
        reason_to_prune(curve_after_warmup([50, 50]), others, WARMUP, RULE)
        == "loss 50.00 after 7 epochs, 3 of 3 were lower"
    )
    assert reason_to_prune(curve_after_warmup([50, 50, 50]), others, WARMUP, RULE) is None
    assert reason_to_prune(curve_after_warmup([40, 50]), others, WARMUP, RULE) is None  # the lowest loss so far counts


def test_the_first_to_reach_a_rung_goes_on() -> None:
    others = [
        curve_after_warmup([10]),
        curve_after_warmup([10], [2.0]),
    ]  # both have lower losses, but have not reached the rung

    assert reason_to_prune(curve_after_warmup([50, 50]), others, WARMUP, RULE) is None


def test_losses_of_the_warmup_count_for_nobody() -> None:
    others = [curve_after_warmup([45, 45], before=1.0)]

    assert reason_to_prune(curve_after_warmup([44, 44]), others, WARMUP, RULE) is None
    assert reason_to_prune(curve_after_warmup([46, 46], before=1.0), others, WARMUP, RULE)


def test_a_collapsed_training_ends_no_other_and_is_itself_ended_after_the_grace() -> None:
    """A training whose posterior collapsed (MI 0) ends no other training, although it has the lowest loss.

    The rule ends the collapsed training itself, after the first `grace` epochs, in which low MI is allowed.
    """
    collapsed = curve_after_warmup([30] * 9, [0.0] * 9)
    able = curve_after_warmup([35, 34, 34, 33], [1.5, 1.4, 1.3, 1.2])

    assert reason_to_prune(able, [collapsed], WARMUP, RULE, min_mi=1.0) is None
    assert reason_to_prune(able, [collapsed], WARMUP, RULE)  # without `min_mi`, its low loss ends `able`
    for after in (1, 2, 3):
        early = curve_after_warmup([30] * after, [0.0] * after)
        assert reason_to_prune(early, [able], WARMUP, RULE, min_mi=1.0) is None
    assert (
        reason_to_prune(curve_after_warmup([30] * 4, [0.0] * 4), [able], WARMUP, RULE, min_mi=1.0)
        == "MI at most 0.00 in epochs 7 to 9"
    )


def test_feasible_at_another_epoch_is_not_enough() -> None:
    other = curve_after_warmup([20, 20, 20, 20], [1.5, 0.5, 1.5, 1.5])  # too little MI at epoch 7, the compared epoch

    assert reason_to_prune(curve_after_warmup([50, 50], [2, 2]), [other], WARMUP, RULE, min_mi=1.0) is None
    assert reason_to_prune(curve_after_warmup([50, 50, 50, 50], [2, 2, 2, 2]), [other], WARMUP, RULE, min_mi=1.0)


def test_losses_of_epochs_without_the_information_end_no_other() -> None:
    other = curve_after_warmup(
        [20, 40, 40, 40], [0.0, 1.5, 1.5, 1.5]
    )  # collapsed at epoch 6, with the lowest loss of all

    assert reason_to_prune(curve_after_warmup([39] * 4, [2] * 4), [other], WARMUP, RULE, min_mi=1.0) is None
    assert reason_to_prune(curve_after_warmup([41] * 4, [2] * 4), [other], WARMUP, RULE, min_mi=1.0)


def test_an_information_that_falls_and_rises_again_is_waited_for() -> None:
    dips = curve_after_warmup([35, 34, 34, 33, 33], [1.5, 0.8, 0.7, 0.9, 1.2])

    assert reason_to_prune(dips, [], WARMUP, RULE, min_mi=1.0) is None
    assert reason_to_prune(curve_after_warmup([35, 34, 34, 33], [1.5, 0.8, 0.7, 0.9]), [], WARMUP, RULE, min_mi=1.0)


# ------------------------------------------------------------------- random curves


@given(st.data(), st.integers(1, WARMUP), st.sampled_from([None, 1.0]))
def test_nothing_is_judged_in_the_warmup(data: st.DataObject, length: int, min_mi: float | None) -> None:
    own, others = data.draw(curves(length)), data.draw(st.lists(curves(), max_size=5))

    assert reason_to_prune(own, others, WARMUP, RULE, min_mi) is None


@given(curves(), st.lists(curves(), max_size=6))
def test_who_is_not_feasible_there_changes_nothing(own: Curve, others: list[Curve]) -> None:
    epoch = len(own.losses)
    able = [other for other in others if len(other.losses) >= epoch and other.mi[epoch - 1] > 1.0]

    assert reason_to_prune(own, others, WARMUP, RULE, 1.0) == reason_to_prune(own, able, WARMUP, RULE, 1.0)


@given(st.data(), st.integers(1, RULE.grace))
def test_low_information_alone_ends_nothing_in_the_grace(data: st.DataObject, after: int) -> None:
    drawn = data.draw(curves(WARMUP + after))
    own = Curve(drawn.losses, [0.0] * len(drawn.losses))

    assert reason_to_prune(own, [], WARMUP, RULE, 1.0) is None


@given(curves(), st.lists(curves(), max_size=6), st.sampled_from([None, 1.0]))
def test_the_best_of_the_feasible_goes_on(own: Curve, others: list[Curve], min_mi: float | None) -> None:
    best = Curve([loss - 50 for loss in own.losses], [value + 1.001 for value in own.mi])

    assert reason_to_prune(best, others, WARMUP, RULE, min_mi) is None


@given(curves(), st.lists(curves(), max_size=8), st.floats(0.01, 1.0))
def test_as_many_go_on_as_the_rule_keeps(own: Curve, others: list[Curve], keep: float) -> None:
    """At a rung, the rule equals its plain form: sort the n trainings by loss, and keep the first ceil(keep * n)."""
    rule = RULE.model_copy(update={"keep": keep})
    epoch = len(own.losses)
    ended = reason_to_prune(own, others, WARMUP, rule) is not None
    there = [other for other in others if len(other.losses) >= epoch]
    if epoch - WARMUP not in rule.rungs:
        assert not ended
        return
    ranked = sorted(min(curve.losses[WARMUP:epoch]) for curve in [own, *there])
    bound = ranked[math.ceil(keep * len(ranked)) - 1]
    assert ended == (min(own.losses[WARMUP:epoch]) > bound)


# ------------------------------------------------------------------- the rule as Optuna's pruner


def test_the_pruner_reads_the_trials_of_the_study() -> None:
    study = optuna.create_study(pruner=StudyPruner(WARMUP, 100, RULE, 1.0))
    for loss, information_, state in ((30.0, 0.0, TrialState.COMPLETE), (35.0, 2.0, TrialState.PRUNED)):
        values = dict.fromkeys(range(1, 10), loss)
        study.add_trial(
            create_trial(state=state, value=loss, intermediate_values=values, user_attrs={MI: [[information_] * 9]})
        )
    study.add_trial(create_trial(state=TrialState.FAIL, intermediate_values={1: 1.0}))

    def pruned(loss: float) -> bool:
        trial = study.ask()
        trial.set_user_attr(MI, [[2.0] * 7])
        for epoch in range(1, 8):
            trial.report(loss, epoch)
        ended = trial.should_prune()
        study.tell(trial, state=TrialState.PRUNED)

        return ended

    assert not pruned(34.0)
    assert pruned(36.0)
    assert not optuna.pruners.BasePruner.__abstractmethods__ - set(vars(StudyPruner))


@pytest.mark.parametrize("min_mi", [None, 1.0])
def test_without_a_rule_nothing_is_ended(min_mi: float | None) -> None:
    study = optuna.create_study(pruner=StudyPruner(0, 100, None, min_mi))
    trial = study.ask()
    trial.report(1e9, 1)

    assert not trial.should_prune()
