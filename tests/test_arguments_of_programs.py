"""No value becomes an option of a program that the project starts. This test reads the source code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from duvae.errors import UserError
from pipelines.workspaces import ProjectSnapshot
from test_nothing_is_executed import ROOT, SOURCES, dotted

WITH_VALUE = {"-C", "-c", "-m", "-n", "--cwd", "--format", "--host", "--pool", "--port", "--watch"}
"""Options after which the next argument is the value of the option, and is never taken for another option."""

PROGRAMS = {"bash", "dvc", "git", "make", "mlflow", "prefect", "sh"}
"""A list that begins with the name of one of these programs is a command, wherever it stands."""

CHECKED = {"snapshot.commit"}
"""Values that cannot begin with a dash, as the last test of this module shows."""

STARTERS = {"run", "Popen", "check_call", "check_output", "call"}


def commands(tree: ast.AST) -> Iterator[tuple[int, list[ast.expr]]]:
    """The arguments of each call that starts a program or that calls the function `git`, and of each command."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List) and node.elts and getattr(node.elts[0], "value", None) in PROGRAMS:
            yield node.lineno, node.elts[1:]
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, {})
        if name == "git":
            constant = [a for a in node.args if isinstance(a, ast.Constant)]
            yield node.lineno, node.args[0 if node.args and node.args[0] in constant else 1 :]
        elif name.partition(".")[0] == "subprocess" and name.rpartition(".")[2] in STARTERS and node.args:
            command = node.args[0]
            if isinstance(command, ast.List) and getattr(command.elts[0], "value", None) not in PROGRAMS:
                yield node.lineno, command.elts[1:]


def loose(arguments: list[ast.expr]) -> Iterator[str]:
    """Arguments that may be taken for options: values that follow no option, and no `--` that ends the options."""
    before: ast.expr | None = None
    for argument in arguments:
        if isinstance(argument, ast.Constant) and argument.value in ("--", "--end-of-options"):
            return
        option = isinstance(before, ast.Constant) and before.value in WITH_VALUE
        fixed = isinstance(argument, (ast.Constant, ast.Starred))
        if not fixed and not option and ast.unparse(argument) not in CHECKED:
            yield ast.unparse(argument)
        before = argument


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_values_cannot_be_options(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [f"{line}: {value}" for line, arguments in commands(tree) for value in loose(arguments)]

    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("subprocess.run(['git', '-C', folder, 'status'])", 0),
        ("subprocess.run(['git', 'diff', '--quiet', commit])", 1),
        ("subprocess.run(['git', 'diff', '--quiet', commit, '--', 'src'])", 1),
        ("subprocess.run(['git', 'diff', commit])", 1),
        ("subprocess.run(['git', 'diff', '--end-of-options', commit])", 0),
        ("git(root, 'clone', str(root), '--', clone)", 1),
        ("git(root, 'rev-parse', 'HEAD')", 0),
        ("subprocess.Popen(['program', f'{x}'])", 1),
        ("command = ['git', 'diff', '--quiet', commit, '--']; subprocess.run(command)", 1),
    ],
)
def test_a_value_is_seen(source: str, count: int) -> None:
    assert sum(len(list(loose(arguments))) for _, arguments in commands(ast.parse(source))) == count


@pytest.mark.parametrize("commit", ["--output=/any/file", "HEAD", "", "a" * 39, "A" * 40, "a" * 40 + "\n"])
def test_a_commit_from_another_machine_is_a_hash(commit: str) -> None:
    with pytest.raises(UserError, match="expected the hash of a commit"):
        ProjectSnapshot(commit, {})
