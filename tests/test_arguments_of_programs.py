"""No value becomes an option of a program that the project starts. This test reads the source code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from duvae.errors import UserError
from pipelines.workspaces import ProjectSnapshot
from test_nothing_is_executed import ROOT, SOURCES, dotted

WITH_VALUE = {
    *(
        "-C",
        "-D",
        "-c",
        "-d",
        "-m",
        "-n",
        "-p",
        "--cwd",
        "--format",
        "--host",
        "--params",
        "--pgdata",
        "--pool",
        "--port",
    ),
    *("--remote", "--storage", "--study", "--watch"),
}
"""Options after which the next argument is the value of the option, and is never taken for another option."""

PROGRAMS = {"bash", "dvc", "git", "make", "mlflow", "prefect", "sh"}
"""A list that begins with the name of one of these programs is a command, wherever it stands."""

CHECKED = {
    *((file, "snapshot.commit") for file in ("workspaces.py", "rebuild.py", "scale.py")),  # the last test shows it
    ("workspaces.py", "f'--show-{name}'"),  # two options of git, whose names stand beside
    ("watchdog.py", "str(read_end)"),  # the number of an open pipe
    ("watchdog.py", "owner()"),  # the number of a process
    ("record.py", "str(path)"),  # a file of the project's own, below .dvc/tmp
    ("browser.py", "path.resolve().as_uri()"),  # begins with file:
}
"""Values that cannot begin with a dash, by the name of the file."""

WHOLE = {
    ("parallel_study.py", "crew.command"),  # another module reads the list that the class Crew holds
    ("side_by_side.py", "work.command"),  # two other modules write the lists that the class Work holds
    ("ends_with_caller.py", "command"),  # the arguments of this program, which trainings.py writes
    ("check.py", "test"),  # the health checks of docker/compose.yaml
}
"""Commands that stand somewhere else than at the call, by the name of the file."""

STARTERS = {f"subprocess.{name}" for name in ("run", "Popen", "check_call", "check_output", "call")}

OTHER_STARTERS = re.compile(
    r"os\.(spawn|posix_spawn|exec[lv]|startfile|popen|system).*|subprocess\.(getoutput|getstatusoutput|\*)"
    r"|asyncio\.(subprocess\.)?create_subprocess_.*|(.*\.)?subprocess_(exec|shell)|pty\.spawn|_posixsubprocess.*"
)
"""Ways to start a program that this project does not use, because this module does not read their arguments."""

HOLDERS = {"subprocess", "os", "asyncio", "pty"}
"""Modules whose functions start programs. They are only called by name, so that this module sees the calls."""


def wrappers(tree: ast.AST) -> dict[str, int]:
    """Functions of a module that start the command `*command`, with the number of their arguments before it."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]

    return {
        node.name: len(node.args.args)
        for node in functions
        if node.args.vararg is not None and node.args.vararg.arg == "command"
    }


def harmless(tree: ast.AST) -> Iterator[ast.AST]:
    """Names of modules and functions in types, and in questions such as `hasattr(os, "fork")`."""
    for node in ast.walk(tree):
        for kind in ("annotation", "returns"):
            if (hint := getattr(node, kind, None)) is not None:
                yield from ast.walk(hint)
        if isinstance(node, ast.Subscript):
            yield node.value
        if isinstance(node, ast.Call) and dotted(node.func, {}) == "hasattr":
            yield from node.args


def imported(tree: ast.AST) -> dict[str, str]:
    """The full name of each name that a module imports."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    return names


def hidden(tree: ast.AST) -> Iterator[str]:
    """Ways to start a program that `commands` would not see."""
    names = imported(tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    called |= {id(node) for node in harmless(tree)}
    inside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in HOLDERS:
            yield from (f"{node.lineno}: {alias.name}" for alias in node.names if alias.name == "*")
        if isinstance(node, ast.Constant) and node.value in HOLDERS - {"os"}:
            yield f"{node.lineno}: the name {node.value} as text"
        if not isinstance(node, (ast.Name, ast.Attribute)):
            continue
        name = dotted(node, names)
        if OTHER_STARTERS.fullmatch(name) or (name in STARTERS and id(node) not in called):
            yield f"{node.lineno}: {name}"
        if name in HOLDERS and id(node) not in inside | called and isinstance(node.ctx, ast.Load):
            yield f"{node.lineno}: {name} as a value"
        if name.rpartition(".")[0] in HOLDERS and name.endswith("__"):
            yield f"{node.lineno}: {name}"


def parts(command: ast.expr, tree: ast.AST) -> list[list[ast.expr]]:
    """The lists that an expression for a command may be; a list joined to another one counts as its parts in order."""
    if isinstance(command, (ast.List, ast.Tuple)):
        return [list(command.elts)]
    if isinstance(command, ast.BinOp):
        right = parts(command.right, tree) or [[ast.Starred(command.right)]]
        return [a + b for a in parts(command.left, tree) for b in right]
    if isinstance(command, ast.Name):
        given = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id == command.id and node.value is not command
        ]
        return [each for value in given if not isinstance(value, ast.Name) for each in parts(value, tree)]

    return []


def commands(tree: ast.AST) -> Iterator[tuple[int, list[ast.expr]]]:
    """The arguments of each call that starts a program or that calls the function `git`, and of each command."""
    names, forwarding = imported(tree), wrappers(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple)) and node.elts and program(node.elts[0]) in PROGRAMS:
            yield node.lineno, node.elts[1:]
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, names)
        if name in forwarding:
            yield node.lineno, node.args[forwarding[name] + 1 :]
        elif name.rpartition(".")[2] == "git":
            constant = [a for a in node.args if isinstance(a, ast.Constant)]
            yield node.lineno, node.args[0 if node.args and node.args[0] in constant else 1 :]
        elif name in STARTERS:
            given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "args")]
            for command in given:
                lists = parts(command, tree)
                yield from ((node.lineno, each[1:]) for each in lists if program(each[0]) not in PROGRAMS)
                if not lists and not (forwarding and ast.unparse(command) == "command"):
                    yield node.lineno, [command]


def program(node: ast.expr) -> object:
    return getattr(node, "value", None)


def loose(arguments: list[ast.expr]) -> Iterator[str]:
    """Arguments that may be taken for options: values that follow no option, and no `--` that ends the options."""
    before: ast.expr | None = None
    for argument in arguments:
        if isinstance(argument, ast.Constant) and argument.value in ("--", "--end-of-options"):
            return
        option = isinstance(before, ast.Constant) and before.value in WITH_VALUE
        fixed = isinstance(argument, (ast.Constant, ast.Starred))
        if not fixed and not option:
            yield ast.unparse(argument)
        before = argument


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_values_cannot_be_options(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(hidden(tree)) == []
    found = [(line, value) for line, arguments in commands(tree) for value in loose(arguments)]

    assert [each for each in found if (path.name, each[1]) not in CHECKED | WHOLE] == []


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
        ("command = [program, x]; subprocess.run(command)", 1),
        ("subprocess.run(args=[program, x])", 1),
        ("subprocess.run([program] + [x])", 1),
        ("subprocess.run((program, x))", 1),
        ("subprocess.run(shlex.split(x))", 1),
        ("subprocess.run(make(x))", 1),
        ("import subprocess as s\ns.run([program, x])", 1),
        ("from subprocess import run as start\nstart([program, x])", 1),
        ("def call(*command):\n    subprocess.run(command)\ncall('program', x)", 1),
        ("workspaces.git(root, 'diff', x)", 1),
    ],
)
def test_a_value_is_seen(source: str, count: int) -> None:
    assert sum(len(list(loose(arguments))) for _, arguments in commands(ast.parse(source))) == count


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.spawnvp(os.P_WAIT, 'git', ['git', x])",
        "from os import posix_spawn as start\nstart('git', ['git', x], {})",
        "os.execv('git', ['git', x])",
        "import asyncio\nasyncio.create_subprocess_exec('git', x)",
        "loop.subprocess_exec(protocol, 'git', x)",
        "start = subprocess.run\nstart(['git', x])",
        "functools.partial(subprocess.run, ['git', x])()",
        "from subprocess import Popen\nmap(Popen, [['git', x]])",
        "getattr(subprocess, 'run')(['git', x])",
        "getattr(os, 'spawn' + 'v')(0, 'git', ['git', x])",
        "vars(subprocess)['run'](['git', x])",
        "subprocess.__dict__['run'](['git', x])",
        "s = subprocess\ns.run(['git', x])",
        "from subprocess import *\nrun(['git', x])",
        "importlib.import_module('subprocess').run(['git', x])",
        "sys.modules['subprocess'].run(['git', x])",
    ],
)
def test_a_hidden_way_to_start_a_program_is_seen(source: str) -> None:
    assert list(hidden(ast.parse(source)))


@pytest.mark.parametrize("commit", ["--output=/any/file", "HEAD", "", "a" * 39, "A" * 40, "a" * 40 + "\n"])
def test_a_commit_from_another_machine_is_a_hash(commit: str) -> None:
    with pytest.raises(UserError, match="expected the hash of a commit"):
        ProjectSnapshot(commit, {})
