"""The catalogue of systems: each system's record, parts, hyperparameters and settings.

The module names no system and no part. It finds every system that `duvae.systems`, `duvae.registry` and params.yaml
have.
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
"""Number of features and of latent dimensions with which the catalogue builds a system, to list its parts."""

DURATION = Duration(warmup=10, epoch=10, total=100)
"""The training for which the catalogue builds a schedule."""


@dataclass(frozen=True)
class Part:
    """One part of a system.

    Attributes:
        role: The part's role: posterior, regularizer, objective, schedule, loop, or another method of `System`.
        name: The name of the part's class.
        detail: Properties of this part that other objects of its class may not have, such as learnt parameters.
        does: The first paragraph of the class's documentation.
    """

    role: str
    name: str
    detail: str
    does: str


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a system.

    Attributes:
        name: The hyperparameter's key in params.yaml.
        what: The hyperparameter's description.
        searched: Columns of data sets, each group with the values among which the paper chose.
    """

    name: str
    what: str
    searched: list[tuple[list[str], tuple[float, ...]]]


@dataclass(frozen=True)
class Entry:
    """One system.

    Attributes:
        name: The system's key in params.yaml.
        label: The paper's name of the system, with Greek letters as words.
        does: The first paragraph of the system's documentation.
        documentation: The system's whole documentation.
        equation: The equation that defines the system.
        source: The equation's place in the paper, or the cited paper.
        parts: The system's parts; empty where params.yaml has no setting of the system.
        hyperparameters: The system's hyperparameters.
        settings: Values of the system's settings, by setting, column of data sets and hyperparameter.
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
    """The columns of data sets of all settings, each once."""
    return list(dict.fromkeys(column for setting in params.settings.values() for column in setting.columns))


def entry(name: str, params: Params) -> Entry:
    """The catalogue's entry of one system.

    Args:
        name: The system's key.
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
    """Builds a system and yields its parts.

    Args:
        kind: The system's class.
        hyperparameters: Hyperparameters to build the system with.
        chosen: Parts that params.yaml chooses for the setting.
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
        # The head, with the means and variances in it, was handled above.
        if role.startswith("_") or role in ("head", "means", "variances") or not callable(getattr(System, role)):
            continue
        part = getattr(system, role)(DURATION) if role == "schedule" else getattr(system, role)()
        detail = f"KL weight {part(0):g} to {part(DURATION.total - 1):g}" if role == "schedule" else ""
        yield Part(role, type(part).__name__, detail, summary(type(part)))


def summary(kind: type) -> str:
    """The first paragraph of a class's documentation, with formulas that a terminal can show."""
    paragraph = " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
    paragraph = re.sub(r"\\(?:mathrm|text){(\w+)}", r"\1", paragraph.replace(r"\|", "||"))

    return " ".join(re.sub(r"\\[,;!]|\\(?:Big|big|left|right)|[$\\]", "", paragraph).split())


def spelled(label: str) -> str:
    """A label with its Greek letters as words, such as `beta-VAE`, for terminals and files that hold only ASCII."""
    return "".join(letter if letter.isascii() else unicodedata.name(letter).split()[-1].lower() for letter in label)


def _regularizer_detail(part: nn.Module) -> str:
    learnt = [name for name, _ in part.named_parameters(recurse=False)]
    details = [f"learns {' and '.join(learnt)}"] if learnt else []
    if isinstance(part, Staged):
        details.append("from the first step on" if part.started else "once the warm-up has ended")

    return ", ".join(details)


def _hyperparameters(name: str, known: list[str]) -> Iterator[Hyperparameter]:
    for key, field in registry.HYPERPARAMETERS[name].model_fields.items():
        searched = registry.searched(field)
        groups = groupby(known, searched.on)
        yield Hyperparameter(
            key, field.description or "", [(list(group), values) for values, group in groups if values]
        )
