"""Measures training, evaluation, mutual information and other parts of the project on the synthetic data.

A *setting* is a system of the paper with its hyperparameters, such as `du_vae`. The plain form of a computation is
slower code that follows the equations directly (see `benchmarks.plain`).
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import measure, plain
from benchmarks.measure import Row, cpu, cpu_of
from duvae.commands import prepare, truth, validate
from duvae.config import Optimisation, Params, SyntheticDataset
from duvae.data import store
from duvae.data.batches import batches
from duvae.data.splits import Array, Documents
from duvae.data.store import Prepared
from duvae.inference import model_files
from duvae.metrics.encoding import encode, evaluating
from duvae.metrics.geometry import measures, mutual_information
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.transformed import transformed_measures
from duvae.training.aggressive import AggressiveLoop
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.state import NoProgress
from duvae.training.state import Row as Epoch
from duvae.training.steps import Loop
from duvae.vae import VAE

ROOT = Path(__file__).parents[1]
DATASET = "synthetic"
CPU = torch.device("cpu")
JOINT = ("vae", "ae", "bn_vae", "du_vae")
"""Settings that update encoder and decoder in the same step: all settings of the paper's Figure 1 except Agg-VAE."""
FLOWS = ("iaf_fb", "iaf_bn", "du_iaf")
"""Settings whose posterior is a normalizing flow."""


@dataclass(frozen=True)
class Size:
    """The sizes of the measurements.

    Attributes:
        epochs: Number of epochs of each training without `--full`; the first epoch is the warm-up.
        rounds: Number of measurements of the time of a training step.
        steps: Number of training steps in one of these measurements.
        repeats: Basic number of measurements of any other time; some times are measured a multiple of this number.
        plain: Number of sentences whose likelihood the plain form computes.
        flow_sentences: Number of sentences whose likelihood is computed with each flow of `FLOWS`, and with the VAE for
            comparison.
        posteriors: Number of posteriors for the mutual information.
        latent: Number of latent dimensions for the mutual information.
        project: Whether to measure `dvc repro` in the project itself.
        compiled: Whether to measure compiled training, which needs a C++ compiler and takes two minutes to begin.
    """

    epochs: int = 3
    rounds: int = 80
    steps: int = 10
    repeats: int = 3
    plain: int = 40
    flow_sentences: int = 200
    posteriors: int = 10_000
    latent: int = 32
    project: bool = True
    compiled: bool = True


TINY = Size(
    epochs=2,
    rounds=1,
    steps=2,
    repeats=1,
    plain=3,
    flow_sentences=8,
    posteriors=300,
    latent=4,
    project=False,
    compiled=False,
)
"""The sizes with `--tiny`, which only tests the code of the benchmark."""


def synthetic(params: Params) -> SyntheticDataset:
    """The parameters of the synthetic data set."""
    dataset = params.dataset(DATASET)
    assert isinstance(dataset, SyntheticDataset)

    return dataset


def shrink(params: Params) -> Params:
    """Returns the parameters with little data and small networks, for `--tiny` and for a test of the benchmarks."""
    dataset = synthetic(params)
    assert dataset.truth is not None
    small = {
        "source": dataset.source.model_copy(update={"train": 320, "valid": 64, "test": 64, "words": 50}),
        "truth": dataset.truth.model_copy(update={"sentences": 2, "spacing": 0.2}),
        "expect": dataset.expect.model_copy(update={"max_shared_rate": 1.0}),
        "networks": dataset.networks.model_copy(update={"embedding": 6, "hidden": 8}),
        "probe": dataset.probe.model_copy(update={"labels": [20, 100]}),
    }

    return params.model_copy(
        update={
            "evaluation": params.evaluation.model_copy(update={"importance_samples": 10}),
            "datasets": {**params.datasets, DATASET: dataset.model_copy(update=small)},
        }
    )


class EpochTimes(NoProgress):
    """Records the CPU seconds of each epoch of a training, including the seconds for its history and saved state."""

    def __init__(self) -> None:
        self.marks = [time.process_time()]

    def epoch(self, row: Epoch) -> None:
        self.marks.append(time.process_time())

    @property
    def seconds(self) -> list[float]:
        return np.diff(self.marks).tolist()


class SyntheticBench:
    """The measurements on the synthetic data, with one method for each group of rows in the table of results.

    Args:
        params: All parameters of params.yaml.
        size: The sizes of the measurements.
        folder: Folder for data and saved states; the caller removes it.
        full: Whether to train for all epochs instead of a few, and to evaluate each setting of `JOINT`; otherwise only
            `vae` and `ae` are evaluated.
    """

    def __init__(self, params: Params, size: Size, folder: Path, full: bool = False) -> None:
        self.params, self.size, self.folder, self.full = params, size, folder, full
        self.dataset = synthetic(params)
        self.seconds: dict[str, float] = {}

    @cached_property
    def prepared(self) -> Prepared:
        """The synthetic data set, generated and prepared."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.seconds["prepare"] = cpu(lambda: prepare.run(self.params, DATASET, self.folder))

        return store.read(self.folder / "data/prepared" / DATASET)

    def training(self, setting: str, optimisation: Optimisation, progress: EpochTimes | None = None) -> Training:
        """Sets up a training of a setting in the same way as the stage `train`.

        Args:
            setting: Name of the setting.
            optimisation: Parameters of the training, such as the optimiser, the learning rate and the epochs.
            progress: Object that receives the results of each finished epoch; None: no object receives them.
        """
        entry = self.params.setting(setting)
        description = model_files.Description(
            entry.system,
            self.params.hyperparameters(setting, DATASET).model_dump(),
            entry.parts.model_dump(),
            self.dataset.networks.model_dump(),
            len(self.prepared.vocabulary),
        )
        torch.manual_seed(1)
        model, system = description.build()

        return Training(
            model,
            system.schedule,
            system.loop(),
            self.prepared.split("train"),
            self.prepared.split("valid"),
            optimisation,
            self.params.evaluation,
            seed=1,
            device=CPU,
            progress=progress,
            checkpoint=Checkpoint(self.folder / f"{setting}.safetensors", self.params.checkpoint_seconds),
        )

    # ----------------------------------------------------------------------------- a training step

    def steps(self) -> Iterator[Row]:
        """Yields the rows on a training step of each setting.

        The settings run in turns, so that the load of the machine is about the same for all settings.
        """
        steps, calls = self.size.steps, {name: self.step_calls(name, self.size.steps) for name in JOINT + FLOWS}
        calls |= {
            f"plain {name}": self.step_calls(name, self.size.steps, plain_form=True) for name in ("vae", "du_vae")
        }
        forms = {"": "", ", compiled": "compiled "} if self.size.compiled else {"": ""}
        if self.size.compiled:
            calls |= {f"compiled {name}": self.step_calls(name, steps, compiled=True) for name in ("vae", "du_vae")}
        calls["encoder"] = self.step_calls("agg_vae", 1, AggressiveLoop(10**9, max_inner=steps, patience=1))
        calls["decoder"] = self.step_calls("agg_vae", steps, AggressiveLoop(10**9, max_inner=0, patience=1))
        for call in calls.values():
            call()
        rate, names = measure.rate(), list(calls)
        rounds = []
        for _ in range(self.size.rounds):
            names.reverse()
            times = {name: 1e3 * cpu(calls[name]) / steps for name in names}
            times["encoder"] -= times["decoder"] / steps  # the call's last step is a decoder step: not to be counted
            rounds.append(times)
        medians = {name: median(times[name] for times in rounds) for name in calls}
        for setting in JOINT + FLOWS:
            yield Row(f"step of {setting}", medians[setting], "ms", rate)
        note = "by PyTorch's dropout, cross entropy, clipping and SGD, side by side"
        for setting in ("vae", "du_vae"):
            for label, form in forms.items():
                ratio = median(times[form + setting] / times[f"plain {setting}"] for times in rounds)
                must = 0.75 if form else 1
                yield Row(f"step of {setting}{label}, share of the plain form's", ratio, "x", rate, must, note=note)
        for setting in FLOWS:
            ratio = median(times[setting] / times["vae"] for times in rounds)
            yield Row(f"step of {setting}, share of vae's", ratio, "x", rate, must=2, note="side by side")
        yield Row("step of agg_vae, encoder only", medians["encoder"], "ms", rate)
        yield Row("step of agg_vae, decoder only", medians["decoder"], "ms", rate)
        ratio = round(median(times["encoder"] / times["vae"] for times in rounds), 2)
        yield Row("encoder-only step, share of vae's", ratio, "x", rate, must=1, note="side by side, rounded to 0.01")

    def semi_amortized(self) -> Iterator[Row]:
        """Yields the rows that compare SA-VAE with the VAE, whose measurements run in turns.

        One row compares a training step, and one row an epoch, which includes the encoding of the validation set.
        """
        steps = {"vae": self.size.steps, "sa_vae": max(1, self.size.steps // 5)}
        calls = {name: self.step_calls(name, number) for name, number in steps.items()}
        for call in calls.values():
            call()
        rate, valid = measure.rate(), self.prepared.split("valid")
        rounds = [
            {name: cpu(calls[name]) / number for name, number in steps.items()}
            for _ in range(max(1, self.size.rounds // 4))
        ]
        step = {name: median(times[name] for times in rounds) for name in steps}
        models = {name: self.training(name, self.dataset.optimisation).model for name in steps}
        encodings = [
            {name: cpu(partial(encode, model, valid, CPU, 1)) for name, model in models.items()}
            for _ in range(self.size.repeats)
        ]
        encoding = {name: median(times[name] for times in encodings) for name in steps}
        count = len(batches(self.prepared.split("train").lengths, self.dataset.optimisation.batch))
        epoch = {name: count * step[name] + encoding[name] for name in steps}
        yield Row("step of sa_vae", 1e3 * step["sa_vae"], "ms", rate)
        ratio = median(times["sa_vae"] / times["vae"] for times in rounds)
        yield Row("step of sa_vae, over vae's", ratio, "x", rate, 40, 25, note="side by side")
        note = (
            f"{epoch['sa_vae']:.0f} s: {count} steps, {encoding['sa_vae']:.1f} s for {len(valid)} validation sentences"
        )
        yield Row("epoch of sa_vae, over vae's", epoch["sa_vae"] / epoch["vae"], "x", rate, 40, 25, note=note)

    def step_calls(
        self, setting: str, count: int, loop: Loop | None = None, plain_form: bool = False, compiled: bool = False
    ) -> Callable[[], None]:
        """Returns a function that does `count` training steps of a setting, with KL weight 1 as after the warm-up.

        Args:
            setting: Name of the setting.
            count: Number of training steps.
            loop: Rule that updates encoder and decoder; None: the rule of the setting's system.
            plain_form: Whether to use the plain form of a step (`PlainLoop`) in place of `loop`.
            compiled: Whether PyTorch compiles the training step.
        """
        training = self.training(setting, self.dataset.optimisation.model_copy(update={"compiled": compiled}))
        training.order = batches(training.lengths, self.dataset.optimisation.batch, (1, 1))
        training.model.train()
        training.model.start()
        if plain_form:
            loop = plain.PlainLoop(training.model, self.dataset.optimisation.learning_rate)
        step = (loop or training.loop).step

        def call() -> None:
            for _ in range(count):
                step(training.updates, training.draw(), 1.0)

        return call

    # ------------------------------------------------------------- training and evaluating a setting

    def settings(self) -> Iterator[Row]:
        """Yields the rows on training at the paper's size, and on evaluation by importance weighting.

        One more row gives the time for the history, the metrics on the validation set that a training records after
        each epoch.
        """
        chosen = self.dataset.optimisation
        few = chosen.model_copy(update={"epochs": self.size.epochs, "warmup": 1})
        trained: dict[str, VAE] = {}
        training, rates = {}, {}
        for setting in JOINT:
            watch, rates[setting] = EpochTimes(), measure.rate()
            run = self.training(setting, chosen if self.full else few, watch)
            run.run()
            trained[setting] = run.model
            training[setting] = sum(watch.seconds) if self.full else chosen.epochs * median(watch.seconds)
        evaluated = {}
        for setting in JOINT if self.full else JOINT[:2]:  # vae's posterior has a density, ae's has none
            evaluated[setting], rows = self.likelihood(trained[setting], rows=setting == "vae")
            yield from rows
        for setting in JOINT:
            seconds = training[setting] + evaluated.get(setting, evaluated["vae"])
            how = f"all {chosen.epochs} epochs" if self.full else f"{chosen.epochs} x the median of {few.epochs} epochs"
            note = f"{training[setting]:.0f} s of training, {how}"
            yield Row(f"{setting} trained and evaluated", seconds, "s", rates[setting], 260, 180, note=note)
        valid = self.prepared.split("valid")
        history = [cpu(lambda: measures(encode(trained["vae"], valid, CPU, 1), 0.01)) for _ in range(self.size.repeats)]
        yield Row(
            "history of an epoch",
            median(history),
            "s",
            rates["vae"],
            note=f"{len(valid)} sentences, included in the rows above",
        )

    def likelihood(self, model: VAE, rows: bool) -> tuple[float, list[Row]]:
        """Evaluates a model on the test set.

        Args:
            model: The trained model.
            rows: Whether to measure the importance-weighted likelihood several times, and to return rows about it.

        Returns:
            The CPU seconds of the evaluation, and the rows. There are no rows if `rows` is false, or if the model's
            posterior has no density.
        """
        test, evaluation = self.prepared.split("test"), self.params.evaluation
        encoding = cpu(lambda: measures(encode(model, test, CPU, evaluation.seed), evaluation.active_threshold))
        if not model.posterior(torch.from_numpy(test.batch(np.arange(2))).long()).density:
            return encoding, []
        samples, rate = evaluation.importance_samples, measure.rate()
        seconds = [
            cpu(lambda: importance_weighted_nll(model, test, samples, CPU, evaluation.seed))
            for _ in range(self.size.repeats if rows else 1)
        ]
        if not rows:
            return encoding + median(seconds), []
        name, rate_after = "importance-weighted NLL", measure.rate()
        assert isinstance(test, Documents)
        part = Documents.of([test[n] for n in range(self.size.plain)], test.labels[: self.size.plain])
        slow = cpu(lambda: plain.importance_weighted_nll(model, part, samples, evaluation.seed)) / len(part)
        x, z = torch.from_numpy(part.batch(np.arange(3))).long(), torch.randn(samples, 3, self.dataset.networks.latent)
        with evaluating(model):
            one_by_one = torch.stack([plain.decoder(model).log_prob_plain(x, each) for each in z])
            difference = float((model.decoder.log_prob_samples(x, z) - one_by_one).abs().max())

        return encoding + median(seconds), [
            Row(name, median(seconds), "s", rate, 60, 40, note=f"{len(test)} sentences, K = {samples}"),
            Row(
                f"{name}, speed-up",
                slow * len(test) / median(seconds),
                "x",
                rate_after,
                note=f"over sentence by sentence, word by word ({len(part)} sentences)",
            ),
            Row(
                "log p(x|z), difference from the plain form",
                difference,
                "nats",
                rate_after,
                must=1e-3,
                note="the largest",
            ),
        ]

    def flows(self) -> Iterator[Row]:
        """Yields the rows on the settings of `FLOWS`.

        They compare the time for the importance-weighted likelihood with that of the VAE. One more row gives the time
        for MPD and CE of z^T, the latent code after the last step of the flow.
        """
        rate, test, evaluation = measure.rate(), self.prepared.split("test"), self.params.evaluation
        assert isinstance(test, Documents)
        part = Documents.of([test[n] for n in range(self.size.flow_sentences)], test.labels[: self.size.flow_sentences])
        built = {setting: self.training(setting, self.dataset.optimisation).model for setting in ("vae", *FLOWS)}
        rounds = [
            {
                setting: cpu(
                    partial(importance_weighted_nll, model, part, evaluation.importance_samples, CPU, evaluation.seed)
                )
                for setting, model in built.items()
            }
            for _ in range(self.size.repeats)
        ]
        for setting in FLOWS:
            ratio, note = (
                median(times[setting] / times["vae"] for times in rounds),
                f"{len(part)} sentences, side by side",
            )
            name = f"importance-weighted NLL of {setting}, share of vae's"
            yield Row(name, ratio, "x", rate, must=1.5, note=note)
        seconds = cpu(lambda: transformed_measures(built["du_iaf"], test, CPU, evaluation.seed))
        yield Row("MPD and CE of z^T", seconds, "s", rate, note=f"{len(test)} sentences")

    # ------------------------------------------------------------------------- mutual information

    def information(self) -> Iterator[Row]:
        """Yields the rows on the mutual information of many posteriors, compared with its plain form."""
        arrays = posteriors(self.size.posteriors, self.size.latent)
        rate, name = measure.rate(), "mutual information"
        fast = median(cpu(lambda: mutual_information(*arrays)) for _ in range(3 * self.size.repeats))
        value = mutual_information(*arrays)
        note = f"{value:.4f} nats of {self.size.posteriors} posteriors, {self.size.latent} dimensions"
        yield Row(name, fast, "s", rate, note=note)
        for rows, how, must in ((100, "in blocks of 100 z", 10), (1, "one z at a time, all in the cache", None)):
            started = time.process_time()
            broadcast = plain.mutual_information(*arrays, rows)
            slow = time.process_time() - started
            note = f"over broadcasting (z - mu)^2 / sigma^2, {how}"
            yield Row(f"{name}, speed-up", slow / fast, "x", measure.rate(), must, least=True, note=note)
            yield Row(f"{name}, difference from that form", abs(value - broadcast), "nats", rate, must=1e-4)
        memory = measure.peak(mutual_information, *arrays)
        yield Row(f"{name}, memory", memory, "MiB", rate, must=1024, note="peak above the memory in use before")

    # ---------------------------------------------------------------- other stages and commands

    def rest(self) -> Iterator[Row]:
        """Yields the rows on preparing and validating the data, on the true NLL, and on the start of two commands.

        The true NLL is the negative log-likelihood under the generator of the synthetic data.
        """
        rate, sentences = measure.rate(), len(self.prepared.split("train"))
        yield Row(
            "preparing the synthetic data", self.seconds["prepare"], "s", rate, note=f"{sentences} training sentences"
        )
        for name, stage in (
            ("validating the synthetic data", validate.run),
            ("true NLL of the synthetic data", truth.run),
        ):
            with contextlib.redirect_stdout(io.StringIO()):
                seconds = cpu(partial(stage, self.params, DATASET, self.folder))
            assert self.dataset.truth is not None
            note = "imports included" if stage is validate.run else f"{self.dataset.truth.sentences} sentences"
            yield Row(name, seconds, "s", measure.rate(), note=note)
        call = [sys.executable, "-m", "duvae", "--help"]
        walls = [cpu_of(call, ROOT)[1] for _ in range(1 + 2 * self.size.repeats)][1:]
        yield Row("duvae --help", median(walls), "s wall", measure.rate(), must=0.5)
        if self.size.project:
            yield self.nothing_to_do()

    def nothing_to_do(self) -> Row:
        """Measures the wall time of `dvc repro figure1` in the project, and returns the row on it.

        If a stage is out of date, the row shows the time of `dvc repro figure1 --dry` instead, which runs no stage.
        """
        call = ["dvc", "repro", "figure1"]
        _, wall, output = cpu_of([*call, "--dry"], ROOT)
        if "up to date" not in output:
            return Row("dvc repro --dry", wall, "s wall", measure.rate(), note="the graph is out of date")
        walls = [cpu_of(call, ROOT)[1] for _ in range(self.size.repeats)]

        return Row("dvc repro, nothing to do", median(walls), "s wall", measure.rate(), must=5)


def posteriors(count: int, latent: int) -> tuple[Array, Array, Array]:
    """Draws means, variances and samples of `count` overlapping Gaussians in float32, each of shape (count, latent)."""
    random = np.random.default_rng(1)
    mean = 0.4 * random.standard_normal((count, latent))
    variance = np.exp(0.5 * random.standard_normal((count, latent)) - 0.5)
    z = mean + np.sqrt(variance) * random.standard_normal((count, latent))

    return mean.astype(np.float32), variance.astype(np.float32), z.astype(np.float32)
