"""The page of a study names its commit, and the trials that may not have converged."""

import pandas as pd

from duvae.report import studies

SUMMARY = {"space": {"gamma": [0.5, 1.0]}, "system": "du_vae", "best": None, "epochs_of_a_training": 50}


def trials(*rows: tuple[str, int]) -> pd.DataFrame:
    known = dict.fromkeys(("gamma", "nll", "nll_stderr", "kl", "mi"), 1.0)

    return pd.DataFrame(
        [
            {"trial": place, **known, "state": state, "epochs": epochs, "why": ""}
            for place, (state, epochs) in enumerate(rows)
        ]
    )


def test_trials_at_the_limit_or_stopped_early_are_named() -> None:
    frame = trials(("complete", 50), ("complete", 41), ("pruned", 10), ("pruned", 50), ("failed", 2))
    (line,) = studies.ending_lines(SUMMARY, frame)
    assert line.startswith("‡ Of 5 trials, 1 reached the limit of 50 epochs and 2 were stopped early.")
    assert studies.ending_lines(SUMMARY, trials(("complete", 41))) == []
    marks = [row.cells[1].mark for row in studies.trials_table(SUMMARY, frame).rows]
    assert marks == ["‡", "", "", "", ""]


def test_the_commit_of_a_study_is_named_or_said_to_be_unknown() -> None:
    assert studies.origin_line({"commit": "0123456789", "dirty": True}) == "The study ran at commit 0123456+."
    assert studies.origin_line({}) == (
        "The commit of this study is not known: an earlier version made it and kept no record."
    )
    assert studies.origin_line({"commit": None}).endswith("its record names none.")
