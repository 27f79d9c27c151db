"""The pages say which weights a training kept that ended before the end of its warm-up."""

from dataclasses import replace
from pathlib import Path

import made_up
from duvae.report import page, results, tables


def test_pages_say_which_weights_a_short_training_kept(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "bn_vae", "du_vae"])
    made_up.project(tmp_path, params, params.run_jobs())
    whole, best, last = results.read(params, params.run_jobs(), tmp_path)
    best, last = (replace(result, metrics={**result.metrics, "warmup_ended": False}) for result in (best, last))
    last = replace(last, history=last.history.assign(best=0))
    models = [whole, best, last]
    dataset = params.dataset("synthetic")

    assert [result.last_kept for result in models] == [False, False, True]
    said = [line for line in page.size(dataset, None, models) if "warm-up" in line]
    assert said == [
        "The training of DU-VAE ended before the end of its warm-up: the last weights were kept, not the best.",
        "The training of BN-VAE ended before the end of its warm-up: the best weights were kept.",
    ]
    assert not [line for line in page.size(dataset, None, [whole]) if "warm-up" in line]
    notes = [row.note for row in tables.costs(models, dict.fromkeys(("vae", "bn_vae", "du_vae"), "black")).rows]
    assert "warm-up" not in notes[0]
    assert "ended before its warm-up, best weights kept" in notes[1]
    assert "ended before its warm-up, last weights kept" in notes[2]
