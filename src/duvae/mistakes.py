"""Mistakes in a YAML file of parameters, told in words: where, what was expected, what was found, what was meant."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

if TYPE_CHECKING:
    import yaml

KINDS = ("synthetic", "text", "omniglot", "images")
"""Of data sets."""


def explain(detail: ErrorDetails, model: type[BaseModel]) -> tuple[tuple[str, ...], str]:
    """A key's path and what is wrong with it, in words."""
    path = _without_tag(detail["loc"])
    found, context = detail["input"], detail.get("ctx", {})
    kind = detail["type"]
    if kind == "extra_forbidden":
        return path, unknown("key", path[-1], _fields(model, detail["loc"][:-1]))
    if kind == "missing":
        return path, "expected this key; it is missing"
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = str(context.get("expected") or context.get("expected_tags"))
        if kind == "union_tag_invalid":
            path, found = (*path, "kind"), found.get("kind") if isinstance(found, dict) else found
        return path, f"expected {allowed}; found {show(found)}{_close(found, _split(allowed))}"
    if kind == "union_tag_not_found":
        return (*path, "kind"), f"expected this key ({', '.join(KINDS)}); it is missing"
    if "at" in context:
        return (*path, *str(context["at"]).split(".")), detail["msg"]
    expected = _EXPECTED.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]).format(**context)
    hint = ""
    if kind in ("float_type", "int_type") and isinstance(found, str) and _is_number(found):
        hint = " (YAML reads that as text: write it without quotes, and 1.0e-5 for 1e-5)"

    return path, f"expected {expected}; found {show(found)}{hint}"


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "a name of lower-case letters, digits and _",
}


def _without_tag(loc: Sequence[int | str]) -> tuple[str, ...]:
    """pydantic puts the chosen kind into the path of a data set's key, and of `run`'s; the file has no such level."""
    parts = [str(part) for part in loc]
    if len(parts) > 1 and parts[0] == "run" and parts[1] in ("block", "name"):
        del parts[1]
    if len(parts) > 2 and parts[0] == "datasets" and parts[2] in KINDS:
        del parts[2]

    return tuple(part for part in parts if part != "[key]")


def _fields(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys that are known at `loc`, a path as pydantic gives it, with a data set's kind after its name."""
    here: Any = model
    for part in loc:
        if part == "block" and loc[0] == "run":
            continue
        here = _inside(here, str(part))
    found = [get_args(a)[0] if get_origin(a) is Annotated else a for a in (here, *get_args(here))]
    models = [a for a in found if isinstance(a, type) and issubclass(a, BaseModel)]

    return list(models[0].model_fields) if models else []


def _inside(annotation: Any, part: str) -> Any:
    """The type of what stands under `part` in a value of the type `annotation`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[part].annotation if part in annotation.model_fields else None
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is Annotated:
        return _inside(inner[0], part)
    if outer in (Union, UnionType):
        inner = tuple(get_args(a)[0] if get_origin(a) is Annotated else a for a in inner)
        models = [a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)]
        kinds = {get_args(a.model_fields["kind"].annotation)[0]: a for a in models if "kind" in a.model_fields}
        return kinds[part] if part in kinds else _inside(models[0], part)

    return inner[-1] if outer in (dict, list) else None


def unknown(what: str, found: object, known: Mapping[str, Any] | Sequence[str]) -> str:
    """That `found` is no known `what`, the closest known one, and all that are."""
    names = list(known)
    expected = f"one of {', '.join(names)}" if names else "none"

    return f"unknown {what} {show(found)}{_close(found, names)}; expected {expected}"


def _close(found: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(found), known, n=1, cutoff=0.4)

    return f" (did you mean '{near[0]}'?)" if near else ""


def show(value: object) -> str:
    """A value as one would write it in the file; of mappings and lists only their size."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()

    return "nothing" if value is None else repr(value)


def _split(allowed: str) -> list[str]:
    return [part.strip(" '") for part in allowed.replace(" or ", ",").split(",")]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False

    return True


def line(key: tuple[str, ...], places: Mapping[tuple[str, ...], int] | None) -> str:
    """The line of `key`, or of the nearest key around it, in brackets; nothing where it is not known."""
    while places and key:
        if key in places:
            return f" (line {places[key]})"
        key = key[:-1]

    return ""


def lines(node: "yaml.Node | None", path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where each key stands, counted from 1.

    Raises:
        yaml.YAMLError: Where a key stands twice, which YAML's readers would pass over in silence.
    """
    import yaml  # not at the top: a trained model is loaded without this library

    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
            if key.value == "<<":
                yield from lines(value, path)
                continue
            yield (*path, str(key.value)), key.start_mark.line + 1
            yield from lines(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), value.start_mark.line + 1
            yield from lines(value, (*path, str(index)))
