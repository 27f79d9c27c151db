"""All that is known of each system: its record, the parts that it builds, its hyperparameters and its settings.

Nothing here names a system or a part: a system that `duvae.systems`, `duvae.registry` and params.yaml have is found.
"""

import inspect
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn

from duvae import config, registry, regularizers
from duvae.config import Params, Parts
from duvae.objectives import Duration
from duvae.regularizers import Staged
from duvae.systems import SYSTEMS, System

FEATURES, LATENT = 4, 2
"""Sizes at which a system is built to be looked at."""

DURATION = Duration(warmup=10, epoch=10, total=100)
"""The length of the training whose schedule is looked at."""


@dataclass(frozen=True)
class Part:
    """One thing that a system is made of.

    Attributes:
        role: posterior, regularizer, objective, schedule, loop, or what else its system calls it.
        name: The class.
        detail: What differs from one object of the class to another.
        does: The first sentences of the class's documentation.
    """

    role: str
    name: str
    detail: str
    does: str


@dataclass(frozen=True)
class Hyperparameter:
    """One number that a system is given.

    Attributes:
        name: Its key in params.yaml.
        what: What it is.
        searched: Columns of data sets, and the values that the paper chose from for them.
    """

    name: str
    what: str
    searched: list[tuple[list[str], tuple[float, ...]]]


@dataclass(frozen=True)
class Entry:
    """One system.

    Attributes:
        name: As params.yaml has it.
        label: The paper's name of the system, with Greek letters as words.
        does: The first sentences of its documentation.
        documentation: All of it.
        equation: What makes it what it is.
        source: Where that stands.
        parts: What it is made of; nothing where params.yaml has no setting of it to build.
        hyperparameters: What it is given.
        settings: Its settings' values, by setting, column of data sets and hyperparameter.
    """

    name: str
    label: str
    does: str
    documentation: str
    equation: str
    source: str
    parts: list[Part]
    hyperparameters: list[Hyperparameter]
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]]


def columns(params: Params) -> list[str]:
    """The columns of data sets that any setting has."""
    return list(dict.fromkeys(column for setting in params.settings.values() for column in setting.columns))


def entry(name: str, params: Params) -> Entry:
    """What is known of one system."""
    kind, record = SYSTEMS[name], registry.RECORDS[name]
    settings = {key: setting for key, setting in params.settings.items() if setting.system == name}
    first = next(iter(settings.values()), None)

    return Entry(
        name,
        spelled(record.label),
        summary(kind),
        inspect.cleandoc(kind.__doc__ or ""),
        record.equation,
        record.source,
        list(parts(kind, next(iter(first.columns.values())), first.parts)) if first else [],
        list(_hyperparameters(name, columns(params))),
        {key: {c: h.model_dump() for c, h in setting.columns.items()} for key, setting in settings.items()},
    )


def parts(kind: type[System[Any]], hyperparameters: config.Frozen, chosen: Parts) -> Iterator[Part]:
    """What a system is made of, by building each of its parts and looking at them."""
    made = kind(hyperparameters, chosen)
    head: nn.Module = made.head(FEATURES, LATENT).eval()
    with torch.no_grad():
        posterior = head(torch.zeros(2, FEATURES))
    yield Part("posterior", type(posterior).__name__, f"from {type(head).__name__}", summary(type(posterior)))
    for part in head.modules():
        if type(part).__module__ == regularizers.__name__:
            yield Part("regularizer", type(part).__name__, _of_regularizer(part), summary(type(part)))
    for role in vars(System):
        # Head, means and variances were seen above.
        if role.startswith("_") or role in ("head", "means", "variances") or not callable(getattr(System, role)):
            continue
        part = getattr(made, role)(DURATION) if role == "schedule" else getattr(made, role)()
        detail = f"KL weight {part(0):g} to {part(DURATION.total - 1):g}" if role == "schedule" else ""
        yield Part(role, type(part).__name__, detail, summary(type(part)))


def summary(kind: type) -> str:
    """The first paragraph of a class's documentation, its formulas legible in a terminal."""
    paragraph = " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
    paragraph = re.sub(r"\\(?:mathrm|text){(\w+)}", r"\1", paragraph.replace(r"\|", "||"))

    return " ".join(re.sub(r"\\[,;!]|\\(?:Big|big|left|right)|[$\\]", "", paragraph).split())


def spelled(label: str) -> str:
    """A label with its Greek letters as words, such as `beta-VAE`, for terminals and files that hold ASCII alone."""
    return "".join(letter if letter.isascii() else unicodedata.name(letter).split()[-1].lower() for letter in label)


def _of_regularizer(part: nn.Module) -> str:
    learns = [name for name, _ in part.named_parameters(recurse=False)]
    said = [f"learns {' and '.join(learns)}"] if learns else []
    if isinstance(part, Staged):
        said.append("from the first step on" if part.started else "once the warm-up has ended")

    return ", ".join(said)


def _hyperparameters(name: str, known: list[str]) -> Iterator[Hyperparameter]:
    for key, field in registry.HYPERPARAMETERS[name].model_fields.items():
        searched = registry.searched(field)
        groups = groupby(known, searched.on)
        yield Hyperparameter(key, field.description or "", [(list(of), values) for values, of in groups if values])
