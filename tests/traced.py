"""Runs each kind of stage at a tiny size, and notes which functions of the package the stage executes.

The script takes a folder and builds a project there. It prints a JSON object: for each `kind` or `kind.system` of a
stage, the executed functions as `module:line`. The script runs in its own process, so no hook of a test changes the
execution.
"""

import ast
import cProfile
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "duvae"

STUDY = {
    "dataset": "synthetic",
    "setting": "du_vae",
    "seeds": [1, 2],
    "sampler": "tpe",
    "trials": 3,
    "startup": 1,
    "min_mi": 0.0001,
    "values": {"gamma": [0.5, 1.0], "p": [0.3, 0.7]},
    "prune": {"rungs": [1], "keep": 0.5, "grace": 1},
}


class Trace:
    """Context manager that notes the code of all functions that run inside the `with` block, in all threads.

    The profiler of the standard library, which is written in C, notes those of the block's own thread. A hook in Python
    would take several times as long.
    """

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()
        self.profiler = cProfile.Profile(subcalls=False, builtins=False)

    def __enter__(self) -> "Trace":
        threading.setprofile(self._note)
        self.profiler.enable()

        return self

    def __exit__(self, *_: object) -> None:
        self.profiler.disable()
        threading.setprofile(None)  # type: ignore[arg-type]
        self.codes |= {entry.code for entry in self.profiler.getstats() if isinstance(entry.code, CodeType)}

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self.codes.add(frame.f_code)

    def functions(self) -> Iterator[str]:
        """Yields the noted functions of the package, each as `module:line` with the function's first line.

        The code at the top level of modules is left out.
        """
        for code in self.codes:
            path = Path(code.co_filename)
            if path.suffix == ".py" and path.is_relative_to(PACKAGE) and code.co_name != "<module>":
                module = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
                yield f"{module.removesuffix('.__init__')}:{code.co_firstlineno}"


@functools.cache
def definitions(module: str) -> dict[range, str]:
    """Maps ranges of lines to the names of a module's top-level definitions.

    Methods of classes have entries of their own, with names such as `Class.method`.
    """
    place = PACKAGE.parent.joinpath(*module.split("."))
    path = next(p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file())
    found: dict[range, str] = {}
    for node in ast.parse(path.read_bytes()).body:
        name = getattr(node, "name", None)
        if name is None and isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name = target.id if isinstance(target, ast.Name) else None
        if name:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            found[range(first, (node.end_lineno or first) + 1)] = name
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef):
                    start = min([member.lineno, *(d.lineno for d in member.decorator_list)])
                    found[range(start, (member.end_lineno or start) + 1)] = f"{name}.{member.name}"

    return found


def mutate(source: str, line: int, random_: random.Random) -> str | None:
    """Changes one number or operator in the function that starts at `line`; returns the changed source.

    None: the function has no number and no operator to change.
    """
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    begun = [n for n in functions if line in range(_first(n), n.lineno + 1)]
    places = [
        node
        for function in begun
        for statement in (function.body if isinstance(function, ast.FunctionDef) else [function.body])
        for node in _computed(statement)
        if isinstance(node, (ast.BinOp, ast.Compare)) or (isinstance(node, ast.Constant) and _number(node.value))
    ]
    if not places:
        return None
    node = random_.choice(places)
    if isinstance(node, ast.Constant):
        node.value = node.value + 1
    elif isinstance(node, ast.BinOp):
        node.op = ast.Sub() if not isinstance(node.op, ast.Sub) else ast.Add()
    else:
        assert isinstance(node, ast.Compare)
        node.ops[0] = ast.GtE() if not isinstance(node.ops[0], ast.GtE) else ast.Lt()

    return ast.unparse(tree)


def _computed(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the node and all nodes below it, except annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield from _computed(each)


def _first(node: ast.FunctionDef | ast.Lambda) -> int:
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


STANDALONE = """
import types, pathlib
for name, members in {"duvae.errors": {"UserError": Exception}, "duvae.project.files": {"write_text": None}}.items():
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
from duvae.project import fingerprint
print(fingerprint.render(fingerprint.Fingerprints(fingerprint.PACKAGE).all()))
"""
"""Code that prints the package's fingerprints without any installed library. Stubs replace modules that need one."""


def interpreter(version: str) -> str | None:
    """Path of a Python interpreter of this version; None: there is none.

    The function searches `PATH` and the folders of pyenv and uv.
    """
    name = f"python{version}"
    homes = [Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"]
    places = [found for home in homes for found in sorted(home.glob(f"*{version}*/bin/{name}"))]
    for candidate in [shutil.which(name), *map(str, places)]:
        if candidate and subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate

    return None


def raw() -> dict[str, Any]:
    import tiny

    found = tiny.small()
    found["studies"] = {"one": STUDY}
    found["checkpoint_seconds"] = 0.0
    for name in ("synthetic", "own", "pictures"):
        found["datasets"][name]["optimisation"].update(epochs=2, warmup=1)
    for name in ("own", "pictures"):
        found["datasets"][name]["nll_examples"] = 4
    found["datasets"]["synthetic"]["source"].update(train=96, valid=64, test=64, words=60)
    for setting in found["settings"].values():  # also settings that the paper does not use on these data
        columns = setting["columns"]
        given = next(iter(columns.values()))
        columns.update({column: columns.get(column, given) for column in ("synthetic", "omniglot")})
    tiny.block(found).update(datasets=["synthetic", "own", "pictures"], seeds=[1], studies=["one"])

    return found


def run(folder: Path, say: Callable[[str, Trace], None]) -> None:
    """Builds a project in `folder` and runs every kind of stage there.

    Args:
        folder: The project's folder.
        say: Function that gets each kind and the trace of its stage.
    """
    import tiny
    from duvae import config
    from duvae.commands import (
        binarize,
        evaluate,
        examples,
        fetch,
        figure1,
        figure2,
        prepare,
        probe,
        report,
        samples,
        search,
        train,
        truth,
        validate,
    )
    from duvae.commands import graph as graph_stage
    from duvae.project import job_list

    given = raw()
    tiny.own(folder)
    tiny.pictures(folder)
    params = config.parse(given)
    job_list.write(params, folder / job_list.JOBS)

    def traced(kind: str, stage: Any, *arguments: Any, params: config.Params = params) -> None:
        with Trace() as trace:
            stage.run(params, *arguments)
        say(kind, trace)

    traced("graph", graph_stage, True)
    for dataset in ("own", "pictures"):
        traced("fetch", fetch, dataset)
    for dataset in ("synthetic", "own", "pictures"):
        traced("prepare", prepare, dataset)
    traced("binarize", binarize, "pictures")
    for dataset in ("synthetic", "own", "pictures"):
        traced("validate", validate, dataset)
    traced("truth", truth, "synthetic")
    chosen = {entry.system: name for name, entry in reversed(params.settings.items())}
    for dataset, (system, setting) in [(d, s) for d in ("synthetic", "pictures") for s in chosen.items()]:
        traced(f"train.{system}", train, dataset, setting, 1)
        if dataset == "synthetic" or system in {"vae", "du_iaf", "sa_vae"}:
            traced(f"evaluate.{system}", evaluate, dataset, setting, 1)
            traced(f"samples.{system}", samples, dataset, setting, 1)
            traced(f"probe.{system}", probe, dataset, setting, 1)
    traced("search.du_vae", search, "one")
    traced("figure2", figure2, "one")
    traced("figure1", figure1)
    given["run"] = {"datasets": ["pictures"], "settings": ["vae"], "seeds": [1]}
    traced("examples", examples, "pictures", params=config.parse(given))
    shutil.rmtree(folder / "results/pictures")
    shutil.rmtree(folder / "results/synthetic/sa_vae", ignore_errors=True)
    given["run"] = {"datasets": ["synthetic"], "settings": ["vae", "du_vae"], "seeds": [1]}
    traced("report", report, params=config.parse(given))


def main() -> None:
    """Prints the executed functions of each kind of stage."""
    import torch

    torch.set_num_threads(1)
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)  # keeps the output of the stages apart from the JSON
    found: dict[str, set[str]] = {}
    folder = Path(sys.argv[1])
    os.chdir(folder)
    run(folder, lambda kind, trace: found.setdefault(kind, set()).update(trace.functions()))
    os.write(output, json.dumps({kind: sorted(functions) for kind, functions in found.items()}).encode())


if __name__ == "__main__":
    main()
