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
    these mistakes have the same key, line and message, so they have one cause. A key that the anchor lacks has no line,
    so the key around it decides instead of the line. The line of a cause names the first of its mistakes and the number
    of the others. A misspelt key and the key that is missing for this reason have one cause, too.

    Args:
        mistakes: The mistakes, with their full keys.
        line_numbers: Line number of each key; None if the lines are unknown.
    """
    messages: dict[Key, str] = {}
    for key, why in mistakes:
        messages[key[:-1]] = messages.get(key[:-1], "") + why
    places: dict[tuple[Key, str, str], list[Key]] = {}
    for key, why in dict.fromkeys(mistakes):
        if why == MISSING and suggestion(key[-1]) in messages[key[:-1]]:
            continue
        line = line_note(key, line_numbers)
        place = ((key[-2:], "") if why == MISSING else (key[-1:], line)) if line else (key, "")
        places.setdefault((*place, why), []).append(key)
    for (_, _, why), keys in places.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"{'.'.join(map(show_name, keys[0]))}{more}{line_note(keys[0], line_numbers)}: {why}"
