"""Builds the catalogue, which describes each system: its equation, its parts, its hyperparameters and its settings.

A system is one kind of model, such as DU-VAE. The parts of a system are the objects that the system's class builds,
such as the objective. A setting in params.yaml names a system and gives it hyperparameters for each column. A column,
such as `yelp`, is one or more data sets with the same hyperparameters.

The code of this module contains no name of a system or part. So a new system in `duvae.systems`, `duvae.registry` and
params.yaml appears in the catalogue without further code.
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

from duvae import config, records, registry, regularizers
from duvae.config import Params, Parts
from duvae.objectives import Duration
from duvae.regularizers import Staged
from duvae.systems import SYSTEMS, System

FEATURES, LATENT = 4, 2
"""Numbers of encoder features and of latent dimensions with which `parts` builds a system.

The two numbers do not affect the catalogue.
"""

DURATION = Duration(warmup=10, epoch=10, total=100)
"""Lengths in steps of the warm-up, an epoch and the training, with which `parts` builds a system's schedule.

The catalogue shows only the first and the last KL weight of the schedule.
"""


@dataclass(frozen=True)
class Part:
    """One part of a system.

    Attributes:
        role: Role of the part: posterior, regularizer, refinement, objective, schedule or loop.
        name: Name of the class.
        detail: Properties that differ between objects of the class, such as `learns scale and shift`.
        summary: First paragraph of the class's docstring.
    """

    role: str
    name: str
    detail: str
    summary: str


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a system.

    Attributes:
        name: Key in params.yaml.
        description: Meaning and unit.
        searched: The values among which the paper chose. Each pair holds the names of some columns of data sets, and
            the values for these columns.
    """

    name: str
    description: str
    searched: list[tuple[list[str], tuple[float, ...]]]


@dataclass(frozen=True)
class Entry:
    """One system in the catalogue.

    Attributes:
        name: Key in params.yaml.
        label: The paper's name of the system, with Greek letters as words.
        summary: First paragraph of the docstring of the system's class.
        documentation: The whole docstring of the system's class.
        equation: The equation that distinguishes the system, in plain text.
        source: The place of the equation in the paper, or the cited paper.
        parts: The parts that the system builds; empty if params.yaml has no setting of the system.
        hyperparameters: The hyperparameters of the system, without values.
        settings: The values of the hyperparameters in params.yaml, as nested mappings: by setting, then by column of
            data sets, then by hyperparameter.
    """

    name: str
    label: str
    summary: str
    documentation: str
    equation: str
    source: str
    parts: list[Part]
    hyperparameters: list[Hyperparameter]
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]]


def columns(params: Params) -> list[str]:
    """The columns of data sets for which at least one setting has values."""
    return list(dict.fromkeys(column for setting in params.settings.values() for column in setting.columns))


def entry(name: str, params: Params) -> Entry:
    """Describes one system.

    Args:
        name: Key of the system in params.yaml.
        params: All of params.yaml.
    """
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
    """Builds the parts of a system, and describes each of them.

    Args:
        kind: The system's class.
        hyperparameters: Values of the system's hyperparameters, as an object of the system's class of hyperparameters
            in `duvae.registry`.
        chosen: The setting's options for the encoder that are not hyperparameters.
    """
    system = kind(hyperparameters, chosen)
    head: nn.Module = system.head(FEATURES, LATENT).eval()
    with torch.no_grad():
        posterior = head(torch.zeros(2, FEATURES))
    yield Part("posterior", type(posterior).__name__, f"from {type(head).__name__}", summary(type(posterior)))
    for part in head.modules():
        if type(part).__module__ == regularizers.__name__:
            yield Part("regularizer", type(part).__name__, _regularizer_detail(part), summary(type(part)))
    for role in vars(System):
        # Each public method of `System` builds one part. The methods head, means and variances build the posterior and
        # the regularizers, which the code above has already described.
        if role.startswith("_") or role in ("head", "means", "variances") or not callable(getattr(System, role)):
            continue
        part = getattr(system, role)(DURATION) if role == "schedule" else getattr(system, role)()
        detail = f"KL weight {part(0):g} to {part(DURATION.total - 1):g}" if role == "schedule" else ""
        yield Part(role, type(part).__name__, detail, summary(type(part)))


def summary(kind: type) -> str:
    """Returns the first paragraph of a class's docstring, with LaTeX commands removed, for a terminal."""
    paragraph = " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
    paragraph = re.sub(r"\\(?:mathrm|text){(\w+)}", r"\1", paragraph.replace(r"\|", "||"))

    return " ".join(re.sub(r"\\[,;!]|\\(?:Big|big|left|right)|[$\\]", "", paragraph).split())


def spelled(label: str) -> str:
    """Spells the Greek letters of a label as words, as in `beta-VAE`, for terminals and files with ASCII text only."""
    return "".join(letter if letter.isascii() else unicodedata.name(letter).split()[-1].lower() for letter in label)


def _regularizer_detail(part: nn.Module) -> str:
    learned = [name for name, _ in part.named_parameters(recurse=False)]
    details = [f"learns {' and '.join(learned)}"] if learned else []
    if isinstance(part, Staged):
        details.append("from the first step on" if part.started else "once the warm-up has ended")

    return ", ".join(details)


def _hyperparameters(name: str, data_columns: list[str]) -> Iterator[Hyperparameter]:
    for key, field in registry.HYPERPARAMETERS[name].model_fields.items():
        searched = records.searched(field)
        groups = groupby(data_columns, searched.on)
        yield Hyperparameter(
            key, field.description or "", [(list(group), values) for values, group in groups if values]
        )
