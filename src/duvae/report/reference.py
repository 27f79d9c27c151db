"""Writes the page `docs/parameters.md` from the classes of parameters and from `params.yaml`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as bounds
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from duvae import config
from duvae.config import Params
from duvae.errors import UserError
from duvae.project.files import write_text
from duvae.registry import HYPERPARAMETERS, searched

PAGE = Path("docs/parameters.md")

MOST_GROUPS = 6
"""Number of different values that a cell of the page lists, at most."""

MOST_NAMES = 3
"""Number of names beside a value, at most, where "all others" can replace more names."""

LONGEST = 90
"""Number of characters of a value, at most."""

INTRODUCTION = """\
# Parameters

<!-- Written by 'duvae parameters' from src/duvae/config and params.yaml; do not edit. -->

`params.yaml` holds every parameter. An unknown key, a wrong type or a value out of range is an error that names file,
line and key, and the closest known key. In the keys below `*` stands for a name: of a data set, of a setting, of a
column, of a labelled subset, or for a place in a list.

- *values*: the allowed values. `= x` is the default of a key that may be left out.
- *in params.yaml*: the present values. Names in brackets say where a value stands.
- *from*: *paper* (with the section, `S` for the supplement), *release* (the code that the authors released, where the
  paper is silent), *ours* (neither says; [deviations.md](deviations.md) has the reasons).

Run `duvae graph` after a change of `run`, `runs`, `figure1`, `setting_grids` or of a name, and commit
`pipelines/jobs.yaml` with it. Run `duvae parameters` after any change, and commit this page. `dvc repro` runs the
stages again that read a changed value, and no others.
"""


SETTINGS = """\
A setting is a system with its hyperparameters for each column of data sets. Several settings may share a system.
The hyperparameters are those of Table 1 and supplement E; Agg-VAE's other numbers are those of He et al. 2018, SA-VAE's
those of Kim et al. 2018. The hyperparameters of IAF on the synthetic data are ours.
"""


@dataclass(frozen=True)
class Row:
    """One key in a table of the page.

    Attributes:
        key: The key in params.yaml, with `*` for names.
        values: The allowed values, in words.
        description: The key's meaning.
        source: The source of the present values: paper, release or ours; for hyperparameters the searched values.
    """

    key: str
    values: str
    description: str
    source: str


def render(params: Params) -> str:
    """The text of the page, in Markdown.

    Args:
        params: All of params.yaml.
    """
    content = params.model_dump(exclude_unset=True)
    # A grid declares its settings itself.
    content["settings"] = {name: values for name, values in content["settings"].items() if _declared(params, name)}
    fields = Params.model_fields
    plain = [name for name, field in fields.items() if not _models(field.annotation) or name == "figure1"]
    parts = [INTRODUCTION]
    runs = [*_rows(Params, ("run", "runs"), block=True), *_rows(Params, plain)]
    parts += ["## What to rebuild, and where", _table(runs, content)]
    for title, name in (("Evaluation", "evaluation"), ("Probes", "probe"), ("Generation", "generation")):
        parts += [f"## {title}", _text(fields[name]), _table(list(_rows(Params, (name,), below=True)), content)]
    parts += ["## Data sets", *_datasets(content["datasets"])]
    parts += [
        "## Settings",
        SETTINGS,
        _table(list(_below("settings.*", config.Setting)), content),
        *_hyperparameters(content["settings"]),
        "### Grids of settings",
        "A grid declares settings that differ in a few hyperparameters alone.",
        _table(list(_below("setting_grids.*", config.SettingGrid)), content),
        "## Studies",
        "A study searches the hyperparameters of a setting's system on a data set; see [search.md](search.md).",
        _table(list(_below("studies.*", config.Study)), content),
    ]

    return "\n\n".join(part.strip() for part in parts) + "\n"


def _declared(params: Params, setting: str) -> bool:
    """Whether `settings` declares a setting, rather than a grid."""
    return params.declaration(setting).startswith("settings.")


def explanation(system: str, hyperparameter: str) -> str:
    """The description of a system's hyperparameter, as a sentence."""
    description = HYPERPARAMETERS[system].model_fields[hyperparameter].description or ""

    return f"{description[:1].upper()}{description[1:]}."


def _datasets(content: Mapping[str, Any]) -> Iterator[str]:
    """The tables of data sets: first the keys that all kinds have, then the keys of each kind."""
    kinds = {_kind(model): list(_below("datasets.*", model)) for model in get_args(config.AnyDataset)}
    shared = [row for row in next(iter(kinds.values())) if all(row in rows for rows in kinds.values())]
    whole = {"datasets": content}
    yield "Every data set has these keys:"
    yield _table(shared, whole)
    for kind, rows in kinds.items():
        names = {name: values for name, values in content.items() if values["kind"] == kind}
        yield f"### Data sets of the kind `{kind}`"
        yield f"In params.yaml: {', '.join(f'`{name}`' for name in names) or 'none'}."
        yield _table([row for row in rows if row not in shared], {"datasets": names})


def _kind(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _hyperparameters(settings: Mapping[str, Any]) -> Iterator[str]:
    """The table of each system's hyperparameters."""
    for system, model in HYPERPARAMETERS.items():
        named = {name: values for name, values in settings.items() if values["system"] == system}
        rows = []
        for name, field in model.model_fields.items():
            candidates = searched(field)
            by_kind = [("text", candidates.text), ("images", candidates.images), ("synthetic", candidates.synthetic)]
            source = "; ".join(f"{_show(list(values))} ({kind})" for kind, values in by_kind if values)
            rows.append(Row(f"settings.*.columns.*.{name}", _values(field), explanation(system, name), source))
        yield f"### Hyperparameters of `{system}`"
        yield f"In params.yaml: {', '.join(f'`{name}`' for name in named) or 'none'}."
        yield (
            _table(rows, {"settings": named}, "supplement E chose from")
            if rows
            else "The system has no hyperparameter."
        )
    yield "### Hyperparameters that a study finds"
    yield "In place of hyperparameters, a column of any setting may name a study:"
    yield _table(list(_below("settings.*.columns.*", config.Found)), {"settings": settings})


# ---------------------------------------------------------------------------------- keys


def _rows(model: type[BaseModel], names: Iterable[str], below: bool = False, block: bool = False) -> Iterator[Row]:
    """The rows of some keys of a model.

    Args:
        model: A class of parameters.
        names: The keys.
        below: Whether only the keys inside are listed, because a heading explains the key itself.
        block: Whether a key is listed even if it has keys inside.
    """
    for name in names:
        field = model.model_fields[name]
        inside = list(_inside(name, field.annotation))
        if not below and (block or not inside):
            yield _row(name, field)
        yield from inside


def _row(key: str, field: FieldInfo) -> Row:
    extra = field.json_schema_extra
    source = str(extra["source"]) if isinstance(extra, dict) else ""

    return Row(key, _values(field), _text(field), source)


def _text(field: FieldInfo) -> str:
    return field.description or ""


def _below(key: str, model: type[BaseModel]) -> Iterator[Row]:
    """The rows of all keys of a model, and of the models inside it."""
    for name, field in model.model_fields.items():
        inside = list(_inside(f"{key}.{name}", field.annotation))
        optional = not field.is_required()
        if not inside or optional:
            yield _row(f"{key}.{name}", field)
        yield from inside


def _inside(key: str, annotation: Any) -> Iterator[Row]:
    """The rows of the models inside a value of a type; `*` replaces a name or a place in a list."""
    annotation = _bare(annotation)
    outer, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _below(key, annotation)
    elif outer in (list, dict):
        yield from _inside(f"{key}.*", inner[-1])
    elif outer in (Union, UnionType):
        for option in inner:
            yield from _inside(key, option)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models anywhere inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]

    return [model for inner in get_args(annotation) for model in _models(inner)]


def _bare(annotation: Any) -> Any:
    """A type without its annotations."""
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


# ---------------------------------------------------------------------------------- allowed values


def _values(field: FieldInfo) -> str:
    """The allowed values of a key, and its default."""
    allowed = _type(field.annotation, field.metadata)
    if field.is_required():
        return allowed
    default = field.get_default(call_default_factory=True)

    return f"{allowed} = {_show(default)}" if default is not None else allowed


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type with its bounds, in words."""
    limits = list(metadata)
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        limits += more
    limits = [part for limit in limits for part in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is Literal:
        return ", ".join(f"`{_show(value)}`" for value in inner)
    if outer in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(kind) if kind is not type(None) else "null" for kind in inner))
    if outer is dict:
        return f"mapping to {_type(inner[1])}"
    if outer is list:
        return f"list of {_type(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}.get(annotation, "value")

    return f"{words}{_limits(limits)}"


def _limits(limits: Iterable[Any]) -> str:
    """The bounds of a number, in words."""
    signs = {bounds.Ge: ("≥", "ge"), bounds.Gt: (">", "gt"), bounds.Le: ("≤", "le"), bounds.Lt: ("<", "lt")}
    texts = [f"{signs[type(part)][0]} {getattr(part, signs[type(part)][1])}" for part in limits if type(part) in signs]
    texts += [f"a multiple of {part.multiple_of}" for part in limits if isinstance(part, bounds.MultipleOf)]

    return f" {', '.join(texts)}" if texts else ""


# ---------------------------------------------------------------------------------- present values


def _table(rows: Iterable[Row], content: Mapping[str, Any], last: str = "from") -> str:
    """Formats rows as a table in Markdown, with the present values of their keys.

    Args:
        rows: The rows.
        content: The content of params.yaml.
        last: The heading of the last column.
    """
    lines = [f"| key | what it is | values | in params.yaml | {last} |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.key}`", row.description, row.values, _present(row.key, content), row.source)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")

    return "\n".join(lines)


def _present(key: str, content: Mapping[str, Any]) -> str:
    """The present values of a key, each with the names under which it stands."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for names, value in _present_values(key.split("."), content):
        groups.setdefault(_show(value), []).append(names)
    if any(len(value) > LONGEST for value in groups) or len(groups) > MOST_GROUPS:
        return "several"
    every = [name for names in groups.values() for name in names]
    named = content[key.split(".", maxsplit=1)[0]]
    alone = isinstance(named, dict) and len(named) == 1
    if alone:  # The heading above the table has the only name.
        every = [name[1:] for name in every]
        groups = {value: [name[1:] for name in names] for value, names in groups.items()}
    everywhere = alone or not isinstance(named, dict) or len({name[:1] for name in every}) == len(named)
    if not groups or every[0] == () or (len(groups) == 1 and everywhere):
        return " ".join(groups)
    most = max(groups, key=lambda value: len(groups[value]))

    text = "; ".join(
        f"{value} ({_names(names, 'all others' if everywhere and value == most else '')})"
        for value, names in groups.items()
    )

    return text if len(text) <= 4 * LONGEST else "several"


def _names(names: list[tuple[str, ...]], otherwise: str) -> str:
    """Names as text if they are few, or else `otherwise` or their number."""
    shown = list(dict.fromkeys(".".join(name) for name in names))
    if len(shown) <= MOST_NAMES or (not otherwise and len(shown) <= 2 * MOST_NAMES):
        return ", ".join(shown)

    return otherwise or f"{len(shown)} places"


def _present_values(parts: list[str], content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value under a key, with the names that replace the `*` of the key; places in lists have no name."""
    if not parts:
        yield (), content
    elif parts[0] == "*":
        named = content.items() if isinstance(content, dict) else (("", value) for value in content or ())
        for name, value in named if isinstance(content, dict | list) else ():
            for names, inner in _present_values(parts[1:], value):
                yield ((name, *names) if name else names), inner
    elif isinstance(content, dict) and parts[0] in content:
        yield from _present_values(parts[1:], content[parts[0]])


def _show(value: Any) -> str:
    """A value in the notation of params.yaml."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_show(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_show, value)) + "]"

    # YAML reads 1e-08 as text.
    return str(value).replace("e-", ".0e-") if isinstance(value, float) and "." not in str(value) else str(value)


# ---------------------------------------------------------------------------------- the file


def write(params: Params, path: Path = PAGE) -> bool:
    """Writes the page if it is out of date.

    Args:
        params: All of params.yaml.
        path: The page.

    Returns:
        Whether the page was out of date.
    """
    text = render(params)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)

    return True


def check(params: Params, path: Path = PAGE) -> None:
    """Checks that the page agrees with the parameters.

    Args:
        params: All of params.yaml.
        path: The page.

    Raises:
        UserError: If the page is missing or out of date.
    """
    if not path.exists() or path.read_text(encoding="utf-8") != render(params):
        raise UserError(
            f"{path}: expected the present parameters of params.yaml and of their classes; the page is missing or out"
            " of date. Run 'duvae parameters', and commit the page."
        )
