"""Reads one definition (function, class or constant): its code in a normal form, and the names in the code.

The normal form leaves out whatever cannot change a result, such as comments and docstrings (see the module `source`).
Fingerprints are hashes of this form. A class of parameters is a pydantic model, and its members are its fields and
methods. A member counts separately if a fingerprint that covers the class may leave out this member.
"""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

SKIPPED = {"ctx", "type_comment", "type_params", "kind", "simple"}
"""Fields of syntax trees that the normal form leaves out.

They cannot change a result, or some versions of Python lack them.
"""

RESOURCES = {"importlib.resources.files", "jinja2.PackageLoader"}
"""Functions that read data files of a package.

A definition that uses `__file__` is treated like one that calls such a function.
"""

ROOT = "Params"
"""Name of the class that holds all parameters of the project."""

ROOT_NAMES = {"params"}
"""Names of variables and attributes that hold an object of `Params`.

Arguments that are annotated with `Params` also hold such an object, whatever their names.
"""

CHECKS = {"computed_field", "field_serializer", "field_validator", "model_serializer", "model_validator"}
"""Names of pydantic's decorators. Pydantic calls a method with such a decorator by itself."""

DOCUMENTATION = "doc"
"""Name of the function that describes a field of a class of parameters. Its calls cannot change a result."""


@dataclass
class Definition:
    """One definition, or one member of a class of parameters.

    Attributes:
        name: Name of the definition in the module; `Class.member` for a member.
        code: Code of the definition in the normal form.
        names: Names of variables, functions and classes in the code, including its annotations.
        chains: Dotted names in the code, split at the dots, such as `("store", "read")`.
        attributes: Names of all attributes that the code reads.
        of_root: Names of the attributes that the code reads from an object of `Params`.
        texts: String constants in the code.
        members: Members of a class of parameters that count separately, by name; empty for any other definition.
        entries: Values of a mapping literal such as `{"a": 1}` by key, if all keys are strings; empty for any other
            definition.
    """

    name: str
    code: str = ""
    names: set[str] = field(default_factory=set)
    chains: set[tuple[str, ...]] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    of_root: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    members: dict[str, "Definition"] = field(default_factory=dict)
    entries: dict[str, "Definition"] = field(default_factory=dict)


class Reader:
    """Turns syntax trees into the normal form, and collects the names in these trees.

    Args:
        definition: The definition whose code and names the reader fills in.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.parts: list[str] = []
        self.roots = set(ROOT_NAMES)
        if definition.name.startswith(f"{ROOT}."):
            self.roots.add("self")

    def read(self, nodes: Iterable[ast.AST]) -> None:
        """Adds the normal form of syntax trees, and the names in them, to the definition."""
        for node in nodes:
            self._node(node)
        self.definition.code += "".join(self.parts)
        self.parts.clear()

    def _node(self, node: ast.AST, inside_class: bool = False) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass)) or is_text(node) or _is_documentation(node):
            return
        if isinstance(node, ast.AnnAssign) and not inside_class:
            self._mention(node.annotation)
            if node.value is not None:  # the node is read as a plain assignment, which has no annotation
                self._node(ast.Assign(targets=[node.target], value=node.value))
            return
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.definition.texts.add(node.value)
            self.parts.append(f"{node.value!r};")
            return
        self._refer(node)
        self.parts.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if name in SKIPPED or value is None or value == []:
                continue
            if name in ("annotation", "returns") and not isinstance(node, ast.AnnAssign):
                self._mention(value)
                continue
            self.parts.append(f" {name}=")
            for each in value if isinstance(value, list) else [value]:
                if not isinstance(each, ast.AST):
                    self.parts.append(f"{each!r};")
                elif not _description(node, each):
                    self._node(each, isinstance(node, ast.ClassDef))
        self.parts.append(")")

    def _refer(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            self.definition.names.add(node.id)
        elif isinstance(node, ast.arg) and node.annotation is not None and _names(node.annotation, ROOT):
            self.roots.add(node.arg)
        elif isinstance(node, ast.Attribute):
            self.definition.attributes.add(node.attr)
            if _last(node.value) in self.roots:
                self.definition.of_root.add(node.attr)
            if chain := dotted(node):
                self.definition.chains.add(chain)

    def _mention(self, annotation: ast.AST) -> None:
        """Collects the names in an annotation. The annotation itself does not enter the normal form."""
        for node in ast.walk(annotation):
            self._refer(node)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.definition.names.update(_words(node.value))


def digest(*parts: str) -> str:
    """Computes one hash of several texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring or another bare constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _description(node: ast.AST, keyword: ast.AST) -> bool:
    """Whether a keyword is the argument `description` of pydantic's `Field`, which cannot change a result."""
    return (
        isinstance(keyword, ast.keyword)
        and keyword.arg == "description"
        and isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Field"
    )


def _is_documentation(node: ast.AST) -> bool:
    """Whether an expression is a call of the function `doc` (see `DOCUMENTATION`)."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == DOCUMENTATION


def _names(annotation: ast.AST, name: str) -> bool:
    """Whether an annotation contains a name."""
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(annotation))


def _last(node: ast.AST) -> str:
    """Returns the name of a variable, or the last part of a dotted name; an empty text for any other expression."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def dotted(node: ast.Attribute) -> tuple[str, ...]:
    """Splits a dotted name at its dots; empty: the expression before the first dot is not the name of a variable."""
    names = [node.attr]
    value = node.value
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    if not isinstance(value, ast.Name):
        return ()

    return (value.id, *reversed(names))


def _words(text: str) -> set[str]:
    """Finds the names in an annotation that is written as a string; empty: the string is not a Python expression."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return set()

    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def own_name(node: ast.stmt) -> str:
    """Returns the name of a member that counts separately; an empty text for any other statement of a class."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("__"):
        used = {n.id for decorator in node.decorator_list for n in ast.walk(decorator) if isinstance(n, ast.Name)}
        return "" if used & CHECKS else node.name

    return ""


def read_members(definition: Definition, node: ast.ClassDef) -> None:
    """Reads the separately counted members of a class of parameters, and adds them to the definition of the class.

    Args:
        definition: The definition of the class.
        node: The syntax tree of the class.
    """
    for each in node.body:
        if name := own_name(each):
            member = Definition(f"{definition.name}.{name}")
            # Pydantic uses the annotations of fields. The reader keeps the annotation of a field only inside a class.
            # So the member is put into a class.
            body = ast.ClassDef(name="", bases=[], keywords=[], body=[each], decorator_list=[])
            Reader(member).read([body])
            definition.members[name] = member


def header(node: ast.ClassDef) -> ast.ClassDef:
    """Builds the syntax tree of a class of parameters without the members that count separately."""
    return ast.ClassDef(
        name=node.name,
        bases=node.bases,
        keywords=node.keywords,
        body=[each for each in node.body if not own_name(each)],
        decorator_list=node.decorator_list,
    )


def read_entries(definition: Definition, node: ast.Dict) -> None:
    """Adds the entries of a mapping literal to a definition. If any key is not a string, no entry is added."""
    for key, value in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            definition.entries.clear()
            return
        entry = Definition(f"{definition.name}[{key.value}]")
        Reader(entry).read([value])
        definition.entries[key.value] = entry
