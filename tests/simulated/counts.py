"""Counts the work that each system gives to a GPU, at the sizes of params.yaml: `make counts`. It needs no GPU.

Usage: `python -m simulated.counts [DATASET:SYSTEM ...]`. Without arguments, the program counts all systems on all data
sets of `TEXTS` and `IMAGES`, and writes `pipelines/gpu_counts.yaml`. This takes eight minutes on one core. With
arguments, the program prints the counts of these systems as JSON.

The models have the real sizes, but their tensors have no values (see `simulated.gpu`).
"""

import gc
import json
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from simulated import gpu, library

with tempfile.TemporaryDirectory() as name:
    gpu.prepare(str(library.compiled(Path(name))))

import numpy as np
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode

from duvae import config
from duvae.config import ImageNetworks, Networks
from duvae.data.splits import END, SPECIALS, START, Documents, Images, Split
from duvae.inference.model_files import Description
from duvae.metrics.encoding import BATCH, encode, evaluating
from duvae.metrics.likelihood import ROWS, importance_weighted_nll
from duvae.networks import build
from duvae.registry import HYPERPARAMETERS, RECORDS
from duvae.training.aggressive import AggressiveLoop
from duvae.training.loop import Training
from simulated.work import Work, counter

ROOT = Path(__file__).parents[2]
PARAMS = config.load(ROOT / "params.yaml")
GPU = torch.device("cuda", 0)

TEXTS = {
    "synthetic": {"words": 1_004, "ids": 12, "longest": 12},
    "short_yelp": {"words": 8_411, "ids": 12, "longest": 17},
    "short_yelp_small": {"words": 3_004, "ids": 12, "longest": 17},
    "yahoo": {"words": 20_000, "ids": 81, "longest": 202},
    "yelp": {"words": 20_004, "ids": 98, "longest": 202},
}
"""Words of the vocabulary, and word ids of a document of mean length and of the longest document, by data set.

The ids include `<s>` and `</s>`. docs/data.md has the mean lengths: 9.6 words for short_yelp, 79 for yahoo. The
documents of yelp have 96 words on average (Yang et al. 2017).
"""

IMAGES = ("omniglot", "omniglot_small")

REPRESENTATIVES = {"ae": "ae", "sa_vae": "sa_vae", **dict.fromkeys(("iaf_fb", "iaf_bn", "du_iaf"), "iaf_fb")}
"""System whose work in evaluation is counted for a system; all others have the kind of posterior that VAE has."""

FEW, MORE = 1, 2
"""Numbers of SA-VAE's steps that are run. The work grows by the same amount with each step."""

SMALL = (8, 12)
"""Sizes of the images whose generation is counted."""

GENERATED = 40
"""Number of sentences or images that are generated at once."""

COLUMNS = {
    "step": "launches, GFLOP and GB of one training step",
    "inner": "the same of a step of the encoder alone, which Agg-VAE takes",
    "encode": "the same of the encoding and reconstruction of one example",
    "nll": "the same of the NLL of one example",
    "memory": "MiB of the tensors of a training and of an evaluation",
}

HEADER = """\
# Work of each system on a GPU: counted on a simulated GPU, not measured. Written by 'make counts'; do not edit.
# An operation of PyTorch counts as one launch. tests/simulated/work.py says how LSTMs and bytes are counted.
"""


def described(dataset: str, system: str, **hyperparameters: Any) -> Description:
    """Describes the model of a system on a data set, with the hyperparameters of the system's first setting there.

    Args:
        dataset: Name of the data set.
        system: Name of the system.
        hyperparameters: Values that replace those of params.yaml.
    """
    chosen = PARAMS.dataset(dataset)
    settings = [name for name, setting in PARAMS.settings.items() if setting.system == system]
    columns = {name: PARAMS.setting(name).columns for name in settings}
    setting = next((name for name in settings if chosen.column in columns[name]), settings[0])
    column = chosen.column if chosen.column in columns[setting] else next(iter(columns[setting]))
    given = PARAMS.hyperparameters(
        setting, next(name for name, each in PARAMS.datasets.items() if each.column == column)
    )
    values = HYPERPARAMETERS[system].model_validate({**given.model_dump(), **hyperparameters})

    return Description(
        system,
        values.model_dump(),
        PARAMS.setting(setting).parts.model_dump(),
        chosen.networks.model_dump(),
        TEXTS[dataset]["words"] if dataset in TEXTS else 2,
    )


def examples(dataset: str, count: int, length: str = "ids") -> Split:
    """Makes up examples of a data set: documents of one length, or images."""
    if dataset in TEXTS:
        words = [len(SPECIALS)] * (TEXTS[dataset][length] - 2)
        return Documents.of([np.array([START, *words, END])] * count, np.zeros(count, int))
    networks = PARAMS.dataset(dataset).networks
    assert isinstance(networks, ImageNetworks)

    return Images.of(np.zeros((count, networks.size, networks.size), np.float32), np.zeros(count), np.zeros(count))


class Count:
    """Counts the work of one system on one data set.

    Args:
        dataset: Name of the data set.
        system: Name of the system.
        hyperparameters: Values that replace those of params.yaml.
    """

    def __init__(self, dataset: str, system: str, **hyperparameters: Any) -> None:
        self.dataset, self.system = dataset, system
        self.counter = counter()
        torch._VF.lstm = self.counter.lstm  # type: ignore[attr-defined]
        self.model, made = described(dataset, system, **hyperparameters).build()
        self.batch = PARAMS.dataset(dataset).optimisation.batch
        with self.counter:
            self.training = Training(
                self.model,
                made.schedule,
                made.loop(),
                examples(dataset, self.batch),
                examples(dataset, 2),
                PARAMS.dataset(dataset).optimisation,
                PARAMS.evaluation,
                1,
                GPU,
            )
            self.model.start()
            weights = self.model.state_dict()
            self.training.best_weights = {name: value.clone() for name, value in weights.items()}

    def work(self, function: Callable[[], Any]) -> Work:
        """Counts the work of a function."""
        self.counter.work = Work()
        with self.counter:
            function()

        return self.counter.work

    def epoch(self) -> None:
        """Trains for one epoch, which has one batch."""
        self.training.state.batch, self.training.state.sums = 0, (0.0, 0.0, 0.0)
        self.training.train_epoch()

    def steps(self) -> dict[str, Work]:
        """Counts a training step, and a step of the encoder alone if the system takes such steps."""
        self.work(self.make_moments)
        self.start_memory()
        loop = self.training.loop
        if not isinstance(loop, AggressiveLoop):
            return {"step": self.work(self.epoch)}
        found = []
        for loop.max_inner in (FEW, MORE):
            found.append(self.work(self.epoch))
        loop.aggressive = False

        return {"step": self.work(self.epoch), "inner": found[1] - found[0]}

    def start_memory(self) -> None:
        """Starts a measurement of the largest memory."""
        gc.collect()  # otherwise Python would free some earlier tensors at a moment that changes from run to run
        self.counter.peak = self.counter.held

    def make_moments(self) -> None:
        """Lets the optimisers make their moments, which otherwise the first step would do."""
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.training.updates.encoder.step()
        self.training.updates.decoder.step()

    def training_memory(self) -> list[float]:
        """The largest memory of a training step and of an encoding in MiB, both with the longest documents."""
        training, text = self.training, TEXTS.get(self.dataset)
        if text is not None and text["longest"] > text["ids"]:
            split = examples(self.dataset, self.batch, "longest")
            training.train, training.lengths = split, split.lengths
            training.examples = type(training.examples)(split, GPU)
            self.work(self.epoch)
        peaks = [self.counter.peak]
        self.start_memory()
        self.work(self.encode_longest)

        return [peak / 2**20 for peak in (*peaks, self.counter.peak)]

    def encode_longest(self) -> None:
        """Encodes a batch of the longest documents without decoding them."""
        x = type(self.training.examples)(examples(self.dataset, BATCH, "longest"), GPU)(np.arange(BATCH))
        with evaluating(self.model):
            self.model.posterior(x)

    def evaluation(self) -> tuple[dict[str, Work], list[float]]:
        """Counts the work of the encoding and of the NLL of one example, and the memory of each in MiB."""
        for parameter in self.model.parameters():
            parameter.grad = None
        self.start_memory()
        samples = PARAMS.evaluation.importance_samples
        split, few = examples(self.dataset, BATCH), examples(self.dataset, max(1, ROWS // samples))
        density: list[bool] = []
        encoded = self.work(lambda: density.append(encode(self.model, split, GPU, 1).density))
        found, peaks = {"encode": encoded.times(1 / BATCH)}, [self.counter.peak]
        if density[0]:
            nll = self.work(lambda: importance_weighted_nll(self.model, few, samples, GPU, 1))
            found["nll"] = nll.times(1 / len(few))

        return found, [peak / 2**20 for peak in (*peaks, self.counter.peak)]


Rows = dict[str, list[float]]
"""Numbers by the names of `COLUMNS`."""


def counted(dataset: str, system: str, evaluated: bool) -> Rows:
    """Counts the work of one system on one data set.

    Args:
        dataset: Name of the data set.
        system: Name of the system.
        evaluated: Whether the work of the evaluation is counted too.

    Returns:
        The numbers by the names of `COLUMNS`, but `memory` has four values in MiB: a training step and an encoding of
        the longest documents, an encoding, and a whole evaluation. Without an evaluation it has the first two.
    """
    if system != "sa_vae":
        return run(dataset, system, evaluated)
    steps = described(dataset, system).hyperparameters["steps"]
    few, more = (run(dataset, system, evaluated, steps=number) for number in (FEW, MORE))
    factor = (steps - FEW) / (MORE - FEW)

    return {name: [one + factor * (two - one) for one, two in zip(few[name], more[name], strict=True)] for name in few}


def run(dataset: str, system: str, evaluated: bool, **hyperparameters: Any) -> Rows:
    """Does what `counted` says, with the hyperparameters given here instead of those of params.yaml."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        count = Count(dataset, system, **hyperparameters)
        works, memory = count.steps(), count.training_memory()
        if evaluated:
            more, peaks = count.evaluation()
            works, memory = {**works, **more}, [*memory, *peaks]

    return {**{name: row(work) for name, work in works.items()}, "memory": memory}


def generated(dataset: str) -> list[float]:
    """Counts the work of the generation of `GENERATED` examples, which depends on the decoder only.

    The work grows linearly with the number of pixels, so that two small sizes of images suffice.
    """
    networks = PARAMS.dataset(dataset).networks
    if not isinstance(networks, ImageNetworks):
        return row(generation(dataset, networks))
    few, more = (generation(dataset, networks.model_copy(update={"size": size})) for size in SMALL)
    factor = (networks.size**2 - SMALL[0] ** 2) / (SMALL[1] ** 2 - SMALL[0] ** 2)

    return row(few + (more - few).times(factor))


def generation(dataset: str, networks: Networks) -> Work:
    """Counts the work of the generation of `GENERATED` sentences of the largest length, or images."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        count, words = counter(), TEXTS[dataset]["words"] if dataset in TEXTS else 2
        decoder = build(networks, words, "paper")[1].to(GPU).eval()
        with count:
            z = torch.zeros(GENERATED, networks.latent, device=GPU)
            count.work = Work()
            decoder.sample(z, torch.Generator(GPU))

    return count.work


def row(work: Work) -> list[float]:
    return [work.launches, work.flops / 1e9, work.bytes / 1e9]


def rounded(values: list[float]) -> list[float]:
    """Rounds numbers to five digits, so that the file has few digits."""
    return [float(f"{value:.5g}") for value in values]


def of_dataset(dataset: str, systems: Collection[str]) -> dict[str, Rows]:
    """Counts some systems on one data set. The evaluation is counted for the systems of `REPRESENTATIVES` only.

    Returns:
        For each system its rows by the names of `COLUMNS`, with rounded numbers.
    """
    of = {system: REPRESENTATIVES.get(system, "vae") for system in systems}
    rows = {system: counted(dataset, system, system in of.values()) for system in {*of, *of.values()}}
    found = {}
    for system, representative in of.items():
        evaluated = rows[representative]
        memory = [max(*evaluated["memory"][1:3], *rows[system]["memory"][:2]), max(evaluated["memory"][1:])]
        merged = {**evaluated, **rows[system], "memory": memory}
        found[system] = {name: rounded(merged[name]) for name in COLUMNS if name in merged}

    return found


def render() -> str:
    """Counts everything, and returns the text of `pipelines/gpu_counts.yaml`."""
    lines = [HEADER, f"samples: {PARAMS.evaluation.importance_samples}\n", "columns:\n"]
    lines += [f"  {name}: {meaning}\n" for name, meaning in COLUMNS.items()]
    lines += [f"generated: {GENERATED}\n", "datasets:\n"]
    for dataset in (*TEXTS, *IMAGES):
        print(dataset, file=sys.stderr, flush=True)
        chosen = PARAMS.dataset(dataset)
        lines += [f"  {dataset}:\n", f"    networks: {flow(chosen.networks.model_dump())}\n"]
        lines += [f"    batch: {chosen.optimisation.batch}\n"]
        lines += [f"    {name}: {value}\n" for name, value in TEXTS.get(dataset, {}).items()]
        lines += [f"    generate: {flow(rounded(generated(dataset)))}\n", "    systems:\n"]
        lines += [f"      {system}: {flow(rows)}\n" for system, rows in of_dataset(dataset, list(RECORDS)).items()]

    return "".join(lines)


def flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()


def main() -> None:
    if not sys.argv[1:]:
        (ROOT / "pipelines/gpu_counts.yaml").write_text(render(), encoding="utf-8")
        return
    found: dict[str, dict[str, Rows]] = {}
    for argument in sys.argv[1:]:
        dataset, _, system = argument.partition(":")
        found.setdefault(dataset, {}).update(of_dataset(dataset, [system]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
