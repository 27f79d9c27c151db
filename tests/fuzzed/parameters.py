"""Mutations of params.yaml: each place gets wrong types, extremes, paths or nothing, and the text is damaged."""

import copy
import functools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import tiny
from fuzzed import project
from fuzzed.mutation import Command, Mutation, job, stages

Place = tuple[str | int, ...]
"""Path of a value in params.yaml."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 0.5, -0.5, 1e-7, 1e-300, 1e300, -1e300, 10**30, -(10**30), 2**31, 2**63,
    math.inf, -math.inf, math.nan, "", " ", "x", "x" * 5000, "null", "0", "1e5", "0x10", "1:30", "010", "yes",
    "2001-02-30", "a\0b", "\x1b[31m", "ü\u0308", "\u202e", "\ufeff", "\U0001f600", "a\nb", "%s{}", "\u0660",
    "/", "..", ".", "./", "/dev/zero", "/dev/null", "/proc/self/mem", "folder", "odd", "empty", "loop", "dangling",
    "data", "~", "http://127.0.0.1:9/x", "own/../own.txt", [], {}, [None], [[]], [[1]], {"a": 1}, {"": None},
    {"study": "synthetic_grid"}, [1] * 500, {f"k{n}": n for n in range(300)},
)  # fmt: skip
"""Values for every place. Numbers that are large but allowed are left out: they ask for hours of work."""

REMOVED, UNKNOWN, NEAR, TWICE = (object() for _ in range(4))
"""Changes of a key instead of its value: no key, another key beside it, a misspelt key, the key twice."""


def places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """All values inside a value, with their places; mappings and lists too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*place, key), part
        yield from places(part, (*place, key))


def kind_of(place: Place, raw: dict[str, Any]) -> Place:
    """A place without names that a user chooses and without indices. Equal kinds have equal rules."""
    named = {"datasets": 1, "settings": 1, "setting_grids": 1, "studies": 1, "runs": 1}
    kind = ["#" if isinstance(part, int) else part for part in place]
    if place[0] in named and len(place) > 1:
        value = raw[place[0]][place[1]]
        kind[1] = value.get("kind", value.get("system", "*")) if isinstance(value, dict) else "*"
    if "columns" in kind[:-1] and kind[0] in {"settings", "setting_grids"}:
        kind[kind.index("columns") + 1] = "*"

    return tuple(kind)


@functools.cache
def compact() -> dict[str, Any]:
    return project.content()


@functools.cache
def whole() -> dict[str, Any]:
    """The parameters of the repository's own params.yaml, every value for itself."""
    from json import dumps, loads

    return loads(dumps(tiny.small()))


@functools.cache
def ordered(seed: int, source: Callable[[], dict[str, Any]]) -> tuple[Place, ...]:
    """All places in a random order: first one place of each kind, then all others."""
    every = [place for place, _ in places(source())]
    random.Random(seed).shuffle(every)
    first = {kind_of(place, source()): place for place in reversed(every)}
    chosen = set(first.values())

    return (*(place for place in every if place in chosen), *(place for place in every if place not in chosen))


def candidates(value: Any) -> list[Any]:
    """The values that may replace a value: those of VALUES, changes of the key, and values near this value."""
    near: list[Any] = [[value], {"x": value}, str(value)]
    if type(value) in (int, float):
        near += [-value, value * 10, value / 2, value + 1, float(value), [value, value]]
    if isinstance(value, str):
        near += [value.upper(), value[:-1], value + " ", value * 30]
    if isinstance(value, list):
        near += [value * 2, value[::-1], value * 60]

    return [*VALUES, *(4 * near), *(4 * [REMOVED, UNKNOWN, NEAR, TWICE])]


def changed(raw: dict[str, Any], place: Place, value: Any) -> str:
    """The text of params.yaml with one change."""
    raw = copy.deepcopy(raw)
    *above, last = place
    inside = functools.reduce(lambda value, key: value[key], above, raw)
    if value is TWICE and isinstance(inside, dict):
        marker = "key that occurs twice"
        inside[marker] = inside[last]
        return project.dumped(raw).replace(marker, str(last))
    if value is REMOVED or value is TWICE:
        del inside[last]
    elif value is UNKNOWN and isinstance(inside, dict):
        inside["unknown"] = 1
    elif value is NEAR and isinstance(inside, dict):
        inside[f"{last}x"] = inside.pop(last)
    else:
        inside[last] = "unknown" if value in (UNKNOWN, NEAR) else value

    return project.dumped(raw)


def commands(place: Place, generator: random.Random) -> tuple[Command, ...]:
    """The commands that use the value at a place."""
    top, *rest = place
    name = str(rest[0]) if rest else ""
    setting = generator.choice(["vae", "du_vae", "iaf_bn"])
    if top == "datasets" and name in (*project.TEXTS, *project.IMAGES, "synthetic"):
        images, generated = name in project.IMAGES, name in {"synthetic", "drawn"}
        later = [job("train", name, setting)]
        if "probe" in rest:
            later.append(job("probe", name, setting))
        if "truth" in rest:
            later = [("truth", "--dataset", "synthetic")]
        return (("graph",), *stages(name, *later, images=images, generated=generated))
    if top == "settings" and name:
        columns = {column: dataset for dataset, column in project.COLUMNS.items()}
        used = [columns[part] for part in rest[2:3] if part in columns] or [generator.choice([*project.COLUMNS])]
        return (("graph",), job("train", used[0], name))
    if top == "studies" and name:
        return (("graph",), ("search", "--study", name))
    later_of = {
        "evaluation": [job("evaluate", generator.choice([*project.COLUMNS]))],
        "probe": [job("probe", generator.choice(["own", "synthetic"]))],
        "generation": [job("samples", generator.choice([*project.COLUMNS]))],
        "figure1": [],
        "setting_grids": [job("train", "own", "figure2_g04_p09")],
    }

    return (("graph",), *later_of.get(str(top), [job("train", "own", setting)]))


def warm(seed: int) -> None:
    """Computes what all mutations share."""
    ordered(seed, compact)
    ordered(seed, whole)


def shown(value: Any) -> str:
    names = {id(REMOVED): "removed", id(UNKNOWN): "an unknown key", id(NEAR): "misspelt", id(TWICE): "twice"}

    return names.get(id(value), repr(value) if len(repr(value)) < 80 else f"{repr(value)[:80]}…")


def damaged(text: str, generator: random.Random) -> tuple[str, bytes]:
    """Damages the text of params.yaml; returns what was done, and the new bytes."""
    lines = text.split("\n")
    at, other = generator.randrange(len(lines)), generator.randrange(len(lines))
    raw = text.encode()
    cut, bit = generator.randrange(len(raw)), generator.randrange(8)
    odd = generator.choice(
        ["\t", "\t- x", "&a *a", "*unknown", "<<: *x", "? [1]", "!!python/object:os.system x", "!!int x", "%YAML 9.9",
         "---", "...", "{", "]", "- - - - -", "key: |", "  : :", "&a [*a]", "'", '"\\x', "a: &a {<<: *a}", "\u2028",
         "\x85", "#", "!", "@", "`", "? ", "1: 1", "null: 1", "[" * 3000, "- " * 3000, "9" * 5000, "x: " * 50,
         "\ud7ff", "!<tag:yaml.org,2002:binary> x", "2001-02-30: 1", "x: 190:20:30", "&" + "a" * 3000 + " 1"]
    )  # fmt: skip
    options: dict[str, Callable[[], str | bytes]] = {
        "cut": lambda: raw[:cut],
        "a bit flipped": lambda: raw[:cut] + bytes([raw[cut] ^ 1 << bit]) + raw[cut + 1 :],
        "a byte put in": lambda: raw[:cut] + bytes([generator.randrange(256)]) + raw[cut:],
        "bytes removed": lambda: raw[:cut] + raw[cut + generator.randrange(1, 200) :],
        "a line twice": lambda: "\n".join([*lines[:at], lines[at], *lines[at:]]),
        "a line moved": lambda: "\n".join([*lines[:at], lines[other], *lines[at + 1 :]]),
        "a line removed": lambda: "\n".join([*lines[:at], *lines[at + 1 :]]),
        "a line indented": lambda: "\n".join([*lines[:at], f" {lines[at]}", *lines[at + 1 :]]),
        f"the line {odd[:40]!r}": lambda: "\n".join([*lines[:at], odd, *lines[at:]]),
        f"{odd[:40]!r} in a line": lambda: "\n".join(
            [*lines[:at], f"{lines[at].partition(':')[0]}: {odd}", *lines[at + 1 :]]
        ),
        "UTF-16": lambda: text.encode("utf-16"),
        "a byte-order mark": lambda: text.encode("utf-8-sig"),
        "carriage returns": lambda: text.replace("\n", generator.choice(["\r\n", "\r"])),
        "random bytes": lambda: generator.randbytes(2000),
        "the text twice": lambda: text + text,
        "bombs of aliases": lambda: (
            text + "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
        ),
        "1,000,000 lines": lambda: text + "# x\n" * 1_000_000,
    }
    name = generator.choice([*options])
    done = options[name]()

    return name, done if isinstance(done, bytes) else done.encode("utf-8", "surrogatepass")


def mutate(number: int, seed: int, generator: random.Random) -> Mutation:
    """The mutation with this number among the mutations of params.yaml."""
    if number % 10 == 9:
        what, raw = damaged(project.dumped(compact()), generator)
        return Mutation(
            "parameters",
            f"params.yaml: {what}",
            lambda folder: (folder / "params.yaml").write_bytes(raw),
            (("graph",), *stages("own", job("train", "own"))),
        )
    source = whole if number % 10 == 4 else compact
    order = ordered(seed, source)
    index = number // 10 if source is whole else number - (number + 1) // 10 - (number + 5) // 10
    place = order[index % len(order)]
    value = functools.reduce(lambda inside, key: inside[key], place, source())
    tried = candidates(value)
    random.Random(f"{seed} {place}").shuffle(tried)
    chosen = tried[index // len(order) % len(tried)]
    text = changed(source(), place, chosen)
    used = (("graph",),) if source is whole else commands(place, generator)

    return Mutation(
        "parameters",
        f"params.yaml: {'.'.join(map(str, place))}: {shown(chosen)}",
        lambda folder: (folder / "params.yaml").write_text(text, encoding="utf-8", errors="surrogatepass"),
        used,
    )
