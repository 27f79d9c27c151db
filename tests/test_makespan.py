"""The duration of a rebuild from start to end: the order of the scheduler, played with estimated durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.makespan import makespan
from pipelines.stage_graph import Stage


def stages(upstream: dict[str, list[str]]) -> dict[str, Stage]:
    return {name: Stage(name, tuple(names), (), False) for name, names in upstream.items()}


JOBS = stages({"train@a": [], "evaluate@a": ["train@a"], "train@b": [], "evaluate@b": ["train@b"], "page": []})
SECONDS = {"train@a": 5.0, "evaluate@a": 1.0, "train@b": 3.0, "evaluate@b": 4.0}


@pytest.mark.parametrize(("slots", "expected"), [(1, 13.0), (2, 7.0), (9, 7.0)])
def test_the_longest_chain_starts_first(slots: int, expected: float) -> None:
    """With two slots, training b and its evaluation take 7 s, and those of a 6 s beside them."""
    assert makespan(JOBS, SECONDS, slots) == expected


def test_a_long_stage_does_not_wait_for_short_ones() -> None:
    assert makespan(stages({"a": [], "b": [], "long": []}), {"a": 1.0, "b": 1.0, "long": 2.0}, 2) == 2


def test_stages_that_do_not_wait_take_no_time() -> None:
    assert makespan(JOBS, SECONDS, 2, ["evaluate@a", "train@b", "evaluate@b"]) == 7
    assert makespan(JOBS, SECONDS, 1, ["evaluate@a"]) == 1
    assert makespan(JOBS, SECONDS, 2, []) == 0
    assert makespan(JOBS, {}, 1) == 0


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Stage], dict[str, float]]:
    """Stages in an order in which each one may depend on some of those before it, and their durations."""
    names = [f"stage{n}" for n in range(draw(st.integers(1, 9)))]
    upstream = {
        name: draw(st.lists(st.sampled_from(names[:n]), unique=True)) if n else [] for n, name in enumerate(names)
    }

    return stages(upstream), {name: draw(st.floats(0, 100)) for name in names}


@given(graphs(), st.integers(1, 5))
def test_no_schedule_beats_the_longest_chain_or_the_sum_and_grahams_bound_holds(
    graph: tuple[dict[str, Stage], dict[str, float]], slots: int
) -> None:
    found, seconds = graph
    chains: dict[str, float] = {}
    for name, stage in found.items():
        chains[name] = seconds[name] + max((chains[upstream] for upstream in stage.upstream), default=0.0)
    longest, total = max(chains.values()), sum(seconds.values())
    result = makespan(found, seconds, slots)
    assert result >= max(longest, total / slots) - 1e-9
    assert result <= total / slots + longest * (1 - 1 / slots) + 1e-9
