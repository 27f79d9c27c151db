"""The benchmarks at a tiny size: every row is present, and each fast form agrees with its plain form."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import large_text, measure, plain
from benchmarks.large_text import YAHOO
from benchmarks.measure import Row, table
from benchmarks.synthetic import posteriors

from duvae.metrics import geometry
from duvae.metrics.geometry import mutual_information
from duvae.metrics.likelihood import importance_weighted_nll
from family import build, documents, lively

ROOT = Path(__file__).parents[1]
ROWS = [
    *(
        f"step of {name}"
        for name in (
            *("vae", "ae", "bn_vae", "du_vae", "iaf_fb", "iaf_bn", "du_iaf"),
            *(f"{name}, share of the plain form's" for name in ("vae", "du_vae")),
            *(f"{flow}, share of vae's" for flow in ("iaf_fb", "iaf_bn", "du_iaf")),
            *("agg_vae, encoder only", "agg_vae, decoder only"),
        )
    ),
    "encoder-only step, share of vae's",
    "step of sa_vae",
    "step of sa_vae, over vae's",
    "epoch of sa_vae, over vae's",
    "importance-weighted NLL",
    "importance-weighted NLL, speed-up",
    "log p(x|z), difference from the plain form",
    *(f"{name} trained and evaluated" for name in ("vae", "ae", "bn_vae", "du_vae")),
    "history of an epoch",
    *(f"importance-weighted NLL of {flow}, share of vae's" for flow in ("iaf_fb", "iaf_bn", "du_iaf")),
    "MPD and CE of z^T",
    "mutual information",
    *2 * ["mutual information, speed-up", "mutual information, difference from that form"],
    "mutual information, memory",
    "preparing the synthetic data",
    "validating the synthetic data",
    "true NLL of the synthetic data",
    "duvae --help",
    *(
        f"{what} at the Yahoo size{of}"
        for what in ("step", "importance-weighted NLL")
        for of in ("", ", share of the product's rate", ", share of oneDNN's rate")
    ),
    *(
        f"importance-weighted NLL at the short Yelp size{of}"
        for of in ("", ", speed-up", ", difference from the plain form")
    ),
    "preparing 200 documents",
    "preparing 200 documents, memory",
    "step at the Yahoo size, memory",
    "step on images",
    "step on images, speed-up",
    "importance-weighted NLL of images",
    "importance-weighted NLL of images, speed-up",
    "log p(image|z), difference from the plain form",
    "3 images sampled",
    "3 images sampled, speed-up",
    "3 images sampled, difference of logits from a whole pass",
    "3 images sampled, difference from another run",
    "step on images, memory",
]


def test_a_tiny_run_has_every_row_and_the_forms_agree(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    call = [sys.executable, "-m", "benchmarks", "--tiny", "--output", str(output)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("---"))
    cells = [re.split(r" {2,}", line) for line in lines[start + 1 :]]

    assert [line[0] for line in cells] == ROWS
    assert done.stdout.strip() in output.read_text(encoding="utf-8")
    assert lines[0].split(", ")[1].startswith("commit ")
    for (
        name,
        value,
        *_,
    ) in (line for line in cells if "difference" in line[0]):
        assert float(value) < (1e-3 if "log p" in name else 1e-4)


def test_the_table_says_what_is_kept_to() -> None:
    rows = [
        Row("a", 1.234, "s", 99.6, must=2, aim=1.5),
        Row("b", 1.8, "s", 99.6, must=2, aim=1.5),
        Row("c", 2.5, "s", 99.6, must=2, aim=1.5),
        Row("d", 12, "x", 99.6, must=10, least=True, note="why"),
        Row("e", 9, "x", 99.6, must=10, least=True),
        Row("f", 3e-7, "nats", 99.6),
    ]

    assert [row.met for row in rows] == ["aim", "must", "NO", "must", "NO", ""]
    lines = table(rows).splitlines()
    assert lines[2] == "a      1.23  s     <= 2   <= 1.5  aim       100"
    assert lines[5] == "d        12  x     >= 10          must      100  why"
    assert "3e-07" in lines[-1]


def test_cpu_time_is_of_the_call_and_of_what_it_starts() -> None:
    assert 0 < measure.cpu(lambda: torch.rand(300, 300) @ torch.rand(300, 300)) < 60
    seconds, wall, said = measure.cpu_of([sys.executable, "-c", "print(sum(range(3_000_000)))"], ROOT)

    assert said.strip() == "4499998500000"
    assert seconds > 0
    assert wall > 0
    assert measure.rate(1) > 0


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_mutual_information_by_broadcasting(rows: int) -> None:
    drawn = posteriors(60, 3)

    assert plain.mutual_information(*drawn, rows) == pytest.approx(mutual_information(*drawn), abs=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_mutual_information_in_single_precision(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale 0 means collapsed posteriors; scale 1 means spread ones."""
    mean, variance, z = posteriors(400, 8)
    z += (scale - 1) * mean
    double = mutual_information(scale * mean, variance, z)
    monkeypatch.setattr(geometry, "LARGE", 400)
    single = mutual_information(scale * mean, variance, z)

    assert single != double
    assert single == pytest.approx(double, abs=2e-6)


def test_mutual_information_stays_in_double_precision_where_single_would_not_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mean, variance, _ = posteriors(400, 8)
    variance = 1e-6 * variance
    z = mean + np.sqrt(variance)
    double = mutual_information(mean, variance, z)
    monkeypatch.setattr(geometry, "LARGE", 400)

    assert mutual_information(mean, variance, z) == double


def test_the_likelihood_sentence_by_sentence() -> None:
    model, _ = build("vae")
    lively(model)
    part = documents(6)
    many = 20_000
    found = importance_weighted_nll(model, part, many, torch.device("cpu"), 1)

    assert plain.importance_weighted_nll(model, part, many, 2) == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize("at_once", [None, 1, 7, 40])
def test_the_likelihood_by_the_whole_decoder(at_once: int | None) -> None:
    model, _ = build("vae")
    lively(model)
    part = documents(4)
    word_by_word = plain.importance_weighted_nll(model, part, 30, 1)

    assert plain.importance_weighted_nll(model, part, 30, 1, plain.whole_decoder, at_once) == pytest.approx(
        word_by_word, abs=1e-4
    )


def test_the_arithmetic_of_a_step() -> None:
    """At the Yahoo size, a step takes 511 GFLOP. The shapes of the weights give the same number."""
    assert round(YAHOO.step_operations() / 1e9) == 511
    size = large_text.TINY.large
    model, shapes = size.model(), 0
    for part, ids in ((model.encoder, size.ids), (model.decoder, size.ids - 1)):
        used = [value for name, value in part.named_parameters() if name.startswith(("lstm.weight", "output"))]
        shapes += size.batch * ids * sum(value.numel() for value in used)
    assert size.step_operations() == 6 * shapes
    recurrent = (
        model.decoder.get_parameter("lstm.weight_hh_l0").numel() + model.decoder.get_parameter("output.weight").numel()
    )

    assert size.sample_operations() == 2 * (size.ids - 1) * recurrent
