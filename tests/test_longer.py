"""Trainings that go on to the fifth decay stand beside those at the limit of epochs."""

import math
from typing import Any

import numpy as np
import pandas as pd

from duvae.config import Job
from duvae.report import longer, observations, paper, results
from duvae.report.comparison import Comparison
from duvae.report.results import Result


def model(setting: str, nll: float, epochs: int, **metrics: Any) -> Result:
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(epochs))
    history["epoch"], history["learning_rate"] = range(1, epochs + 1), 1.0
    history["valid_loss"] = 40 - np.log(history["epoch"])
    history.loc[epochs - 2, "best"] = 1
    known = {"system": "vae", "hyperparameters": {}, "nll": nll, "nll_stderr": 0.1, "epochs": epochs}
    known |= dict.fromkeys(("perplexity", "reconstruction", "kl", "mi", "au", "mpd", "ce"), 0.0)
    known |= {"best_epoch": epochs - 1, "sentences": 50, "importance_samples": 500, **metrics}

    return Result(Job("made_up", setting, 1, "yelp"), known, history, None, {})


SHORT = model("vae", 30.0, 20, ending="epochs", decays=1)
LONG = model("vae_fifth_decay", 29.0, 60, ending="decays", decays=5)


def test_a_longer_training_is_compared_on_the_same_examples() -> None:
    hard = np.linspace(20, 40, 50)
    compared = Comparison({"vae": {1: hard}, "vae_fifth_decay": {1: hard - 1 + np.resize([0.1, -0.1], 50)}})
    (line,) = longer.sentences([SHORT, LONG], compared)

    assert "NLL 30.00‡ (epoch limit (20) after 1 decay, best epoch 19 of 20)." in line
    assert "Trained on (to the last decay, number 5): 29.00 (converged after 60 epochs, 5 decays)." in line
    assert "on the same examples: 1.00 nats lower (95 % interval 0.97 to 1.03; one seed" in line
    assert "had not converged" not in line
    assert longer.pairs([LONG]) == []
    ended = model("vae_fifth_decay", 29.0, 60, ending="epochs", decays=3)
    (line,) = longer.sentences([SHORT, ended], compared)
    assert "Trained on (limit 60): 29.00‡ (epoch limit (60) after 3 decays, best epoch 59 of 60)." in line
    assert line.endswith("‡ The longer training had not converged either.")
    assert longer.sentences([SHORT], compared) == []


def test_the_figure_begins_after_the_warm_up() -> None:
    (ax,) = longer.figure([SHORT, LONG], 10).axes
    lines = [line for line in ax.lines if line.get_marker() != "o"]

    assert [line.get_xdata()[0] for line in lines] == [11, 11]
    assert sorted(line.get_xdata()[-1] for line in lines) == [20, 60]


def test_the_note_on_the_papers_ceiling_follows_the_rule() -> None:
    (row,) = [row for row in paper.paper_rows("table1", "omniglot") if row.system == "mae"]
    assert observations.at_ceiling(float(row.numbers["mi"]), 8070)
    others = [row for row in paper.paper_rows("table1", "omniglot") if row.system != "mae" and row.numbers["mi"]]
    near = [
        row.system
        for row in others
        if row.numbers["mi"] not in "–-" and observations.at_ceiling(float(row.numbers["mi"]), 8070)
    ]
    assert near == []
    assert f"{math.log(8070):.2f}" == "9.00"
    assert any("9.00 for the 8,070" in note.text and note.metric == "mi" for note in paper.NOTES)
