"""Describes the types of parameters and the bounds of their values in words, for the page of all parameters."""

from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as bounds
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """All classes of parameters anywhere inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]

    return [model for inner in get_args(annotation) for model in models_in(inner)]


def bare(annotation: Any) -> Any:
    """Removes the `Annotated` around a type."""
    return bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def type_in_words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Describes a type and the bounds of its values in words.

    Args:
        annotation: Type of the values, such as `int` or `list[float]`.
        metadata: Objects that state the bounds, such as `annotated_types.Ge`.
    """
    limits = list(metadata)
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        limits += more
    limits = [part for limit in limits for part in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is Literal:
        return ", ".join(f"`{shown(value)}`" for value in inner)
    if outer in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_in_words(kind) if kind is not type(None) else "null" for kind in inner))
    if outer is dict:
        return f"mapping to {type_in_words(inner[1])}"
    if outer is list:
        return f"list of {type_in_words(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}.get(annotation, "value")

    return f"{words}{_limits(limits)}"


def _limits(limits: Iterable[Any]) -> str:
    """Describes the bounds of a number, as in ` ≥ 0, < 1`."""
    signs = {bounds.Ge: ("≥", "ge"), bounds.Gt: (">", "gt"), bounds.Le: ("≤", "le"), bounds.Lt: ("<", "lt")}
    words = [f"{signs[type(one)][0]} {getattr(one, signs[type(one)][1])}" for one in limits if type(one) in signs]
    words += [f"a multiple of {one.multiple_of}" for one in limits if isinstance(one, bounds.MultipleOf)]

    return f" {', '.join(words)}" if words else ""


def shown(value: Any) -> str:
    """Formats a value as params.yaml writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"

    # YAML reads 1e-08 as text, but 1.0e-08 as a number.
    return str(value).replace("e-", ".0e-") if isinstance(value, float) and "." not in str(value) else str(value)
