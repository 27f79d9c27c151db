"""Writes the page `docs/parameters.md`, which explains every key of `params.yaml`.

The meanings and the allowed values of the keys come from the classes of parameters (pydantic models) in `duvae.config`.
The present values come from `params.yaml`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from duvae import config
from duvae.config import Params
from duvae.errors import UserError
from duvae.project.files import write_text
from duvae.records import searched
from duvae.registry import HYPERPARAMETERS
from duvae.report.parameter_types import bare, models_in, shown, type_in_words

PAGE = Path("docs/parameters.md")

MOST_GROUPS = 6
"""Largest number of different values that a cell of the page shows; a cell for more values says "several"."""

MOST_NAMES = 3
"""Largest number of names beside the most frequent value of a key; more names become "all others".

Beside any other value, up to twice as many names are shown. If there are more, the cell shows the number of names.
"""

LONGEST = 90
"""Largest number of characters of a value that a cell shows; a cell for a longer value says "several"."""

INTRODUCTION = """\
# Parameters

<!-- Written by 'duvae parameters' from src/duvae/config and params.yaml; do not edit. -->

`params.yaml` holds all parameters. An unknown key, a wrong type or a value out of range is an error with file, line,
key and the closest known key. In the keys below, `*` stands for the name of a data set, setting, column or labelled
subset, or for a position in a list.

- *values*: the allowed values. A key with `= x` is optional, and x is its default.
- *in params.yaml*: the present values. Names in brackets are the names that `*` stands for.
- *from*: the source of the values. *paper*: the paper, with the section (`S` for the supplement). *release*: the
  authors' code, where the paper does not say. *ours*: neither says; [deviations.md](deviations.md) has the reasons.

Run `duvae graph` after a change of `run`, `runs`, `figure1`, `setting_grids` or of a name, and commit
`pipelines/jobs.yaml` with it. Run `duvae parameters` after any change, and commit this page. `dvc repro` runs the
stages again that read a changed value, and no others.
"""


SETTINGS = """\
A setting is a system with its hyperparameters for each column of data sets. Several settings may have the same system.
Most hyperparameters are from Table 1 and supplement E. Other numbers of Agg-VAE are from He et al. 2018, and those of
SA-VAE from Kim et al. 2018. The hyperparameters of IAF on the synthetic data are ours.
"""


@dataclass(frozen=True)
class Row:
    """One key in a table of the page.

    Attributes:
        key: The key, with `*` in place of a name, such as the name of a data set.
        values: Allowed values, in words.
        description: Meaning of the key.
        source: Source of the present values, such as `paper`; for a hyperparameter, the values in supplement E.
    """

    key: str
    values: str
    description: str
    source: str


def render(params: Params) -> str:
    """Builds the text of the page, in Markdown.

    Args:
        params: All parameters.
    """
    content = params.model_dump(exclude_unset=True)
    # A grid declares several settings at once. These settings appear only in the table of grids, not in other tables.
    content["settings"] = {name: values for name, values in content["settings"].items() if _declared(params, name)}
    fields = Params.model_fields
    plain = [name for name, field in fields.items() if not models_in(field.annotation) or name == "figure1"]
    parts = [INTRODUCTION]
    runs = [*_rows(Params, ("run", "runs"), block=True), *_rows(Params, plain)]
    parts += ["## What to rebuild, and where", _table(runs, content)]
    titles = {"precision": "Precision on a GPU", "evaluation": "Evaluation", "exact": "Exact NLL"}
    titles |= {"probe": "Probes", "generation": "Generation"}
    for name, title in titles.items():
        parts += [f"## {title}", _text(fields[name]), _table(list(_rows(Params, (name,), below=True)), content)]
    parts += ["## Data sets", *_datasets(content["datasets"])]
    parts += [
        "## Settings",
        SETTINGS,
        _table(list(_below("settings.*", config.Setting)), content),
        *_hyperparameters(content["settings"]),
        "### Grids of settings",
        "A grid declares settings of one system that differ in a few hyperparameters.",
        _table(list(_below("setting_grids.*", config.SettingGrid)), content),
        "## Studies",
        "A study searches the hyperparameters of a setting's system on a data set; see [search.md](search.md).",
        _table(list(_below("studies.*", config.Study)), content),
    ]

    return "\n\n".join(part.strip() for part in parts) + "\n"


def _declared(params: Params, setting: str) -> bool:
    """Whether the key `settings` of params.yaml declares a setting; if not, a grid in `setting_grids` declares it."""
    return params.declaration(setting).startswith("settings.")


def explanation(system: str, hyperparameter: str) -> str:
    """The description of a system's hyperparameter, as a sentence."""
    description = HYPERPARAMETERS[system].model_fields[hyperparameter].description or ""

    return f"{description[:1].upper()}{description[1:]}."


def _datasets(content: Mapping[str, Any]) -> Iterator[str]:
    """The section on data sets: a table of the keys that all kinds of data sets share, then a table for each kind.

    Args:
        content: The present parameters of each data set, by name.
    """
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
    """The tables of hyperparameters, one for each system, and the table for columns that name a study.

    Args:
        settings: The present parameters of each setting, by name.
    """
    for system, model in HYPERPARAMETERS.items():
        named = {name: values for name, values in settings.items() if values["system"] == system}
        rows = []
        for name, field in model.model_fields.items():
            candidates = searched(field)
            by_kind = [("text", candidates.text), ("images", candidates.images), ("synthetic", candidates.synthetic)]
            source = "; ".join(f"{shown(list(values))} ({kind})" for kind, values in by_kind if values)
            rows.append(Row(f"settings.*.columns.*.{name}", _values(field), explanation(system, name), source))
        yield f"### Hyperparameters of `{system}`"
        yield f"In params.yaml: {', '.join(f'`{name}`' for name in named) or 'none'}."
        yield (
            _table(rows, {"settings": named}, "values of supplement E")
            if rows
            else "The system has no hyperparameters."
        )
    yield "### Hyperparameters from a study"
    yield "In place of hyperparameters, a column of a setting may name a study:"
    yield _table(list(_below("settings.*.columns.*", config.StudyReference)), {"settings": settings})


# ---------------------------------------------------------------------------------- keys


def _rows(model: type[BaseModel], names: Iterable[str], below: bool = False, block: bool = False) -> Iterator[Row]:
    """Yields the rows of some keys of a class of parameters, and of all keys below these keys.

    Args:
        model: The class of parameters.
        names: The keys.
        below: Whether the keys in `names` themselves have no rows, because a heading of the page explains them.
        block: Whether a key in `names` also has a row of its own if there are keys below it.
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
    """Yields the rows of all keys of a class of parameters, and of all keys below these keys.

    A key with other keys below it has a row of its own only if the key is optional.

    Args:
        key: The key whose value the class describes, such as `settings.*`.
        model: The class of parameters.
    """
    for name, field in model.model_fields.items():
        inside = list(_inside(f"{key}.{name}", field.annotation))
        optional = not field.is_required()
        if not inside or optional:
            yield _row(f"{key}.{name}", field)
        yield from inside


def _inside(key: str, annotation: Any) -> Iterator[Row]:
    """Yields the rows of all keys below one key. There are such keys if the key's type contains a class of parameters.

    Args:
        key: The key. In its rows `*` stands for a name, or for a position in a list.
        annotation: The type of the key's value.
    """
    annotation = bare(annotation)
    outer, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _below(key, annotation)
    elif outer in (list, dict):
        yield from _inside(f"{key}.*", inner[-1])
    elif outer in (Union, UnionType):
        yield from _merged(row for option in inner for row in _inside(key, option))


def _merged(rows: Iterable[Row]) -> list[Row]:
    """Merges rows that have the same key, because two classes of parameters may both have the key.

    A merged row has the different values, meanings and sources one after the other.
    """
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)

    def joined(texts: Iterable[str], mark: str) -> str:
        return mark.join(dict.fromkeys(filter(None, texts)))

    return [
        Row(
            key,
            joined((row.values for row in same), " or "),
            joined((row.description for row in same), " "),
            joined((row.source for row in same), "; "),
        )
        for key, same in by_key.items()
    ]


# ---------------------------------------------------------------------------------- allowed values


def _values(field: FieldInfo) -> str:
    """Describes the allowed values of a key in words, and adds the default if the key has one that is not None."""
    allowed = type_in_words(field.annotation, field.metadata)
    if field.is_required():
        return allowed
    default = field.get_default(call_default_factory=True)

    return f"{allowed} = {shown(default)}" if default is not None else allowed


# ---------------------------------------------------------------------------------- present values


def _table(rows: Iterable[Row], content: Mapping[str, Any], last: str = "from") -> str:
    """Formats rows as a table in Markdown, with the present values of the keys.

    Args:
        rows: The rows.
        content: The present parameters, as nested mappings.
        last: Heading of the last column.
    """
    lines = [f"| key | meaning | values | in params.yaml | {last} |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.key}`", row.description, row.values, _present(row.key, content), row.source)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")

    return "\n".join(lines)


def _present(key: str, content: Mapping[str, Any]) -> str:
    """Formats the present values of a key, each with the names for which the key has this value.

    Args:
        key: The key. The names, such as those of data sets, are the names that stand in place of `*`.
        content: The present parameters, as nested mappings.
    """
    groups: dict[str, list[tuple[str, ...]]] = {}
    for names, value in _values_at(key.split("."), content):
        groups.setdefault(shown(value), []).append(names)
    if any(len(value) > LONGEST for value in groups) or len(groups) > MOST_GROUPS:
        return "several"
    every = [name for names in groups.values() for name in names]
    named = content[key.split(".", maxsplit=1)[0]]
    alone = isinstance(named, dict) and len(named) == 1
    if alone:  # the heading above the table already shows the only name, so the cell leaves it out
        every = [name[1:] for name in every]
        groups = {value: [name[1:] for name in names] for value, names in groups.items()}
    everywhere = alone or not isinstance(named, dict) or len({name[:1] for name in every}) == len(named)
    if not groups or every[0] == () or (len(groups) == 1 and everywhere):
        return " ".join(groups)
    most = max(groups, key=lambda value: len(groups[value]))

    cell = "; ".join(
        f"{value} ({_names(names, 'all others' if everywhere and value == most else '')})"
        for value, names in groups.items()
    )

    return cell if len(cell) <= 4 * LONGEST else "several"


def _names(names: list[tuple[str, ...]], otherwise: str) -> str:
    """Joins the names beside a value, if they are few.

    Args:
        names: The names in place of each `*` of a key.
        otherwise: The text that replaces more than `MOST_NAMES` names. If it is empty, the number of names replaces
            more than `2 * MOST_NAMES` names.
    """
    shown = list(dict.fromkeys(".".join(name) for name in names))
    if len(shown) <= MOST_NAMES or (not otherwise and len(shown) <= 2 * MOST_NAMES):
        return ", ".join(shown)

    return otherwise or f"{len(shown)} places"


def _values_at(parts: list[str], content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields each present value of a key, together with the names in place of each `*` of the key.

    A `*` that stands for a position in a list has no name.

    Args:
        parts: The parts of the key, which dots separate.
        content: The present parameters, as nested mappings and lists.
    """
    if not parts:
        yield (), content
    elif parts[0] == "*":
        named = content.items() if isinstance(content, dict) else (("", value) for value in content or ())
        for name, value in named if isinstance(content, dict | list) else ():
            for names, inner in _values_at(parts[1:], value):
                yield ((name, *names) if name else names), inner
    elif isinstance(content, dict) and parts[0] in content:
        yield from _values_at(parts[1:], content[parts[0]])


# ---------------------------------------------------------------------------------- the file


def write(params: Params, path: Path = PAGE) -> bool:
    """Writes the page if it is out of date.

    Args:
        params: All parameters.
        path: The page.

    Returns:
        Whether the page was out of date and has been written.
    """
    text = render(params)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)

    return True


def check(params: Params, path: Path = PAGE) -> None:
    """Checks that the page agrees with the parameters.

    Args:
        params: All parameters.
        path: The page.

    Raises:
        UserError: If the page is missing or out of date.
    """
    if not path.exists() or path.read_text(encoding="utf-8") != render(params):
        raise UserError(
            f"{path}: expected the parameters of params.yaml; the page is missing or out of date."
            " Run 'duvae parameters', and commit the page."
        )
