"""Puts the mistakes in params.yaml that have the same cause on one line."""

from collections.abc import Iterator, Mapping, Sequence

from duvae.messages import MISSING, line_note, show_name, suggestion

Key = tuple[str, ...]
"""Path of a key in params.yaml, such as `("settings", "vae", "columns")`."""
Mistake = tuple[Key, str]
"""The key of params.yaml that has a mistake, and the message about the mistake."""


def causes(mistakes: Sequence[Mistake], line_numbers: Mapping[Key, int] | None) -> Iterator[str]:
    """Writes one line for each cause of mistakes.

    If several parts of the file share a YAML anchor, a wrong key in the anchor is a mistake in each of these parts. All
    these mistakes have the same key, line and message, so they have one cause. The line names the first of them and the
    number of the others. A misspelt key and the key that is missing for this reason have one cause, too.

    Args:
        mistakes: The mistakes, with their full keys.
        line_numbers: Line number of each key; None if the lines are unknown.
    """
    messages: dict[Key, str] = {}
    for key, why in mistakes:
        messages[key[:-1]] = messages.get(key[:-1], "") + why
    first_lines = _first_lines(line_numbers or {})
    places: dict[tuple[Key, int | None, str], list[Key]] = {}
    for key, why in dict.fromkeys(mistakes):
        if why == MISSING and suggestion(key[-1]) in messages[key[:-1]]:
            continue
        line = (line_numbers or {}).get(key, first_lines.get(key[:-1]))
        places.setdefault((key if line is None else key[-1:], line, why), []).append(key)
    for (_, _, why), keys in places.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"{'.'.join(map(show_name, keys[0]))}{more}{line_note(keys[0], line_numbers)}: {why}"


def _first_lines(line_numbers: Mapping[Key, int]) -> dict[Key, int]:
    """The first line of the keys inside each key. It is the same for all keys that share an anchor.

    The anchor stands above the keys that use it, so keys of their own beside `<<` do not change the first line.
    """
    first: dict[Key, int] = {}
    for key, line in line_numbers.items():
        first[key[:-1]] = min(line, first.get(key[:-1], line))

    return first
