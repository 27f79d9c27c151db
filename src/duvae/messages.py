"""Writes error messages about a YAML file of parameters: where the mistake is, what was expected, what was found.

pydantic finds the mistakes, but its messages name types and classes of Python. The messages of this module use the
words of the YAML file. If a name is unknown, they add the known name with the closest spelling.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

LONGEST_SHOWN = 100
"""Largest number of characters of a text that a message shows."""

MISSING = "expected this key; it is missing"
"""Message about a key that is not there."""

CLOSE, VERY_CLOSE = 0.4, 0.6
"""Similarities to a wrong name, as `difflib` measures them. A known name that is at least `CLOSE` is a suggestion. A
suggestion that is `VERY_CLOSE` stands without the other known names."""


def refusal(key: str, message: str) -> PydanticCustomError:
    """Builds the error that a pydantic validator of this project raises. `explain` returns its message unchanged.

    Args:
        key: Path of the wrong key inside the validated object, such as `probe.subsets`; empty: the object itself.
        message: Complete message for the user.
    """
    return PydanticCustomError("refusal", "{message}", {"message": message, "key": key})


def with_closest_key(error: ValidationError, known: Sequence[str]) -> ValidationError:
    """Adds the closest known key to an error about an unknown key.

    Args:
        error: pydantic's error about one object. It also holds the errors of the objects inside this object.
        known: Keys that the object may have.

    Returns:
        A new error, in which the function `unknown` has written the message about each unknown key.
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
    """Finds the path of the wrong key, and writes the message about this key.

    Args:
        detail: One error of pydantic.
        content: The content that pydantic validated and refused, such as the content of a whole file.

    Returns:
        The path of the key and the message. The path starts at the top of `content`, and has one element per level.
    """
    path, value = _in_file(detail, content), detail["input"]
    context, kind = detail.get("ctx", {}), detail["type"]
    if kind == "refusal":
        return (*path, *filter(None, context["key"].split("."))), context["message"]
    if kind == "missing":
        return path, MISSING
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = context["discriminator"].strip("'")
        if kind == "union_tag_not_found":
            return (*path, key), MISSING
        return (*path, key), unknown(key, context["tag"], _split(context["expected_tags"]))
    if kind == "literal_error":
        allowed = context["expected"]
        return path, f"expected {allowed}; found {show(value)}{_close(value, _split(allowed))}"
    expected = _EXPECTED.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]).format(**context)
    hint = ""
    if kind in ("float_type", "int_type") and isinstance(value, str) and _is_number(value):
        hint = " (YAML reads this value as text: write the number without quotes, and 1.0e-5 instead of 1e-5)"

    return path, f"expected {expected}; found {show(value)}{hint}"


def _in_file(detail: ErrorDetails, content: object) -> tuple[str, ...]:
    """Finds the path of a wrong key in the file.

    If a value may be of one of several classes, pydantic's path also holds the name of the class that pydantic chose.
    The file has no key of this name, so the returned path leaves it out.
    """
    *parents, last = detail["loc"] or ("",)
    path = []
    for part in parents:
        if isinstance(content, list) or (isinstance(content, dict) and part in content):
            content = content[part]  # type: ignore[index]  # `part` is an index if `content` is a list
            path.append(str(part))
    has_last = isinstance(last, int) if isinstance(content, list) else isinstance(content, dict) and last in content
    if has_last or detail["type"] == "missing":
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
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "a name of lower-case letters, digits and _",
}
"""The expected value in words, by pydantic's type of error. `explain` replaces names in curly brackets by values."""


def unknown(kind: str, name: object, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Writes the message that a name is unknown. The message suggests the known name with the closest spelling.

    All known names follow, unless the suggestion is so close that it is most likely the right name.

    Args:
        kind: Kind of the name, such as `key` or `setting`.
        name: The unknown name.
        known: The known names.
    """
    names = list(known)
    message = f"unknown {kind} {show(name)}{_close(name, names)}"
    if difflib.get_close_matches(str(name), names, n=1, cutoff=VERY_CLOSE):
        return message
    expected = f"one of {', '.join(names)}" if names else "none"

    return f"{message}; expected {expected}"


def _close(name: object, known: Sequence[str]) -> str:
    """Writes a hint in brackets with the known name that is closest in spelling; empty if no name is close."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=CLOSE)

    return f" {suggestion(near[0])}" if near else ""


def suggestion(name: str) -> str:
    """Writes a hint in brackets that the user may have meant a known name."""
    return f"(did you mean '{name}'?)"


def show(value: object) -> str:
    """A value as a message shows it. A mapping or a list is shown by its length, and a long text is cut."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of length {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()

    if isinstance(value, str) and len(value) > LONGEST_SHOWN:
        value = value[:LONGEST_SHOWN] + "…"

    return "nothing" if value is None else repr(value)


def show_name(name: str) -> str:
    """A key as a message shows it: long keys are cut, and a key with control characters is quoted and escaped."""
    short = name if len(name) <= LONGEST_SHOWN else name[:LONGEST_SHOWN] + "…"

    return short if short.isprintable() else repr(short)


def _split(allowed: str) -> list[str]:
    return [part.strip(" '") for part in allowed.replace(" or ", ",").split(",")]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False

    return True


def line_note(key: tuple[str, ...], line_numbers: Mapping[tuple[str, ...], int] | None) -> str:
    """Writes the line number of a key in brackets. The note is empty if no line number is known.

    Args:
        key: Path of the key.
        line_numbers: Line number of each path, from `duvae.config.yaml_text.read`; None if the lines are unknown. If
            the path of the key is not among them, the nearest key around it gives the line.
    """
    while line_numbers and key:
        if key in line_numbers:
            return f" (line {line_numbers[key]})"
        key = key[:-1]

    return ""
