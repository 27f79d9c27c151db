r"""Estimates how long the stages take on a GPU, and for which part of that time they keep the GPU busy.

The work of each system is counted in `gpu_counts.yaml`: launches L, operations F of products, and bytes M that all
kernels read and write. The speed of a card is assumed in `gpu_rates.yaml`: a rate r of operations, a bandwidth b, the
time $t_l$ in which the processor starts a kernel, and the shortest time $t_k$ of a kernel on the GPU. The processor
starts kernels while the GPU computes, so the slower of the two decides:

$$t_{busy} = L \, t_k + F / r + M / b, \qquad t = \max(L \, t_l, t_{busy})$$

The share of busy time is $t_{busy} / t$. It is 1 if the arithmetic decides, and at least $t_k / t_l$ otherwise. The sum
in $t_{busy}$ is at most three times the largest of its terms. Nothing of this was measured on a GPU.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from duvae.config import ImageNetworks, Params
from duvae.errors import UserError

COUNTS = Path(__file__).with_name("gpu_counts.yaml")
"""File of the work of each system on each data set."""

RATES = Path(__file__).with_name("gpu_rates.yaml")
"""File of the assumed speed of GPUs."""

DECODED = 2
"""Number of times that the stage `samples` decodes z in each way: samples, and interpolations."""


@dataclass(frozen=True)
class Work:
    """The work of a computation on a GPU.

    Attributes:
        launches: Number of kernels.
        gflop: Operations of products in units of 10^9.
        gbytes: Bytes that the kernels read and write, in units of 10^9.
    """

    launches: float = 0.0
    gflop: float = 0.0
    gbytes: float = 0.0


@dataclass(frozen=True)
class Time:
    """The estimated time of a stage on a GPU.

    Attributes:
        seconds: Duration of the stage.
        busy: Part of the duration in which the GPU computes, in seconds.
    """

    seconds: float = 0.0
    busy: float = 0.0

    def __add__(self, other: "Time") -> "Time":
        return Time(self.seconds + other.seconds, self.busy + other.busy)

    def times(self, factor: float) -> "Time":
        return Time(self.seconds * factor, self.busy * factor)

    @property
    def share(self) -> float:
        """Share of the duration in which the GPU computes; 1 if the duration is 0."""
        return self.busy / self.seconds if self.seconds else 1.0


@dataclass(frozen=True)
class Card:
    """The speed of a kind of GPU.

    Attributes:
        name: Name of the card in `gpu_rates.yaml`, such as `H100`.
        known: Whether the file lists the card. If not, the speed is that of its first card.
        rates: Rate of products in GFLOP/s, by precision: `tf32` or `ieee`.
        bandwidth: Rate of reading and writing in GB/s.
        launch: Seconds in which the processor starts a kernel.
        kernel: Shortest time of a kernel on the GPU in seconds.
    """

    name: str
    known: bool
    rates: Mapping[str, float]
    bandwidth: float
    launch: float
    kernel: float

    def time(self, work: Work, precision: str) -> Time:
        """Estimates the time of some work, by the equations at the top of this module."""
        busy = work.launches * self.kernel + work.gflop / self.rates[precision] + work.gbytes / self.bandwidth

        return Time(max(work.launches * self.launch, busy), busy)


def card(model: str = "") -> Card:
    """The card with the name that `nvidia-smi` prints, such as `NVIDIA H100 80GB HBM3`.

    Args:
        model: That name; empty: it is not known, and the first card of `gpu_rates.yaml` counts.

    Raises:
        UserError: If `gpu_rates.yaml` is not YAML.
    """
    table = read(RATES)
    fitting = [name for name in table["cards"] if name in model]
    name = max(fitting, key=len) if fitting else next(iter(table["cards"]))
    peaks, share = table["cards"][name], table["share"]

    return Card(
        name,
        bool(fitting),
        {precision: 1000 * peaks[precision] * share[precision] for precision in ("tf32", "ieee")},
        peaks["bandwidth"] * share["bandwidth"],
        table["launch_us"] * 1e-6,
        table["kernel_us"] * 1e-6,
    )


class Counted:
    """The counted work of one system on one data set.

    Args:
        params: The project's parameters.
        dataset: Name of the data set.
        system: Name of the system.
        key: Key of the data set in `gpu_counts.yaml`.

    Attributes:
        memory: MiB of the tensors of a training and of an evaluation.
    """

    def __init__(self, params: Params, dataset: str, system: str, key: str) -> None:
        counts = read(COUNTS)
        self.precision, self.factor = params.precision, params.evaluation.importance_samples / counts["samples"]
        self.rows: dict[str, list[float]] = counts["datasets"][key]["systems"][system]
        self.generated = Work(*counts["datasets"][key]["generate"])
        self.memory: list[float] = self.rows["memory"]
        self.images = isinstance(params.dataset(dataset).networks, ImageNetworks)
        self.codes, self.draws = counts["generated"], params.generation.draws

    def work(self, name: str) -> Work:
        """The work with the name of a column of `gpu_counts.yaml`; none if the system has no such work."""
        return Work(*self.rows.get(name, ()))

    def step(self, card: Card, encoder_steps: float = 0.0) -> Time:
        """The time of a training step, with as many steps of the encoder alone before it."""
        precision = self.precision.training

        return card.time(self.work("step"), precision) + card.time(self.work("inner"), precision).times(encoder_steps)

    def encode(self, card: Card) -> Time:
        """The time of the encoding and reconstruction of one example."""
        return card.time(self.work("encode"), self.precision.evaluation)

    def nll(self, card: Card) -> Time:
        """The time of the NLL of one example."""
        return card.time(self.work("nll"), self.precision.evaluation).times(self.factor)

    def samples(self, card: Card) -> Time:
        """The time of the stage `samples`."""
        once = card.time(self.generated, self.precision.evaluation)
        other = once
        if self.images:  # the mean of many drawn images for each z, of which some are drawn at once
            from duvae.inference.generation import MOST_IMAGES  # imports torch, which takes seconds

            calls = math.ceil(self.codes / max(1, MOST_IMAGES // self.draws))
            work = self.generated
            many = Work(work.launches * calls, work.gflop * self.draws, work.gbytes * self.draws)
            other = card.time(many, self.precision.evaluation)

        return (once + other).times(DECODED)


def counted(params: Params, dataset: str, system: str, key: str) -> Counted | None:
    """Finds the counted work of a system on a data set.

    Args:
        params: The project's parameters.
        dataset: Name of the data set.
        system: Name of the system.
        key: Key of the data set in `gpu_counts.yaml`.

    Returns:
        The work; None if the file has none, or if it was counted for other networks or another size of batches.

    Raises:
        UserError: If `gpu_counts.yaml` is not YAML.
    """
    row, chosen = read(COUNTS)["datasets"].get(key), params.dataset(dataset)
    same = row is not None and row["networks"] == chosen.networks.model_dump()
    if not same or row["batch"] != chosen.optimisation.batch or system not in row["systems"]:
        return None

    return Counted(params, dataset, system, key)


def read(path: Path) -> dict[str, Any]:
    """Reads a YAML file of this folder.

    Raises:
        UserError: If the file is not YAML.
    """
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, changed: int) -> dict[str, Any]:
    """Parses a file once for each time of its last change."""
    try:
        table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: expected the durations of stages, in YAML ({' '.join(str(error).split())}). If git left a merge"
            f" conflict in it, resolve it; otherwise run 'git checkout {path}'."
        ) from error

    return table
