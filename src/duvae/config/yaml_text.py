"""Reads YAML text strictly. Whatever readers of YAML disagree about is an error that names the line.

PyYAML follows YAML 1.1, in which `010` is 8, `1:30` is 90 and `no` is false. DVC reads the same file by YAML 1.2, in
which these are 10 and two texts. PyYAML also follows aliases without a bound, so a short file could fill the memory.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

Key = tuple[str, ...]

LONGEST = 1_000_000
"""Largest number of characters, some forty times that of the project's params.yaml."""

LARGEST_FILE = 4 * LONGEST
"""Largest number of bytes of a file. A character of UTF-8 has at most 4 bytes."""

DEEPEST = 32
"""Largest number of mappings and lists inside each other, more than four times that of the project's params.yaml."""

MOST_VALUES = 200_000
"""Largest number of values behind all aliases, some seventy times that of the project's params.yaml."""

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBER_ELSEWHERE = re.compile(
    r"[-+]?(0o[0-7_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9_]+([eE][-+][0-9]+)?)|[-+][0-9_]+"
)
"""Forms that YAML 1.2, and so DVC, reads as numbers. PyYAML reads some of them as texts, such as `1e3` and `08`."""
_PREFIX = "tag:yaml.org,2002:"

_LONGEST_SHOWN = 300
"""Largest number of characters of a message. PyYAML's messages may quote a tag or a name of any length."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, in which dates are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_PREFIX}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str) -> tuple[Any, dict[Key, int]]:
    """Reads a YAML text.

    Args:
        text: Content of a file.

    Returns:
        The value of the text, and the line number of each key, counted from 1. A key of the second value is the path
        of a key in the file.

    Raises:
        yaml.YAMLError: If the text is not YAML, is larger than the bounds of this module, or has something that
            readers of YAML understand differently. The error knows its line.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"expected at most {LONGEST:,} characters; found {len(text):,}")
    _check_size(text)
    node = yaml.compose(text, _Loader)
    if node is None:
        return None, {}
    lines = dict(_key_lines(node, ()))

    return _Loader("").construct_document(node), lines


def _check_size(text: str) -> None:
    """Checks depth and size before any value is built. The parser's events come one by one, whatever the depth."""
    sizes: dict[str, int] = {}
    depths: dict[str, int] = {}
    opened: list[tuple[str | None, yaml.Event]] = []
    counts, inside = [0], [0]

    def count(size: int, depth: int, event: yaml.Event) -> None:
        """Adds a value to the mapping or list around it: its size, and how deep mappings and lists nest in it."""
        counts[-1] += size
        inside[-1] = max(inside[-1], depth)
        if len(opened) + depth > DEEPEST:
            raise _error(f"expected at most {DEEPEST} mappings and lists inside each other", event.start_mark)
        if counts[-1] > MOST_VALUES:
            raise _error(f"expected at most {MOST_VALUES:,} values, counting those behind aliases", event.start_mark)

    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            if len(opened) == DEEPEST:
                raise _error(f"expected at most {DEEPEST} mappings and lists inside each other", event.start_mark)
            opened.append((event.anchor, event))
            counts.append(1)
            inside.append(0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, _ = opened.pop()
            size, depth = counts.pop(), inside.pop() + 1
            if anchor is not None:
                sizes[anchor], depths[anchor] = size, depth
            count(size, depth, event)
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise _error(f"the alias '*{event.anchor}' lies inside the value that it stands for", event.start_mark)
            name = str(event.anchor)  # the composer reports an unknown anchor
            count(sizes.get(name, 1), depths.get(name, 0), event)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor], depths[event.anchor] = 1, 0
            count(1, 0, event)


def is_plain_text(name: str) -> bool:
    """Whether every reader of YAML reads a name of letters, digits and _ as a text, even without quotes."""
    return isinstance(yaml.safe_load(name), str) and not _NUMBER_ELSEWHERE.fullmatch(name)


def _events(text: str) -> Iterator[yaml.Event]:
    """Yields the parser's events. An escape that stands for no character, such as U+FFFFFFFF, is an error."""
    loader = _Loader(text)
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except (ValueError, OverflowError) as error:  # Python's function `chr` raises them, and PyYAML passes them on
        raise _error(f"expected an escape that stands for a character ({error})", loader.get_mark()) from error
    finally:
        loader.dispose()


def _key_lines(node: yaml.Node, path: Key) -> Iterator[tuple[Key, int]]:
    """Checks all parts of a parsed text, and yields the path of each key with its line number, counted from 1."""
    explicit = node.tag.removeprefix(_PREFIX)
    if explicit not in {"map", "seq", "str", "int", "float", "bool", "null", "merge"}:
        raise _error(f"expected a value without a tag; found the tag {node.tag!r}. Remove it", node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, explicit)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), value.start_mark.line + 1
            yield from _key_lines(value, (*path, str(index)))
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag == f"{_PREFIX}merge":
                if "<<" in seen:
                    raise _error("the key '<<' occurs twice. Write <<: [*first, *second]", key.start_mark)
                seen.add("<<")
                yield from _key_lines(value, path)
                continue
            if key.tag != f"{_PREFIX}str":
                found = f"'{key.value[:60]}'" if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
                raise _error(f"expected a name as the key; found {found}. Quote it if it is a name", key.start_mark)
            _check_scalar(key, "str")
            if key.value in seen:
                raise _error(f"the key '{key.value[:60]}' occurs twice", key.start_mark)
            seen.add(key.value)
            yield (*path, key.value), key.start_mark.line + 1
            yield from _key_lines(value, (*path, key.value))


def _check_scalar(node: yaml.ScalarNode, kind: str) -> None:
    """Checks that a number or a truth value is written as all readers of YAML understand it."""
    shown = node.value if len(node.value) <= 60 else node.value[:60] + "…"
    if kind == "int" and not _WHOLE.fullmatch(node.value):
        raise _error(
            f"expected a whole number of at most 18 decimal digits, without a 0 before it; found {shown}. Write the"
            " number so, or quote it if it is a text",
            node.start_mark,
        )
    if kind == "float" and not _FRACTION.fullmatch(node.value):
        raise _error(
            f"expected a number with a decimal point, such as 0.5; found {shown}. Write the number so, or quote it if"
            " it is a text",
            node.start_mark,
        )
    if kind == "bool" and node.value.lower() not in {"true", "false"}:
        raise _error(
            f"expected true or false; found {shown}. Write it so, or quote it if it is a text", node.start_mark
        )
    if kind == "str" and node.style is None and _NUMBER_ELSEWHERE.fullmatch(node.value):
        raise _error(
            f"expected a number such as 10, 0.5 or 1.0e-5; found {shown}, which some programs read as a number and"
            " others as a text. Write the number so, or quote it if it is a text",
            node.start_mark,
        )
    if kind == "null" and node.value.lower() not in {"", "~", "null"}:
        raise _error(f"expected null; found {shown}", node.start_mark)


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def describe(error: yaml.YAMLError) -> tuple[int | None, str]:
    """The line of an error, counted from 1, and its message on one line; None if the line is unknown."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)

    message = " ".join(f"{f'{context}: ' if context else ''}{problem}".split())
    if len(message) > _LONGEST_SHOWN:
        message = message[:_LONGEST_SHOWN] + "…"

    return None if mark is None else mark.line + 1, message
