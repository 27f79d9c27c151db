"""Error messages for a YAML file of parameters: where the mistake is, what was expected, what was found.

pydantic finds the mistakes. Its messages are in Python's words and name Python's types; the ones here are in words
that a reader of the file knows. A close known name is added where there is one.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

if TYPE_CHECKING:
    import yaml


def refusal(key: str, message: str) -> PydanticCustomError:
    """The error that a validator raises.

    Args:
        key: The key that is wrong, seen from the validated object: `probe.subsets`, or `` for the object itself.
        message: The text for the user, complete.
    """
    return PydanticCustomError("refusal", "{message}", {"message": message, "key": key})


def with_closest_key(error: ValidationError, known: Sequence[str]) -> ValidationError:
    """The same error, in which an unknown key comes with the closest known key.

    Args:
        error: The error of one object, with the errors of the objects inside it.
        known: The keys of the object.
    """

    def rewritten(detail: ErrorDetails) -> InitErrorDetails:
        context = detail.get("ctx", {})
        kind: str | PydanticCustomError = detail["type"]
        if kind == "extra_forbidden":
            kind = refusal("", unknown("key", detail["loc"][-1], known))
        elif kind == "refusal":
            kind = refusal(context["key"], context["message"])

        return InitErrorDetails(type=kind, loc=detail["loc"], input=detail["input"], ctx=context)

    return ValidationError.from_exception_data(error.title, [rewritten(detail) for detail in error.errors()])


def explain(detail: ErrorDetails, content: object) -> tuple[tuple[str, ...], str]:
    """The path of the wrong key, and the message about it.

    Args:
        detail: One error of pydantic.
        content: What pydantic validated, as it was read from the file.
    """
    path, found = _in_file(detail, content), detail["input"]
    context, kind = detail.get("ctx", {}), detail["type"]
    if kind == "refusal":
        return (*path, *filter(None, context["key"].split("."))), context["message"]
    if kind == "missing":
        return path, "expected this key; it is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = context["discriminator"].strip("'")
        if kind == "union_tag_not_found":
            return (*path, key), "expected this key; it is missing"
        return (*path, key), unknown(key, context["tag"], _split(context["expected_tags"]))
    if kind == "literal_error":
        allowed = context["expected"]
        return path, f"expected {allowed}; found {show(found)}{_close(found, _split(allowed))}"
    expected = _EXPECTED.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]).format(**context)
    hint = ""
    if kind in ("float_type", "int_type") and isinstance(found, str) and _is_number(found):
        hint = " (YAML reads that as text: write it without quotes, and 1.0e-5 for 1e-5)"

    return path, f"expected {expected}; found {show(found)}{hint}"


def _in_file(detail: ErrorDetails, content: object) -> tuple[str, ...]:
    """The path of an error in the file: pydantic's path without the names of the chosen classes of unions."""
    *parents, last = detail["loc"] or ("",)
    path = []
    for part in parents:
        if isinstance(content, list) or (isinstance(content, dict) and part in content):
            content = content[part]  # type: ignore[index]  # pydantic counts in lists
            path.append(str(part))
    there = isinstance(last, int) if isinstance(content, list) else isinstance(content, dict) and last in content
    if there or detail["type"] == "missing":
        path.append(str(last))

    return tuple(path)


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_attributes_type": "a mapping",
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


def unknown(what: str, found: object, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The message that a name is unknown, with the closest known name and all known names.

    Args:
        what: What the name should be a name of: key, setting, ...
        found: The unknown name.
        known: The known names.
    """
    names = list(known)
    expected = f"one of {', '.join(names)}" if names else "none"

    return f"unknown {what} {show(found)}{_close(found, names)}; expected {expected}"


def _close(found: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(found), known, n=1, cutoff=0.4)

    return f" (did you mean '{near[0]}'?)" if near else ""


def show(value: object) -> str:
    """A value as the file has it; for mappings and lists only their size."""
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
    """The line of `key`, or of the nearest key around it, in brackets; empty where no line is known."""
    while places and key:
        if key in places:
            return f" (line {places[key]})"
        key = key[:-1]

    return ""


def lines(node: "yaml.Node | None", path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """The path and the line of each key, counted from 1.

    Raises:
        yaml.YAMLError: If a key stands twice; YAML's own readers accept that and keep the last value.
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
