"""Measures what the project promises of its speed, and prints one table: `make bench`.

CPU seconds are of all threads, so that other work on the machine matters little; what that takes from caches and
clock shows in the rate of a matrix product, measured before each group of rows. Figures are medians.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import images, large_text, measure, plain
from benchmarks.measure import Row, cpu, cpu_of
from duvae import config
from duvae.commands import prepare, truth, validate
from duvae.config import Optimisation, Params, SyntheticDataset
from duvae.data import store
from duvae.data.batches import batches
from duvae.data.store import Array, Prepared
from duvae.inference import model_files
from duvae.metrics.encoding import encode, evaluating
from duvae.metrics.geometry import measures, mutual_information
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.transformed import transformed_measures
from duvae.project.files import write_text
from duvae.project.progress import Bar
from duvae.training.aggressive import AggressiveLoop
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import NoProgress, Training
from duvae.training.loop import Row as Epoch
from duvae.training.steps import Loop
from duvae.vae import VAE

ROOT = Path(__file__).parents[1]
DATASET = "synthetic"
CPU = torch.device("cpu")
GROUPS = ("steps", "semi_amortized", "settings", "flows", "information", "rest", "text", "images")
"""What `--only` may name."""
JOINT = ("vae", "ae", "bn_vae", "du_vae")
"""Settings whose encoder and decoder step together: all of Figure 1 but Agg-VAE."""
FLOWS = ("iaf_fb", "iaf_bn", "du_iaf")
"""Settings with a chain."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        epochs: Of each training; the first is its warm-up.
        rounds: Repetitions of a step's time, each of `steps` steps.
        repeats: Repetitions of the rest.
        plain: Sentences of the plain likelihood.
        beside: Sentences of a flow's likelihood and of the VAE's beside it.
        posteriors: N of the mutual information.
        latent: Its dimensions.
        project: Whether commands are run in the project itself.
    """

    epochs: int = 3
    rounds: int = 80
    steps: int = 10
    repeats: int = 3
    plain: int = 40
    beside: int = 200
    posteriors: int = 10_000
    latent: int = 32
    project: bool = True


TINY = Size(epochs=2, rounds=1, steps=2, repeats=1, plain=3, beside=8, posteriors=300, latent=4, project=False)


def synthetic(params: Params) -> SyntheticDataset:
    """The data set that all is measured on."""
    dataset = params.dataset(DATASET)
    assert isinstance(dataset, SyntheticDataset)

    return dataset


def shrunk(params: Params) -> Params:
    """The parameters with little data and small networks: to see that the benchmarks run."""
    dataset = synthetic(params)
    small = {
        "source": dataset.source.model_copy(update={"train": 320, "valid": 64, "test": 64, "words": 50}),
        "truth": dataset.truth.model_copy(update={"sentences": 2, "spacing": 0.2}),
        "expect": dataset.expect.model_copy(update={"max_shared_rate": 1.0}),
        "networks": dataset.networks.model_copy(update={"embedding": 6, "hidden": 8}),
    }

    return params.model_copy(
        update={
            "evaluation": params.evaluation.model_copy(update={"importance_samples": 10}),
            "datasets": {**params.datasets, DATASET: dataset.model_copy(update=small)},
        }
    )


class EpochTimes(NoProgress):
    """Watches a training and keeps the CPU seconds of each epoch, history and kept state included."""

    def __init__(self) -> None:
        self.marks = [time.process_time()]

    def epoch(self, row: Epoch) -> None:
        self.marks.append(time.process_time())

    @property
    def seconds(self) -> list[float]:
        return np.diff(self.marks).tolist()


class Bench:
    """All that is measured, a method a group of rows.

    Args:
        params: Sizes and settings.
        size: How much is measured.
        folder: For data and states; the caller removes it.
        full: Train for all epochs instead of a few, and evaluate each setting.
    """

    def __init__(self, params: Params, size: Size, folder: Path, full: bool = False) -> None:
        self.params, self.size, self.folder, self.full = params, size, folder, full
        self.dataset = synthetic(params)
        self.seconds: dict[str, float] = {}

    @cached_property
    def prepared(self) -> Prepared:
        """The synthetic data set, made anew."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.seconds["prepare"] = cpu(lambda: prepare.run(self.params, DATASET, self.folder))

        return store.read(self.folder / "data/prepared" / DATASET)

    def training(self, setting: str, optimisation: Optimisation, progress: EpochTimes | None = None) -> Training:
        """A training of a setting, as the stage `train` makes it."""
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

    # ------------------------------------------------------------------------------------- a step

    def steps(self) -> Iterator[Row]:
        """A training step of each system, the systems in turn, so that they meet the same machine."""
        steps, calls = self.size.steps, {name: self.stepping(name, self.size.steps) for name in JOINT + FLOWS}
        calls |= {f"plain {name}": self.stepping(name, self.size.steps, plain_form=True) for name in ("vae", "du_vae")}
        calls["encoder"] = self.stepping("agg_vae", 1, AggressiveLoop(10**9, max_inner=steps, patience=1))
        calls["decoder"] = self.stepping("agg_vae", steps, AggressiveLoop(10**9, max_inner=0, patience=1))
        for call in calls.values():
            call()
        rate, names = measure.rate(), list(calls)
        rounds = []
        for _ in range(self.size.rounds):
            names.reverse()
            took = {name: 1e3 * cpu(calls[name]) / steps for name in names}
            took["encoder"] -= took["decoder"] / steps  # the one step of the decoder that ends the encoder's
            rounds.append(took)
        found = {name: median(took[name] for took in rounds) for name in calls}
        for setting in JOINT + FLOWS:
            yield Row(f"step of {setting}", found[setting], "ms", rate)
        for setting in ("vae", "du_vae"):
            ratio = median(took[setting] / took[f"plain {setting}"] for took in rounds)
            note = "by PyTorch's dropout, cross entropy, clipping and SGD, side by side"
            yield Row(f"step of {setting}, share of the plain form's", ratio, "x", rate, must=1, note=note)
        for setting in FLOWS:
            ratio = median(took[setting] / took["vae"] for took in rounds)
            yield Row(f"step of {setting}, share of vae's", ratio, "x", rate, must=2, note="side by side")
        yield Row("step of agg_vae, encoder only", found["encoder"], "ms", rate)
        yield Row("step of agg_vae, decoder only", found["decoder"], "ms", rate)
        ratio = round(median(took["encoder"] / took["vae"] for took in rounds), 2)
        yield Row("encoder-only step, share of vae's", ratio, "x", rate, must=1, note="side by side, to a hundredth")

    def semi_amortized(self) -> Iterator[Row]:
        """SA-VAE beside the VAE: a step in turn, and an epoch with its look at the validation set."""
        times = {"vae": self.size.steps, "sa_vae": max(1, self.size.steps // 5)}
        calls = {name: self.stepping(name, number) for name, number in times.items()}
        for call in calls.values():
            call()
        rate, valid = measure.rate(), self.prepared.split("valid")
        rounds = [
            {name: cpu(calls[name]) / number for name, number in times.items()}
            for _ in range(max(1, self.size.rounds // 4))
        ]
        step = {name: median(took[name] for took in rounds) for name in times}
        model_files = {name: self.training(name, self.dataset.optimisation).model for name in times}
        looks = [
            {name: cpu(partial(encode, model, valid, CPU, 1)) for name, model in model_files.items()}
            for _ in range(self.size.repeats)
        ]
        look = {name: median(took[name] for took in looks) for name in times}
        batches_of = len(batches(self.prepared.split("train").lengths, self.dataset.optimisation.batch))
        epoch = {name: batches_of * step[name] + look[name] for name in times}
        yield Row("step of sa_vae", 1e3 * step["sa_vae"], "ms", rate)
        ratio = median(took["sa_vae"] / took["vae"] for took in rounds)
        yield Row("step of sa_vae, over vae's", ratio, "x", rate, 40, 25, note="side by side")
        note = (
            f"{epoch['sa_vae']:.0f} s: {batches_of} steps, {look['sa_vae']:.1f} s for {len(valid)} validation sentences"
        )
        yield Row("epoch of sa_vae, over vae's", epoch["sa_vae"] / epoch["vae"], "x", rate, 40, 25, note=note)

    def stepping(
        self, setting: str, times: int, loop: Loop | None = None, plain_form: bool = False
    ) -> Callable[[], None]:
        """So many steps of a setting's training on batches of its data, all of its parts started."""
        training = self.training(setting, self.dataset.optimisation)
        training.order = batches(training.lengths, self.dataset.optimisation.batch, (1, 1))
        training.model.train()
        training.model.start()
        if plain_form:
            loop = plain.PlainLoop(training.model, self.dataset.optimisation.learning_rate)
        step = (loop or training.loop).step

        def call() -> None:
            for _ in range(times):
                step(training.updates, training.draw(), 1.0)

        return call

    # ---------------------------------------------------------------------------------- a setting

    def settings(self) -> Iterator[Row]:
        """Training at the paper's size with its history, and the evaluation by importance weighting."""
        chosen = self.dataset.optimisation
        few = chosen.model_copy(update={"epochs": self.size.epochs, "warmup": 1})
        trained: dict[str, VAE] = {}
        training, rates = {}, {}
        for setting in JOINT:
            watch, rates[setting] = EpochTimes(), measure.rate()
            now = self.training(setting, chosen if self.full else few, watch)
            now.run()
            trained[setting] = now.model
            training[setting] = sum(watch.seconds) if self.full else chosen.epochs * median(watch.seconds)
        evaluated = {}
        for setting in JOINT if self.full else JOINT[:2]:  # vae and ae: with a density and without
            evaluated[setting], rows = self.likelihood(trained[setting], rows=setting == "vae")
            yield from rows
        for setting in JOINT:
            seconds = training[setting] + evaluated.get(setting, evaluated["vae"])
            how = f"all {chosen.epochs} epochs" if self.full else f"{chosen.epochs} x the median of {few.epochs} epochs"
            note = f"{training[setting]:.0f} of training, {how}"
            yield Row(f"{setting} trained and evaluated", seconds, "s", rates[setting], 260, 180, note=note)
        valid = self.prepared.split("valid")
        history = [cpu(lambda: measures(encode(trained["vae"], valid, CPU, 1), 0.01)) for _ in range(self.size.repeats)]
        yield Row(
            "history of an epoch", median(history), "s", rates["vae"], note=f"{len(valid)} sentences, in the above"
        )

    def likelihood(self, model: VAE, rows: bool) -> tuple[float, list[Row]]:
        """CPU seconds of evaluating a model on the test set, and the rows of its importance-weighted likelihood."""
        test, evaluation = self.prepared.split("test"), self.params.evaluation
        encoding = cpu(lambda: measures(encode(model, test, CPU, evaluation.seed), evaluation.active_threshold))
        if not model.posterior(torch.from_numpy(test.batch(np.arange(2))).long()).density:
            return encoding, []
        samples, rate = evaluation.importance_samples, measure.rate()
        took = [
            cpu(lambda: importance_weighted_nll(model, test, samples, CPU, evaluation.seed))
            for _ in range(self.size.repeats if rows else 1)
        ]
        if not rows:
            return encoding + median(took), []
        name, beside = "importance-weighted NLL", measure.rate()
        part = store.Documents.of([test[n] for n in range(self.size.plain)], test.labels[: self.size.plain])
        slow = cpu(lambda: plain.importance_weighted_nll(model, part, samples, evaluation.seed)) / len(part)
        x, z = torch.from_numpy(part.batch(np.arange(3))).long(), torch.randn(samples, 3, self.dataset.networks.latent)
        with evaluating(model):
            one_by_one = torch.stack([plain.decoder(model).log_prob_plain(x, each) for each in z])
            apart = float((model.decoder.log_prob_samples(x, z) - one_by_one).abs().max())

        return encoding + median(took), [
            Row(name, median(took), "s", rate, 60, 40, note=f"{len(test)} sentences, K = {samples}"),
            Row(
                f"{name}, speed-up",
                slow * len(test) / median(took),
                "x",
                beside,
                note=f"over sentence by sentence, word by word ({len(part)} sentences)",
            ),
            Row("log p(x|z), off the plain form", apart, "nats", beside, must=1e-3, note="the largest difference"),
        ]

    def flows(self) -> Iterator[Row]:
        """A flow's importance-weighted likelihood beside the VAE's, and what is estimated of its z^T alone."""
        rate, test, evaluation = measure.rate(), self.prepared.split("test"), self.params.evaluation
        part = store.Documents.of([test[n] for n in range(self.size.beside)], test.labels[: self.size.beside])
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
            ratio, note = median(took[setting] / took["vae"] for took in rounds), f"{len(part)} sentences, side by side"
            name = f"importance-weighted NLL of {setting}, share of vae's"
            yield Row(name, ratio, "x", rate, must=1.5, note=note)
        seconds = cpu(lambda: transformed_measures(built["du_iaf"], test, CPU, evaluation.seed))
        yield Row("MPD and CE of z^T", seconds, "s", rate, note=f"{len(test)} sentences")

    # ------------------------------------------------------------------------- mutual information

    def information(self) -> Iterator[Row]:
        """The mutual information of many posteriors, beside the broadcast form."""
        drawn = posteriors(self.size.posteriors, self.size.latent)
        rate, name = measure.rate(), "mutual information"
        fast = median(cpu(lambda: mutual_information(*drawn)) for _ in range(3 * self.size.repeats))
        value = mutual_information(*drawn)
        note = f"{value:.4f} nats of {self.size.posteriors} posteriors, {self.size.latent} dimensions"
        yield Row(name, fast, "s", rate, note=note)
        for rows, how, must in ((100, "in blocks of 100 z", 10), (1, "one z at a time, all in the cache", None)):
            started = time.process_time()
            broadcast = plain.mutual_information(*drawn, rows)
            slow = time.process_time() - started
            note = f"over broadcasting (z - mu)^2 / sigma^2, {how}"
            yield Row(f"{name}, speed-up", slow / fast, "x", measure.rate(), must, least=True, note=note)
            yield Row(f"{name}, off that form", abs(value - broadcast), "nats", rate, must=1e-4)
        raised = measure.peak(mutual_information, *drawn)
        yield Row(f"{name}, memory", raised, "MiB", rate, must=1024, note="peak, above what was there before")

    # -------------------------------------------------------------------------------- the rest

    def rest(self) -> Iterator[Row]:
        """What else a rebuild takes."""
        rate, sentences = measure.rate(), len(self.prepared.split("train"))
        yield Row("preparing the synthetic data", self.seconds["prepare"], "s", rate, note=f"{sentences} to train on")
        for name, stage in (("validating them", validate.run), ("their true NLL by quadrature", truth.run)):
            with contextlib.redirect_stdout(io.StringIO()):
                seconds = cpu(partial(stage, self.params, DATASET, self.folder))
            note = "imports included" if stage is validate.run else f"{self.dataset.truth.sentences} sentences"
            yield Row(name, seconds, "s", measure.rate(), note=note)
        call = [sys.executable, "-m", "duvae", "--help"]
        walls = [cpu_of(call, ROOT)[1] for _ in range(1 + 2 * self.size.repeats)][1:]
        yield Row("duvae --help", median(walls), "s wall", measure.rate(), must=0.5)
        if self.size.project:
            yield self.nothing_to_do()

    def nothing_to_do(self) -> Row:
        """`dvc repro` of a graph that is up to date; of another it only asks what there would be to do."""
        call = ["dvc", "repro", "figure1"]
        _, wall, said = cpu_of([*call, "--dry"], ROOT)
        if "up to date" not in said:
            return Row("dvc repro --dry", wall, "s wall", measure.rate(), note="out of date here, so only asked")
        walls = [cpu_of(call, ROOT)[1] for _ in range(self.size.repeats)]

        return Row("dvc repro, nothing to do", median(walls), "s wall", measure.rate(), must=5)


def posteriors(count: int, latent: int) -> tuple[Array, Array, Array]:
    """Means, variances and a sample of each of `count` overlapping Gaussians, in float32 as an encoder gives them."""
    random = np.random.default_rng(1)
    mean = 0.4 * random.standard_normal((count, latent))
    variance = np.exp(0.5 * random.standard_normal((count, latent)) - 0.5)
    z = mean + np.sqrt(variance) * random.standard_normal((count, latent))

    return mean.astype(np.float32), variance.astype(np.float32), z.astype(np.float32)


def main() -> int:
    """Measures, prints the table, and returns 1 where a must is not kept to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="train for all epochs instead of a few (and evaluate each setting)"
    )
    parser.add_argument("--tiny", action="store_true", help="a run of seconds that shows that all works")
    parser.add_argument("--only", choices=GROUPS, help="one group of rows alone")
    parser.add_argument("--output", type=Path, metavar="PATH", help="where the table is written too")
    chosen = parser.parse_args()
    params = config.load(ROOT / "params.yaml")
    torch.set_num_threads(params.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="duvae-bench-") as name:
        bench = Bench(
            shrunk(params) if chosen.tiny else params, TINY if chosen.tiny else Size(), Path(name), chosen.full
        )
        text = large_text.TextBench(large_text.TINY if chosen.tiny else large_text.TextSize())
        on_images = images.ImageBench(images.TINY if chosen.tiny else images.ImageSize())
        every = (
            bench.steps,
            bench.semi_amortized,
            bench.settings,
            bench.flows,
            bench.information,
            bench.rest,
            text,
            on_images,
        )
        groups = [group for name, group in zip(GROUPS, every, strict=True) if chosen.only in {None, name}]
        with Bar("benchmarks", len(groups)) as bar:
            for number, group in enumerate(groups, 1):
                rows += group()
                bar.done(number)
    found = "\n".join([*measure.machine(), "", measure.table(rows)])
    print(found)
    if chosen.output:
        write_text(chosen.output, f"# The last `make bench`\n\n```\n{found}\n```\n")
    missed = [row.name for row in rows if row.met == "NO"]
    if missed and not chosen.tiny:
        print(f"\nNot kept to: {', '.join(missed)}", file=sys.stderr)
        return 1

    return 0


if __name__ == "__main__":
    sys.exit(main())
