"""Puts the mistakes in params.yaml that have the same cause on one line."""

from collections.abc import Iterator, Mapping, Sequence

from duvae.config.places import Key, Mistake, Place, place_of
from duvae.messages import MISSING, line_note, show_name, suggestion


def causes(mistakes: Sequence[Mistake], main: Place, places: Mapping[Key, Place]) -> Iterator[str]:
    """Writes one line for each cause of mistakes.

    If several parts of the file share a YAML anchor, a wrong key in the anchor is a mistake in each of these parts. All
    these mistakes have the same key, line and message, so they have one cause. A key that the anchor lacks has no line,
    so the key around it decides instead of the line. The line of a cause names the first of its mistakes and the number
    of the others. A misspelt key and the key that is missing for this reason have one cause, too.

    Args:
        mistakes: The mistakes, with their full keys.
        main: Place of all parts that `places` lacks, such as params.yaml.
        places: Places of single parts, by the key of the part.
    """
    messages: dict[Key, str] = {}
    for key, why in mistakes:
        messages[key[:-1]] = messages.get(key[:-1], "") + why
    alike: dict[tuple[str, Key, str, str], list[Key]] = {}
    for key, why in dict.fromkeys(mistakes):
        if why == MISSING and suggestion(key[-1]) in messages[key[:-1]]:
            continue
        place = place_of(key, main, places)
        line = line_note(key[place.above :], place.line_numbers)
        group = ((key[-2:], "") if why == MISSING else (key[-1:], line)) if line else (key, "")
        alike.setdefault((place.name, *group, why), []).append(key)
    for (_, _, _, why), keys in alike.items():
        yield _message(keys[0], len(keys) - 1, why, place_of(keys[0], main, places))


def _message(key: Key, others: int, why: str, place: Place) -> str:
    """Writes the message about a cause, with the name and the line of the file that the user wrote."""
    inside = key[place.above :]
    more = f" and {others} more" if others else ""
    where = f" {'.'.join(map(show_name, inside))}{more}{line_note(inside, place.line_numbers)}:" if inside else ""

    return f"{place.name}:{where} {why}"
