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


class _Sizes:
    """Checks depth and size of a text while it is parsed, before any value is built."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.depths: dict[str, int] = {}
        self.opened: list[tuple[str | None, yaml.Event]] = []
        self.counts, self.inside = [0], [0]

    def add(self, event: yaml.Event) -> None:
        """Takes the next event of the parser.

        Args:
            event: The event, such as the start of a mapping.

        Raises:
            yaml.YAMLError: If the text is deeper or larger than the bounds of this module.
        """
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self.opened) == DEEPEST:
                raise _error(f"expected at most {DEEPEST} mappings and lists inside each other", event.start_mark)
            self.opened.append((event.anchor, event))
            self.counts.append(1)
            self.inside.append(0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, _ = self.opened.pop()
            size, depth = self.counts.pop(), self.inside.pop() + 1
            if anchor is not None:
                self.sizes[anchor], self.depths[anchor] = size, depth
            self._count(size, depth, event)
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in self.opened):
                raise _error(f"the alias '*{event.anchor}' lies inside the value that it stands for", event.start_mark)
            name = str(event.anchor)  # the composer reports an unknown anchor
            self._count(self.sizes.get(name, 1), self.depths.get(name, 0), event)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                self.sizes[event.anchor], self.depths[event.anchor] = 1, 0
            self._count(1, 0, event)

    def _count(self, size: int, depth: int, event: yaml.Event) -> None:
        """Adds a value to the mapping or list around it: its size, and how deep mappings and lists nest in it."""
        self.counts[-1] += size
        self.inside[-1] = max(self.inside[-1], depth)
        if len(self.opened) + depth > DEEPEST:
            raise _error(f"expected at most {DEEPEST} mappings and lists inside each other", event.start_mark)
        if self.counts[-1] > MOST_VALUES:
            raise _error(f"expected at most {MOST_VALUES:,} values, counting those behind aliases", event.start_mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, in which dates are texts, and which checks sizes as it goes through the parser's events."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.checked = _Sizes()

    def get_event(self) -> yaml.Event:
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self.checked.add(event)

        return event


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
    node = _composed(text)
    if node is None:
        return None, {}
    lines = dict(_key_lines(node, ()))

    return _Loader("").construct_document(node), lines


def _composed(text: str) -> yaml.Node | None:
    """Parses a text. An escape that stands for no character, such as U+FFFFFFFF, is an error."""
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError) as error:  # Python's function `chr` raises them, and PyYAML passes them on
        raise _error(f"expected an escape that stands for a character ({error})", loader.get_mark()) from error
    finally:
        loader.dispose()


def is_plain_text(name: str) -> bool:
    """Whether every reader of YAML reads a name of letters, digits and _ as a text, even without quotes."""
    return isinstance(yaml.safe_load(name), str) and not _NUMBER_ELSEWHERE.fullmatch(name)


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
