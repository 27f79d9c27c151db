"""Splits the source of the package into definitions, and finds the references between the definitions.

A definition is a function, a class or a constant at the top level of a module. The code of a definition is stored in a
normal form, which leaves out comments, docstrings, layout, imports and annotations of functions. The normal form is the
same for every version of Python. The output of `ast.dump` differs between versions, so the module `reader` walks the
syntax trees itself.

A fingerprint is a hash of such code. The modules `source` and `reader` need only the standard library. So a Python
interpreter without any other library can compute fingerprints, for a comparison with those of another interpreter.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from duvae.project.fingerprint.reader import (
    Definition,
    Reader,
    digest,
    dotted,
    header,
    is_text,
    read_entries,
    read_members,
)


def _bound(node: ast.AST) -> Iterator[str]:
    """Yields the names that a statement binds in its own scope, but not those bound inside a function or a class."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


class Module:
    """One module: its definitions, its imports, and the other statements that run when the module is imported.

    Args:
        name: Name of the module, such as `duvae.data.store`.
        path: The module's file.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_bytes())
        self.nodes: dict[str, list[ast.stmt]] = {}
        self.statements = Definition("<module>")
        reader = Reader(self.statements)
        for node in tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)) or is_text(node) or _for_type_checkers(node):
                continue
            names = list(_bound(node))
            for bound in names:
                self.nodes.setdefault(bound, []).append(node)
            simple = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
            if not names or not isinstance(node, simple) or self._registers(node):
                reader.read([node])
        self.imports = dict(self._imports(tree))
        self.definitions: dict[str, Definition] = {}

    def _registers(self, node: ast.stmt) -> bool:
        """Whether a decorator such as `@operation.register` hands a function to another definition of the module.

        That other definition then uses the function, although the code of that definition does not name the function.
        """
        decorators = node.decorator_list if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else []
        called = [each.func if isinstance(each, ast.Call) else each for each in decorators]
        chains = [dotted(each) for each in called if isinstance(each, ast.Attribute)]

        return any(chain and chain[0] in self.nodes for chain in chains)

    def _imports(self, tree: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yields each imported name, with a pair: the module of the import, and the name inside that module.

        If the name inside the module is empty, the imported name stands for the module itself.
        """
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        yield alias.asname, (alias.name, "")
                    else:
                        top = alias.name.partition(".")[0]
                        yield top, (top, "")
            elif isinstance(node, ast.ImportFrom):
                parents = self.package.split(".")
                above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
                module = ".".join(filter(None, [above, node.module]))
                for alias in node.names:
                    yield alias.asname or alias.name, (module, alias.name)

    def definition(self, name: str, parameters: bool = False) -> Definition:
        """Finds a definition of the module by its name.

        The first call for a name reads the code. Later calls return the stored definition.

        Args:
            name: Name of the definition.
            parameters: Whether the definition is a class of parameters (a pydantic model). Each member of such a class
                is stored as a definition of its own.
        """
        if name not in self.definitions:
            definition = Definition(name)
            for node in self.nodes[name]:
                if parameters and isinstance(node, ast.ClassDef):
                    read_members(definition, node)
                elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
                    read_entries(definition, node.value)
                Reader(definition).read(
                    [node] if not (parameters and isinstance(node, ast.ClassDef)) else [header(node)]
                )
            self.definitions[name] = definition

        return self.definitions[name]

    def bases(self, name: str) -> list[str]:
        """Lists a class's base classes that are written as plain names; empty if the definition is not a class."""
        return [
            base.id
            for node in self.nodes[name]
            if isinstance(node, ast.ClassDef)
            for base in node.bases
            if isinstance(base, ast.Name)
        ]


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


class Source:
    """Reads the modules of a package when they are needed, and finds the definition that each name stands for.

    Args:
        folder: The package's folder, which has the package's name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder.name
        self.modules: dict[str, Module | None] = {}
        self.parameter_classes: dict[tuple[str, str], bool] = {}
        self.holding: dict[tuple[str, str], bool] = {}
        self.plains: dict[tuple[str, str], str] = {}
        self.referred: dict[tuple[str, str], list[tuple[str, tuple[str, str]]]] = {}

    def path(self, name: str) -> Path | None:
        """The file of a module; None where the module has no file."""
        place = self.folder.parent.joinpath(*name.split("."))
        candidates = [place.with_suffix(".py"), place / "__init__.py"]

        return next((candidate for candidate in candidates if candidate.is_file()), None)

    def module(self, name: str) -> Module | None:
        """Reads a module of the package, unless it has been read before; None where the package has no such module."""
        if name not in self.modules:
            path = self.path(name) if name.partition(".")[0] == self.package else None
            self.modules[name] = Module(name, path) if path else None

        return self.modules[name]

    def resolve(self, module: str, name: str) -> tuple[str, str] | None:
        """Finds the definition that a name in a module stands for. The function follows imports inside the package.

        Args:
            module: Name of the module.
            name: A name in that module.

        Returns:
            Module and name of the definition. If the returned name is empty, the argument `name` stands for the
            returned module itself. None: the argument `name` stands for nothing in the package.
        """
        seen = set()
        while (module, name) not in seen:
            seen.add((module, name))
            found = self.module(module)
            if found is None:
                return None
            if name in found.nodes:
                return module, name
            inside = f"{module}.{name}"
            if name in found.imports:
                module, name = found.imports[name]
                if not name:
                    return (module, "") if self.module(module) else None
                inside = f"{module}.{name}"
            if self.module(inside):
                return inside, ""

        return None

    def follow(self, module: str, chain: tuple[str, ...]) -> tuple[str, str] | None:
        """Finds the definition that a dotted name stands for.

        Args:
            module: Name of the module in which the dotted name occurs.
            chain: The parts of the dotted name, such as `("store", "read")`.

        Returns:
            The definition in the form that `resolve` returns.
        """
        target = self.resolve(module, chain[0])
        for attribute in chain[1:]:
            if target is None or target[1]:
                return target
            target = self.resolve(target[0], attribute)

        return target

    def parameters(self, module: str, name: str) -> bool:
        """Whether a name stands for a class of parameters: a pydantic model."""
        key = (module, name)
        if key not in self.parameter_classes:
            self.parameter_classes[key] = False  # ends the recursion where base classes form a circle
            found = self.module(module)
            bases = found.bases(name) if found and name in found.nodes else []
            self.parameter_classes[key] = any(
                found is not None
                and (
                    found.imports.get(base) == ("pydantic", "BaseModel")
                    or ((target := self.resolve(module, base)) is not None and self.parameters(*target))
                )
                for base in bases
            )

        return self.parameter_classes[key]

    def definition(self, module: str, name: str) -> Definition:
        """Finds a definition by the names of the module and of the definition, as `resolve` returns them."""
        found = self.module(module)
        assert found is not None

        return found.definition(name, self.parameters(module, name))

    def holds_parameters(self, module: str, definition: Definition) -> bool:
        """Whether a definition's code names a class of parameters.

        The code may also name such a class indirectly: through a definition that is not a class, such as a union.
        """
        key = (module, definition.name)
        if key not in self.holding:
            self.holding[key] = False  # ends the recursion where definitions form a circle
            targets = [self.resolve(module, name) for name in definition.names - {definition.name}]
            self.holding[key] = any(
                self.parameters(*target) or (not self._class(*target) and self.holds_parameters(target[0], found))
                for target in targets
                if target and target[1] and (found := self.definition(*target))
            )

        return self.holding[key]

    def _class(self, module: str, name: str) -> bool:
        found = self.module(module)

        return found is not None and any(isinstance(node, ast.ClassDef) for node in found.nodes[name])

    def references(self, module: str, definition: Definition) -> list[tuple[str, tuple[str, str]]]:
        """Finds the definitions of the package to which the code of one definition refers.

        Args:
            module: Name of the module of the definition.
            definition: The function, class or constant whose code is searched.

        Returns:
            Pairs: a name in the code, and what this name stands for, in the form that `resolve` returns. References of
            the definition to itself are left out.
        """
        key = (module, definition.name)
        if key not in self.referred:
            found = [(name, self.resolve(module, name)) for name in sorted(definition.names)]
            found += [(".".join(chain), self.follow(module, chain)) for chain in sorted(definition.chains)]
            # Where a dotted name such as `store.read` begins with a module, the code refers only to the definition at
            # the end of the dotted name, not to the whole module.
            beginnings = {chain[0] for chain in definition.chains}
            self.referred[key] = [
                (name, target)
                for name, target in found
                if target is not None and target != key and (target[1] or name not in beginnings)
            ]

        return self.referred[key]

    def plain(self, module: str, definition: Definition) -> str:
        """Hashes a definition's own code, without the code of the definitions to which it refers.

        The hash includes the origins (module and name) of the names that are imported from other packages.
        """
        key = (module, definition.name)
        if key not in self.plains:
            found = self.module(module)
            assert found is not None
            outside = [
                f"{name}={'.'.join(origin)}"
                for name in sorted(definition.names)
                if (origin := found.imports.get(name)) and origin[0].partition(".")[0] != self.package
            ]
            self.plains[key] = digest(definition.name.rpartition(".")[2], definition.code, *outside)

        return self.plains[key]

    @cached_property
    def files(self) -> Mapping[str, list[Path]]:
        """The data files of the package and of each folder below it, by the dotted name of the package or folder.

        The list of a folder includes the files in all folders below that folder.
        """
        files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc", ".typed", ".part"} and path.name[0] != ".":
                for parent in path.relative_to(self.folder.parent).parents:
                    if parent.parts:
                        files.setdefault(".".join(parent.parts), []).append(path)

        return files
