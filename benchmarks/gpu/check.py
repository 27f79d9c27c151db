"""What all parts of the check share: the device, the parameters, and the sizes of models."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.models import KINDS, SMALL, Kind, Size, full
from benchmarks.gpu.rows import Row, guarded
from duvae import devices
from duvae.config import Params

DRY_RUN = "a dry run on the CPU"
"""Reason why a bound does not apply in a dry run."""

FULL_SIZE, FULL_SYSTEM = ("yahoo", "omniglot"), "du_vae"
"""Data sets at whose full sizes one system is checked besides the small models, and this system."""

KIND_OF: dict[str, Kind] = {"yahoo": "text", "short_yelp": "text", "omniglot": "images"}
"""The data sets of the paper whose sizes are measured, and their kinds of data."""


class Case(NamedTuple):
    """A model to check.

    Attributes:
        name: Name of the kind of data or of the data set, the beginning of the names of rows.
        system: Name of the system.
        size: Sizes of the model and of its data.
        small: Whether the model has the small sizes of its kind of data instead of those of a data set.
    """

    name: str
    system: str
    size: Size
    small: bool


@dataclass(frozen=True)
class Check:
    """The device, the parameters and the systems of a check.

    Attributes:
        device: The GPU; or the CPU, for a dry run that only tests the check itself.
        params: All parameters of params.yaml.
        systems: Names of the systems of the paper to check.
    """

    device: torch.device
    params: Params
    systems: tuple[str, ...]

    @property
    def real(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def clock(self) -> Clock:
        """The clock of the device."""
        return Clock(self.device)

    def size(self, dataset: str) -> Size:
        """The sizes of a data set of the paper; in a dry run, the small sizes of its kind of data."""
        return full(self.params, dataset) if self.real else SMALL[KIND_OF[dataset]]

    def cases(self) -> Iterator[Case]:
        """Yields a small model of each system for texts and for images, then one system at sizes of the paper."""
        for kind in KINDS:
            for system in self.systems:
                yield Case(kind, system, SMALL[kind], True)
        system = FULL_SYSTEM if FULL_SYSTEM in self.systems else self.systems[0]
        for dataset in FULL_SIZE:
            yield Case(dataset, system, self.size(dataset), False)

    def rows(self, name: str, rows: Callable[["Check", Case], Iterable[Row]]) -> Iterator[Row]:
        """Prepares the device, and yields the rows of all cases.

        Args:
            name: Name of the computation, for the row of an error.
            rows: Function that yields the rows of one case.
        """
        self.prepare()
        for case in self.cases():
            yield from guarded(f"{case.name}: {name}", case.system, partial(rows, self, case))

    def prepare(self) -> None:
        """Prepares the device as a training does, but with products in IEEE float32."""
        devices.prepare(self.device)

    def on_gpu(self, row: Row) -> Row:
        """Marks a row whose bound is about a GPU as not applicable in a dry run."""
        return row if self.real else replace(row, missing=row.missing or DRY_RUN)

    @contextmanager
    def other_library(self) -> Iterator[None]:
        """In a dry run, switches the library oneDNN off inside a `with` block.

        PyTorch's own operations then compute LSTMs and convolutions, so that a dry run compares two computations that
        differ in rounding.
        """
        switched = not self.real and torch._C._get_mkldnn_enabled()
        try:
            if switched:
                torch._C._set_mkldnn_enabled(False)
            yield
        finally:
            if switched:
                torch._C._set_mkldnn_enabled(True)
