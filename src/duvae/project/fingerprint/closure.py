"""Finds the closure of a function: all definitions (functions, classes, constants) that the function can reach.

The fingerprint of the function is a hash of the code in its closure. In this module, a definition counts if it belongs
to the closure. A class of parameters is a pydantic model. Its members are its fields and methods, and each of them may
count or not. The docstring of `duvae.project.fingerprint` has the rules.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from duvae.project.fingerprint.reader import RESOURCES, ROOT, Definition, digest
from duvae.project.fingerprint.source import Source

NOT_HASHED: Mapping[str, str] = {
    "duvae.errors": "defines errors; a stage that ends with an error has no result",
    "duvae.messages": "explains mistakes in params.yaml, before a stage begins",
    "duvae.project.progress": "draws on the terminal",
    "duvae.project.fingerprint": "names resume states and is recorded beside results; no computation reads it",
    "duvae.project.provenance": "records commit, time and machine beside results; no computation reads it",
}
"""Modules that no fingerprint covers, each with the reason. Tests check that these modules cannot change a result."""

DUMPS = {"model_dump", "model_dump_json", "model_copy"}
"""Methods of pydantic that read all fields of a class of parameters at once."""

ROUNDS = 4
"""Depth to which the hash of a definition follows references.

With depth 0, the hash would cover only the definition's own code. Depth 1 adds the definitions that this code names,
depth 2 adds the definitions that the code of the added definitions names, and so on.
"""

Key = tuple[str, str]
"""The name of a module, and the name of a definition in it."""


class Closure:
    """The definitions that a function can reach.

    Args:
        source: The package's source.
        start: Module and name of the function.
        system: Name of the system for which the closure is computed. In a mapping whose keys are names of systems, only
            the value for this system counts. None: the values for all systems count.
        systems: Names of all systems, the kinds of models such as `du_vae`.

    Attributes:
        reached: The reached definitions, by module and name.
        targets: For each reached definition, pairs of a name in its code and the key of the definition that this name
            stands for.
        attributes: Names of all attributes that reached code reads.
        of_root: Names of the attributes that reached code reads from an object of `Params`, which holds all parameters.
        pending: Members of reached classes of parameters that do not count so far, by module and name. Each value is a
            member, and whether the member names another class of parameters.
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
                if self._counts(name, holds_others):
                    del self.pending[module, name]
                    waiting += self._add((module, name), member)

    def _reach(self, module: str, name: str) -> Iterator[Key]:
        """Adds a definition to `reached`, and yields the keys of the definitions to which its code refers.

        Args:
            module: Name of the module.
            name: Name of the definition in the module; empty: the module itself, with all definitions in it.
        """
        if (module, name) in self.reached or _in(module, NOT_HASHED):
            return
        code = self.source.module(module)
        assert code is not None
        if not name:  # reached code uses the module as a value, so any definition in it may matter
            self.reached[module, name] = Definition(module)
            self.targets[module, name] = []
            yield from ((module, each) for each in code.nodes)
            return
        if name == code.statements.name:
            yield from self._add((module, name), code.statements)
            return
        definition = self.source.definition(module, name)
        entries = definition.entries
        if self.system is not None and entries and self.systems.issuperset(entries):
            chosen = entries.get(self.system, Definition(f"{definition.name}[{self.system}]"))
            yield from self._add((module, name), chosen)
        else:
            yield from self._add((module, name), definition)
        for each, member in definition.members.items():
            self.pending[module, f"{name}.{each}"] = (member, self.source.holds_parameters(module, member))
        yield module, code.statements.name

    def _counts(self, name: str, holds_others: bool) -> bool:
        """Whether a member of a class of parameters counts, given the code reached so far.

        Args:
            name: Name of the member, `Class.member`.
            holds_others: Whether the member names another class of parameters.
        """
        owner, _, member = name.partition(".")
        if owner == ROOT:
            return member in self.of_root

        return member in self.attributes or not holds_others or bool(DUMPS & self.attributes)

    def _add(self, key: Key, definition: Definition) -> Iterator[Key]:
        self.reached[key] = definition
        self.attributes |= definition.attributes
        self.of_root |= definition.of_root
        self.targets[key] = self.source.references(key[0], definition)
        yield from (target for _, target in self.targets[key])

    def resources(self) -> list[Path]:
        """Finds the data files that reached definitions read."""
        packages: set[str] = set()
        for (module, _), definition in self.reached.items():
            code = self.source.module(module)
            assert code is not None
            origins = {".".join(code.imports.get(name, ())) for name in definition.names}
            if "__file__" in definition.names or origins & RESOURCES:
                packages |= {code.package, *(text for text in definition.texts if text in self.source.files)}

        return sorted({path for package in packages for path in self.source.files.get(package, [])})

    def digest(self) -> str:
        """Computes the fingerprint: 16 hexadecimal digits.

        The fingerprint covers the code of all reached definitions, the references between these definitions, and the
        data files that these definitions read. It does not cover the names of modules. So the fingerprint stays the
        same if a definition moves to another module.
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
    """Whether a module is one of `modules`, or lies inside one of them."""
    return any(module == each or module.startswith(f"{each}.") for each in modules)
