"""No code is executed from data, and no other machine reaches a server of the project.

These tests read the source code. test_sources.py and test_bad_input.py show that archives are unpacked member by
member, and that arrays and weights with a pickle inside are refused.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("src", "pipelines", "benchmarks", "docker") for path in (ROOT / folder).rglob("*.py")]

MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
"""Modules that can run any code that their input holds."""

CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pty.spawn"),
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "shutil.unpack_archive"),
}
METHODS = {"read_pickle", "to_pickle", "extractall", "extract", "log_model", "load_model"}
"""Dangerous methods of any object: pandas and MLflow read pickles; archives are unpacked without a check of members."""

SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def dangers(source: str) -> Iterator[str]:
    """Yields each import and each call in a source text that could run code from data, as `line: why`."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                if alias.name.partition(".")[0] in MODULES:
                    yield f"{node.lineno}: imports {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            if node.module.partition(".")[0] in MODULES:
                yield f"{node.lineno}: imports {node.module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (why := danger(node, names)):
            yield f"{node.lineno}: {why}"


def danger(call: ast.Call, names: dict[str, str]) -> str | None:
    """Why one call is dangerous; None: the call is safe."""
    name = dotted(call.func, names)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in CALLS or (isinstance(call.func, ast.Attribute) and call.func.attr in METHODS):
        return ast.unparse(call.func)
    if name in ("numpy.load", "numpy.lib.format.read_array", "numpy.lib.format.open_memmap"):
        said = given.get("allow_pickle")
        return None if isinstance(said, ast.Constant) and said.value is False else f"{name} without allow_pickle=False"
    if name in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader") or (call.args[1] if len(call.args) > 1 else None)
        return None if loader is not None and dotted(loader, names) in SAFE_LOADERS else f"{name} without SafeLoader"
    if name.endswith("YAML") and any(isinstance(v, ast.Constant) and v.value == "unsafe" for v in given.values()):
        return "an unsafe YAML"
    if "shell" in given and not (isinstance(given["shell"], ast.Constant) and given["shell"].value is False):
        return f"{name} through a shell"

    return None


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of an expression, such as `numpy.load` for `np.load`; empty text: the expression is no name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"

    return ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_executed_from_data(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load",
        "import joblib as j",
        "def f():\n    from cloudpickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load\nload('x', weights_only=True)",
        "import torch as t\nt.save({}, 'x')",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', None, flag)",
        "from numpy import load as read\nread('x')",
        "import pandas as pd\npd.read_pickle('x')",
        "frame.to_pickle('x')",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text, yaml.UnsafeLoader)",
        "import yaml\nyaml.full_load(text)",
        "from ruamel.yaml import YAML\nYAML(typ='unsafe')",
        "eval('1')",
        "exec('1')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess as s\ns.Popen(command, shell=how)",
        "archive.extractall(folder)",
        "archive.extract(member, folder)",
        "import shutil\nshutil.unpack_archive('x')",
        "import mlflow\nmlflow.pytorch.log_model(model, name='model')",
    ],
)
def test_a_danger_is_seen(source: str) -> None:
    assert len(list(dangers(source))) == 1


def test_what_is_safe_is_let_through() -> None:
    source = """
import re, subprocess, yaml
import numpy as np
from safetensors.torch import load_file
np.load("x", mmap_mode="r", allow_pickle=False)
yaml.safe_load(text)
yaml.load(text, Loader=yaml.SafeLoader)
re.compile("x")
subprocess.run(["git", "status"], shell=False)
load_file("x")
model.eval()
"""

    assert list(dangers(source)) == []


# ------------------------------------------------------------------- servers listen on this machine alone

TEXTS = [
    *(ROOT / name for name in ("Makefile", "README.md", "dvc.yaml", "params.yaml", "pyproject.toml", ".ci/run")),
    *(path for folder in ("docs", "docker", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*")),
    *(ROOT / "src").rglob("*.py"),
]

HERE = r"(?:127\.0\.0\.1|localhost)"
OPEN = (
    r"0\.0\.0\.0|\[::\]",
    rf"--host(?:name)?[= ]+(?!{HERE}\b)",
    rf"\bhost\s*=\s*[\"'](?!{HERE}\b)",
    rf"\bhttps?://(?!{HERE}\b)[\w.-]+:\d+",
    rf"^\s*-\s*[\"']?(?!{HERE}:)(?:[\d.]+:)?\d+:\d+[\"']?\s*$",  # a container port open on every interface
)


def reachable(text: str) -> list[str]:
    """Finds the parts of a text that would make a server reachable from other machines."""
    return [found.group() for pattern in OPEN for found in re.finditer(pattern, text, re.MULTILINE)]


SAID_OTHERWISE = {
    # A server in a container may listen on all interfaces, since they belong to the container's own network.
    # test_docker.py checks which ports the host opens.
    "docker/compose.yaml": r"0\.0\.0\.0|https?://(mlflow|prefect|dashboard):\d+|--host ",
    "docker/check.py": r"0\.0\.0\.0",
}


@pytest.mark.parametrize(
    "path", [p for p in TEXTS if p.is_file() and p.suffix != ".pyc"], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_servers_listen_on_loopback(path: Path) -> None:
    found = reachable(path.read_bytes().decode("utf-8", errors="replace"))
    said = SAID_OTHERWISE.get(path.relative_to(ROOT).as_posix(), "(?!)")

    assert [open_ for open_ in found if not re.fullmatch(said, open_)] == []


@pytest.mark.parametrize(
    "text",
    [
        "mlflow ui --host 0.0.0.0",
        "mlflow ui --host=10.0.0.7",
        "optuna-dashboard --host mine.example.org",
        "serve(host='')",
        'uvicorn.run(app, host="0.0.0.0")',
        "then open http://mine.example.org:5000",
        "ports:\n  - 5432:5432",
        'ports:\n  - "10.0.0.7:5432:5432"',
    ],
)
def test_an_open_server_is_seen(text: str) -> None:
    assert reachable(text)


@pytest.mark.parametrize(
    "text",
    [
        "mlflow ui --host 127.0.0.1 --port 5000",
        "http://127.0.0.1:5000",
        "https://example.org/data",
        'ports:\n  - "127.0.0.1:5432:5432"',
        "serve(host='localhost')",
    ],
)
def test_loopback_is_let_through(text: str) -> None:
    assert not reachable(text)
