"""Estimated times on a GPU: the rule, the counted work, and the durations that follow from both."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from duvae import config
from duvae.config import Params, TextNetworks
from duvae.errors import UserError
from duvae.registry import RECORDS
from pipelines import gpu_times, paper_runs
from pipelines.durations import counted_work, default_durations, gpu_memory, step_time
from pipelines.durations import gpu_times as times_of
from pipelines.gpu_times import COUNTS, RATES, Card, Time, Work, card, read
from pipelines.slots import MEMORY
from simulated.work import lstm_work

ROOT = Path(__file__).parents[1]
FAST = Card("fast", True, {"tf32": 100.0, "ieee": 10.0}, 1000.0, 6e-6, 2e-6)
SIZES = st.floats(0, 1e6)
WORKS = st.builds(Work, SIZES, SIZES, SIZES)


def raw(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    return {**found, "run": "paper", **changes}


@pytest.fixture(scope="module")
def paper() -> Params:
    return config.parse(raw())


# ---------------------------------------------------------------------------------- the rule


def test_the_longer_of_processor_and_gpu_counts() -> None:
    """1,000 kernels cost the processor 6 ms and the GPU 2 ms; a product of 1 GFLOP costs the GPU 10 ms in TF32."""
    assert FAST.time(Work(1000), "tf32") == Time(pytest.approx(6e-3), pytest.approx(2e-3))  # type: ignore[arg-type]
    assert FAST.time(Work(1000, 0.1), "tf32").seconds == pytest.approx(6e-3)
    assert FAST.time(Work(1000, 1.0), "tf32") == Time(pytest.approx(12e-3), pytest.approx(12e-3))  # type: ignore[arg-type]
    assert FAST.time(Work(1000, 1.0), "ieee").seconds == pytest.approx(102e-3)
    assert FAST.time(Work(0, 0, 1.0), "ieee").seconds == pytest.approx(1e-3)


def test_the_stage_samples_draws_images_many_times_and_texts_once() -> None:
    """A mean needs 50 images for each of 40 z. At most 512 are drawn at once: those of ten z, so in four calls."""
    params = config.parse(raw())
    for dataset, draws, calls in (("yahoo", 1, 1), ("omniglot", 50, 4)):
        counted = counted_work(params, params.job(dataset, "vae", 1))
        assert counted is not None
        work = counted.generated
        once = FAST.time(work, "ieee")
        second = FAST.time(Work(work.launches * calls, work.gflop * draws, work.gbytes * draws), "ieee")
        found = counted.samples(FAST)
        assert found.seconds == pytest.approx(2 * (once.seconds + second.seconds))
        assert found.busy == pytest.approx(2 * (once.busy + second.busy))


@given(WORKS, WORKS, st.sampled_from(["tf32", "ieee"]))
def test_more_work_takes_no_less_time_and_no_gpu_is_busier_than_all_the_time(
    one: Work, two: Work, precision: str
) -> None:
    time, more = (
        FAST.time(work, precision)
        for work in (one, Work(one.launches + two.launches, one.gflop + two.gflop, one.gbytes + two.gbytes))
    )
    assert more.seconds >= time.seconds
    assert 0 <= time.busy <= time.seconds * (1 + 1e-12)
    if one.launches:
        assert FAST.kernel / FAST.launch - 1e-9 <= time.share <= 1 + 1e-12
    assert (time + more).seconds == time.seconds + more.seconds


def test_the_longest_name_of_a_card_fits_and_another_card_counts_as_the_first() -> None:
    assert (card("NVIDIA H100 80GB HBM3").name, card("NVIDIA H100 80GB HBM3").known) == ("H100", True)
    assert card("NVIDIA H100 PCIe").name == "H100 PCIe"
    assert card("NVIDIA A100-SXM4-80GB").name == "A100"
    unknown = card("NVIDIA GeForce RTX 4090")
    assert (unknown.name, unknown.known, unknown.rates) == ("H100", False, card().rates)
    table = read(RATES)
    assert card("H200").bandwidth == pytest.approx(table["cards"]["H200"]["bandwidth"] * table["share"]["bandwidth"])


@pytest.mark.parametrize("name", ["COUNTS", "RATES"])
def test_a_merge_conflict_in_a_file_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "numbers.yaml"
    broken.write_text("a:\n<<<<<<< HEAD\n  b: 1\n=======\n  c: 2\n>>>>>>> other\n", encoding="utf-8")
    monkeypatch.setattr(gpu_times, name, broken)
    with pytest.raises(UserError, match=r"numbers\.yaml: expected the durations of stages, in YAML .*merge conflict"):
        default_durations(config.parse(raw()), card())


# ---------------------------------------------------------------------------------- the counted work


def test_the_counts_are_those_of_todays_sizes_and_of_every_system(paper: Params) -> None:
    """If this fails, run `make counts` and `python -m pipelines.paper_runs`."""
    counts = read(COUNTS)
    assert counts["samples"] == paper.evaluation.importance_samples
    for name, row in counts["datasets"].items():
        assert row["networks"] == paper.dataset(name).networks.model_dump(), name
        assert row["batch"] == paper.dataset(name).optimisation.batch, name
        assert list(row["systems"]) == list(RECORDS), name
        assert all("nll" in rows for system, rows in row["systems"].items() if system != "ae")
        assert "nll" not in row["systems"]["ae"]
    assert set(paper_runs.DATASETS) < set(counts["datasets"])


@pytest.mark.parametrize("dataset", ["synthetic", "short_yelp", "yahoo", "yelp"])
def test_the_counted_arithmetic_of_texts_is_that_of_the_equations(dataset: str, paper: Params) -> None:
    """A step needs three times its forward pass: two LSTMs and the vocabulary; docs/speed.md has 511 GFLOP for yahoo.

    The NLL needs the recurrent product and the vocabulary for each of 500 samples. The inputs of the gates, which are
    computed once per sentence, are left out here.
    """
    row, sizes = read(COUNTS)["datasets"][dataset], paper.dataset(dataset).networks
    assert isinstance(sizes, TextNetworks)
    batch, words, ids, (e, h, latent) = (
        row["batch"],
        row["words"],
        row["ids"],
        (sizes.embedding, sizes.hidden, sizes.latent),
    )
    encoder, decoder = ids * 4 * h * (e + h), (ids - 1) * 4 * h * (e + latent + h)
    step = 3 * 2 * batch * (encoder + decoder + (ids - 1) * h * words) / 1e9
    nll = 500 * 2 * (ids - 1) * (4 * h * h + h * words) / 1e9
    assert row["systems"]["vae"]["step"][1] == pytest.approx(step, rel=0.01)
    assert row["systems"]["vae"]["nll"][1] == pytest.approx(nll, rel=0.02)
    if dataset == "yahoo":
        assert step == pytest.approx(511.1, abs=0.1)


def test_the_work_of_systems_has_the_expected_order() -> None:
    """Flows and SA-VAE take more than VAE. An encoder step of Agg-VAE takes no more than a step, and most of it."""
    for name, row in read(COUNTS)["datasets"].items():
        step = {system: rows["step"] for system, rows in row["systems"].items()}
        assert step["ae"][0] < step["vae"][0] < step["du_vae"][0] < step["du_iaf"][0] < step["sa_vae"][0], name
        assert step["agg_vae"] == step["vae"]
        inner = row["systems"]["agg_vae"]["inner"]
        assert all(0.5 * whole <= part <= whole for part, whole in zip(inner, step["vae"], strict=True)), name
        assert all(rows["memory"][0] > 0 for rows in row["systems"].values())


@given(st.integers(1, 64), st.integers(1, 99), st.integers(1, 99), st.integers(1, 99))
def test_an_lstm_backwards_has_two_products_for_each_forward_one(
    batch: int, length: int, inputs: int, hidden: int
) -> None:
    ahead, back = lstm_work(batch, length, inputs, hidden)
    assert ahead.flops == 2 * batch * length * 4 * hidden * (inputs + hidden)
    assert back.flops == 2 * ahead.flops
    assert ahead.launches >= 2 * length
    assert ahead.bytes >= 4 * 4 * hidden * hidden * length  # it reads the recurrent weights for each word


# ---------------------------------------------------------------------------------- durations


def test_a_training_takes_its_steps_and_the_encoding_of_the_validation_examples(paper: Params) -> None:
    kind, rows = card(), read(COUNTS)["datasets"]["yahoo"]["systems"]["vae"]
    step = kind.time(Work(*rows["step"]), "tf32").seconds
    encode, nll = (kind.time(Work(*rows[name]), "ieee").seconds for name in ("encode", "nll"))
    seconds = default_durations(paper, kind)
    assert seconds["train@yahoo-vae-1"] == pytest.approx(120 * (3125 * step + 10_000 * encode))
    assert seconds["evaluate@yahoo-vae-1"] == pytest.approx(10_000 * (encode + nll))
    assert seconds["samples@yahoo-vae-1"] > 0
    assert set(seconds) == {f"{kind}@{job.name}" for kind in ("train", "evaluate", "samples") for job in paper.jobs()}


def test_factors_of_agg_vae_and_no_nll_of_ae(paper: Params) -> None:
    kind = card()
    jobs = {job.name: job for job in paper.jobs()}
    for dataset, factor in (("yahoo", 4), ("omniglot", 10)):
        plain, more = (
            step_time(paper, job, work, kind).seconds
            for job in (jobs[f"{dataset}-vae-1"], jobs[f"{dataset}-agg_vae-1"])
            if (work := counted_work(paper, job)) is not None
        )
        assert 0.6 * factor * plain < more <= factor * plain
    seconds = default_durations(paper, kind)
    assert seconds["evaluate@short_yelp-ae-1"] < 0.1 * seconds["evaluate@short_yelp-vae-1"]


def test_precision_and_samples_change_the_times(paper: Params) -> None:
    def seconds(**changes: Any) -> dict[str, float]:
        return default_durations(config.parse(raw(**changes)), card())

    known = default_durations(paper, card())
    slow = seconds(precision={"training": "ieee", "evaluation": "ieee"})
    assert slow["train@yahoo-vae-1"] > known["train@yahoo-vae-1"]
    assert slow["evaluate@yahoo-vae-1"] == known["evaluate@yahoo-vae-1"]
    more = seconds(evaluation={**raw()["evaluation"], "importance_samples": 1000})
    assert more["evaluate@yahoo-vae-1"] == pytest.approx(2 * known["evaluate@yahoo-vae-1"], rel=0.02)
    few = raw()["datasets"]
    few["yahoo"]["nll_examples"] = 100
    assert seconds(datasets=few)["evaluate@yahoo-vae-1"] < 0.02 * known["evaluate@yahoo-vae-1"] + 10


@pytest.mark.parametrize("change", ["networks", "batch"])
def test_other_sizes_than_those_counted_have_no_estimate(change: str) -> None:
    given_ = raw()
    if change == "networks":
        given_["datasets"]["omniglot"]["networks"]["width"] = 32
    else:
        given_["datasets"]["omniglot"]["optimisation"]["batch"] = 51
    params = config.parse(given_)
    for found in (default_durations(params, card()), gpu_memory(params), times_of(params, card())):
        assert not any("omniglot-" in name for name in found)
        assert any("yahoo-" in name for name in found)


def test_the_memory_of_a_stage_is_its_tensors_with_a_margin(paper: Params) -> None:
    rates, rows = read(RATES), read(COUNTS)["datasets"]["omniglot"]["systems"]["vae"]["memory"]
    memory = gpu_memory(paper)
    assert rates["safety"] > 1
    for kind, tensors in (("train", rows[0]), ("evaluate", rows[1]), ("probe", rows[1]), ("samples", rows[1])):
        expected = rates["safety"] * tensors + rates["context_mib"]
        assert math.isclose(memory[f"{kind}@omniglot-vae-1"], expected), kind


# ---------------------------------------------------------------------------------- the page


def test_the_page_has_todays_estimates() -> None:
    """If this fails, run `python -m pipelines.paper_runs`."""
    page = paper_runs.PAGE.read_text(encoding="utf-8")
    assert paper_runs.section(page, paper_runs.render(raw())) == page
    assert page.count(paper_runs.HEADING) == 1


def test_the_page_of_rebuilds_has_todays_rule_and_example(paper: Params) -> None:
    page, rates = (ROOT / "docs/rebuild.md").read_text(encoding="utf-8"), read(RATES)
    words = " ".join(page.split())
    times = "\N{MULTIPLICATION SIGN}"
    assert f"{MEMORY:g} {times} the memory of the GPU" in words
    assert f"{rates['context_mib']} MiB are added for the CUDA context" in words
    assert f"{rates['safety']:g} {times} the tensors that were counted" in words
    assert f"take {rates['kernel_us']:g} µs on the GPU and {rates['launch_us']:g} µs of the processor" in words
    assert paper_runs.example(paper) in page
    for dataset in paper_runs.DATASETS:
        count = 2 if dataset == "synthetic" else 1
        assert paper_runs.example(paper, dataset).startswith(f"slots: {count} at a time"), dataset


def test_the_hours_of_the_paper_are_those_of_the_planner(paper: Params) -> None:
    """One GPU takes the sum of all tasks, and eight no less than the longest chain of tasks."""
    seconds = default_durations(paper, card(paper_runs.MODEL))
    text = paper_runs.runs(paper, card(paper_runs.MODEL))
    rows = {line.split(" | ")[0]: line.strip(" |").split(" | ") for line in text.splitlines() if "H100 |" in line}
    one, eight = (float(rows[f"| {count} H100"][2]) for count in (1, 8))
    chains = [
        seconds[f"train@{job.name}"] + max(seconds[f"{kind}@{job.name}"] for kind in ("evaluate", "samples"))
        for job in paper.jobs()
    ]
    assert one == pytest.approx(sum(seconds.values()) / 3600, abs=0.51)
    assert eight >= max(sum(seconds.values()) / 8, *chains) / 3600 - 0.51
    assert eight < one / 2


def test_a_section_is_replaced_and_its_neighbours_stay() -> None:
    page = f"# A\n\n## B\nb\n\n{paper_runs.HEADING}\n\nold\n\n## C\nc\n"
    text = f"{paper_runs.HEADING}\n\nnew\n"
    assert paper_runs.section(page, text) == f"# A\n\n## B\nb\n\n{text}\n## C\nc\n"
