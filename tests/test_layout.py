"""The layers of the package: a module imports only from its own layer and from the layers below."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

LAYERS = [
    {"errors", "messages", "fields", "paths", "streams", "devices"},
    {"project.files", "project.progress", "project.provenance", "project.fingerprint", "project.array_files"},
    {"records"},
    {"registry"},
    {"config", "quadrature"},
    {"data"},
    {"project"},
    {"networks"},
    {"posteriors"},
    {"objectives", "regularizers", "refinement"},
    {"vae"},
    {"metrics"},
    {"training"},
    {"systems"},
    {"inference"},
    {"report"},
    {"tracking"},
    {"search"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""The layers from the lowest to the highest, as modules or packages. The most specific name decides."""


def modules() -> dict[str, Path]:
    """The path of each module, by its name below `duvae`. A package has the name of its folder."""
    paths = {path: path.relative_to(SOURCE / "duvae").with_suffix("").parts for path in SOURCE.rglob("*.py")}

    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in paths.items()}


def imports(path: Path, names: set[str]) -> set[str]:
    """The modules of the package that a module imports at its top level."""
    imported = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "duvae":
            base = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                imported.add(inner if inner in names else base)

    return imported - {""}


def layer(name: str) -> int:
    """The number of a module's layer."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for number, members in enumerate(LAYERS):
            if ".".join(parts[:length]) in members:
                return number
    raise LookupError(f"{name} is in no layer")


GRAPH = {name: imports(path, set(modules())) for name, path in modules().items() if name}


def test_every_module_has_a_layer_and_every_layer_has_a_module() -> None:
    assert {layer(name) for name in GRAPH} == set(range(len(LAYERS)))


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_imports_point_downwards(name: str) -> None:
    assert {other for other in GRAPH[name] if layer(other) > layer(name)} == set()


def test_no_module_imports_itself_through_others() -> None:
    try:
        order = list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"these modules import each other: {error.args[1]}")

    assert set(order) == set(GRAPH)
