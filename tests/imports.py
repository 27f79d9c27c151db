"""Which of duvae's modules a module imports, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"

HANDED_OVER = {
    *("duvae.cli", "duvae.config", "duvae.errors", "duvae.fields", "duvae.mistakes", "duvae.progress"),
    "duvae.registry",
}
"""They read parameters, which the graph tracks one by one, say what is wrong, or draw on the terminal."""


def file(module: str) -> Path | None:
    """The file of a module, or of a package's __init__."""
    path = SRC / Path(*module.split("."))
    candidates = [path.with_suffix(".py"), path / "__init__.py"]

    return next((candidate for candidate in candidates if candidate.is_file()), None)


def empty(path: Path) -> bool:
    """Whether a file holds nothing but its docstring."""
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)


def imported(path: Path) -> Iterator[str]:
    """The modules that one file imports, wherever in it, but for those that only type checkers see."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def files(module: str) -> set[str]:
    """The files that importing `module` and calling it runs, as dvc.yaml writes them."""
    seen: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name.split(".")[0] != "duvae" or name in HANDED_OVER:
            continue
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        path = file(name)
        if path is not None and path not in seen:
            seen.add(path)
            waiting.extend(imported(path))

    return {path.relative_to(ROOT).as_posix() for path in seen if not empty(path)}
