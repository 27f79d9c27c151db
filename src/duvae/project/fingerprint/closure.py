"""What a function can reach: the definitions that a fingerprint covers."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from duvae.project.fingerprint.reader import RESOURCES, ROOT, Definition, digest
from duvae.project.fingerprint.source import Source

NOT_HASHED: Mapping[str, str] = {
    "duvae.errors": "says what is wrong; a stage that ends with an error has no result",
    "duvae.messages": "says what is wrong in params.yaml, before a stage begins",
    "duvae.project.progress": "draws on the terminal",
    "duvae.project.fingerprint": "names resume states and is recorded beside results; no computation reads it",
    "duvae.project.provenance": "records commit, time and machine beside results; no computation reads it",
}
"""Modules that no fingerprint covers, each with its reason; tests show that nothing of them reaches a result."""

DUMPS = {"model_dump", "model_dump_json", "model_copy"}
"""Methods that take all fields of parameters at once."""

ROUNDS = 4
"""How far a definition's hash looks: to the definitions that it names, to those that they name, and so on."""

Key = tuple[str, str]
"""A module and a definition in it."""


class Closure:
    """All that can be reached from a function.

    Args:
        source: The package.
        start: The function.
        system: The system that alone counts; None: all of them.
        systems: The names of all systems.
    """

    def __init__(self, source: Source, start: Key, system: str | None, systems: frozenset[str]) -> None:
        self.source, self.system, self.systems = source, system, systems
        self.reached: dict[Key, Definition] = {}
        self.targets: dict[Key, list[tuple[str, Key]]] = {}
        self.attributes: set[str] = set()
        self.of_root: set[str] = set()
        self.pending: dict[Key, tuple[Definition, bool]] = {}
        waiting = [start]
        while waiting:
            while waiting:
                waiting += self._reach(*waiting.pop())
            for (module, name), (member, holds_others) in list(self.pending.items()):
                if self._wanted(name, holds_others):
                    del self.pending[module, name]
                    waiting += self._enter((module, name), member)

    def _reach(self, module: str, name: str) -> Iterator[Key]:
        """Enters a definition; gives those that it refers to."""
        if (module, name) in self.reached or _in(module, NOT_HASHED):
            return
        found = self.source.module(module)
        assert found is not None
        if not name:  # a module as a value: all that it holds
            self.reached[module, name] = Definition(module)
            self.targets[module, name] = []
            yield from ((module, each) for each in found.nodes)
            return
        if name == found.statements.name:
            yield from self._enter((module, name), found.statements)
            return
        definition = self.source.definition(module, name)
        entries = definition.entries
        if self.system is not None and entries and self.systems.issuperset(entries):
            chosen = entries.get(self.system, Definition(f"{definition.name}[{self.system}]"))
            yield from self._enter((module, name), chosen)
        else:
            yield from self._enter((module, name), definition)
        for each, member in definition.members.items():
            self.pending[module, f"{name}.{each}"] = (member, self.source.holds_parameters(module, member))
        yield module, found.statements.name

    def _wanted(self, name: str, holds_others: bool) -> bool:
        """Whether a member counts, after what has been reached so far."""
        owner, _, member = name.partition(".")
        if owner == ROOT:
            return member in self.of_root

        return member in self.attributes or not holds_others or bool(DUMPS & self.attributes)

    def _enter(self, key: Key, definition: Definition) -> Iterator[Key]:
        self.reached[key] = definition
        self.attributes |= definition.attributes
        self.of_root |= definition.of_root
        self.targets[key] = self.source.references(key[0], definition)
        yield from (target for _, target in self.targets[key])

    def resources(self) -> list[Path]:
        """The data files that reached definitions read."""
        packages: set[str] = set()
        for (module, _), definition in self.reached.items():
            found = self.source.module(module)
            assert found is not None
            origins = {".".join(found.imports.get(name, ())) for name in definition.names}
            if "__file__" in definition.names or origins & RESOURCES:
                packages |= {found.package, *(text for text in definition.texts if text in self.source.files)}

        return sorted({path for package in packages for path in self.source.files.get(package, [])})

    def digest(self) -> str:
        """The fingerprint: 16 hexadecimal digits.

        A definition counts by its own code and by that of what it names, not by the module in which it stands: moving
        it changes nothing.
        """
        plain = {key: self.source.plain(key[0], definition) for key, definition in self.reached.items()}
        hashes = dict(plain)
        for _ in range(ROUNDS):
            hashes = {
                key: digest(plain[key], *(f"{name}={hashes.get(target, '')}" for name, target in self.targets[key]))
                for key in self.reached
            }
        files = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in self.resources()]

        return digest(*sorted(set(hashes.values())), *sorted(files))[:16]


def _in(module: str, modules: Mapping[str, str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in modules)
