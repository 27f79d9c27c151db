"""Fingerprints: which changes alter them, and that they cover all code that a stage runs."""

import ast
import itertools
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

import traced
from duvae.project import fingerprint
from duvae.project.fingerprint import KINDS, Fingerprints
from duvae.project.fingerprint.closure import NOT_HASHED, Closure
from duvae.project.fingerprint.source import Module, Source
from traced import PACKAGE, ROOT

TRAINED = ("train", "evaluate", "probe", "samples", "search")
FLOWS = {"iaf_fb", "iaf_bn", "du_iaf"}


@pytest.fixture(scope="module")
def base() -> Fingerprints:
    return Fingerprints(PACKAGE)


@pytest.fixture(scope="module")
def known(base: Fingerprints) -> Mapping[str, str]:
    return flat(base)


def flat(fingerprints: Fingerprints) -> dict[str, str]:
    """All fingerprints, with keys `kind` or `kind.system`."""
    found: dict[str, str] = {}
    for kind, value in fingerprints.all().items():
        found |= {kind: value} if isinstance(value, str) else {f"{kind}.{s}": each for s, each in value.items()}

    return found


def changed(base: Fingerprints, path: Path, texts: Mapping[str, str]) -> Fingerprints:
    """The fingerprints of the package after a change of some modules, whose new texts are written below `path`."""
    made = Fingerprints(PACKAGE)
    made.source.modules = dict(base.source.modules)
    for name, text in texts.items():
        file = path / made.source.path(name).relative_to(PACKAGE)  # type: ignore[union-attr]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        made.source.modules[name] = Module(name, file)

    return made


def text(name: str) -> str:
    path = Source(PACKAGE).path(name)
    assert path is not None

    return path.read_text(encoding="utf-8")


def replaced(name: str, *pairs: tuple[str, str]) -> str:
    """A module's text, with the first occurrence of each `before` replaced by its `after`."""
    found = text(name)
    for before, after in pairs:
        assert before in found, f"{name} has no {before!r}"
        found = found.replace(before, after, 1)

    return found


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {key for key in one if one[key] != other.get(key)}


def of(kinds: Iterable[str], systems: Iterable[str]) -> set[str]:
    return {f"{kind}.{system}" for kind, system in itertools.product(kinds, systems)}


# ------------------------------------------------------------------- which changes alter which fingerprints


def test_the_committed_file_is_up_to_date(base: Fingerprints) -> None:
    assert (ROOT / fingerprint.FILE).read_text(encoding="utf-8") == fingerprint.render(base.all())


def cosmetic(source: str) -> str:
    """The same code with other comments, docstrings, return annotations, layout and order of imports."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node):
            assert isinstance(node.body[0], ast.Expr)
            node.body[0].value = ast.Constant("Another docstring.")
        if isinstance(node, ast.FunctionDef) and node.returns is not None and "Tensor" in ast.unparse(node.returns):
            node.returns = ast.parse(f"object | ({ast.unparse(node.returns)})", mode="eval").body
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    first = next((place for place, node in enumerate(tree.body) if node in imports), 0)
    others = [node for node in tree.body if node not in imports]
    tree.body = [*others[:first], *reversed(imports), *others[first:]]

    return "# A comment.\n\n\n" + ast.unparse(ast.fix_missing_locations(tree)).replace("\n    ", "\n\n    ")


def test_what_no_result_depends_on_changes_no_fingerprint(
    base: Fingerprints, known: Mapping[str, str], tmp_path: Path
) -> None:
    """All modules change at once: comments, docstrings, return annotations, layout and order of imports."""
    names = [name for name, module in base.source.modules.items() if module is not None]
    texts = {name: cosmetic(text(name)) for name in names}
    assert len(texts) > 60

    assert differing(known, flat(changed(base, tmp_path, texts))) == set()


CHANGES: dict[str, tuple[str, list[tuple[str, str]], Callable[[list[str]], set[str]]]] = {
    "alpha doubled": (
        "duvae.regularizers",
        [("ALPHA = 1 / (2 * math.pi", "ALPHA = 2 / (2 * math.pi")],
        lambda systems: of(TRAINED, systems),  # the base class of all systems may put a floor under their variances
    ),
    "a function that a decorator hands to an operation": (
        "duvae.networks.fast.unrolled",
        [("hidden.new_empty(1, rows)", "hidden.new_empty(1, rows).clone()")],
        lambda systems: of(TRAINED, systems),
    ),
    "the default width of the IAF networks doubled": (
        "duvae.registry",
        [('for each dimension of z")] = 60', 'for each dimension of z")] = 120')],
        lambda _: of(TRAINED, FLOWS) | {"examples", "figure1", "figure2", "graph", "report"},  # they read all settings
    ),
    "a description of a hyperparameter": (
        "duvae.registry",
        [('description="lower bound of', 'description="least value of')],
        lambda _: set(),
    ),
    "the documentation of a parameter": (
        "duvae.config.params",
        [("Number K of importance samples", "Count K of importance samples"), ('"paper, 4.1"', '"release"')],
        lambda _: set(),
    ),
    "an objective": (
        "duvae.objectives",
        [("class FreeBits(Objective):", "class FreeBits(Objective):\n    more = 1\n")],
        lambda _: of(TRAINED, {"fb", "iaf_fb"}),
    ),
    "a regularizer": (
        "duvae.regularizers",
        [("class VarianceDropout(Staged):", "class VarianceDropout(Staged):\n    more = 1\n")],
        lambda _: of(TRAINED, {"du_vae", "du_iaf"}),
    ),
    "the report": (
        "duvae.report.compare",
        [("    return ", "    print()\n\n    return ")],
        lambda _: {"report"},
    ),
    "the importance-weighted likelihood": (
        "duvae.metrics.likelihood",
        [("def importance_weighted_nll(", "print()\n\n\ndef importance_weighted_nll(")],
        lambda systems: of(("evaluate", "search"), systems),
    ),
    "what a probe may be given": (
        "duvae.config.params",
        [
            (
                "folds: Annotated[\n        Several,",
                "folds: Annotated[\n        Repeats,",
            )
        ],
        lambda systems: of(("probe",), systems),
    ),
    "where a function of another library comes from": (
        "duvae.regularizers",
        [("from torch import Tensor, nn", "from torch import Tensor\nfrom other import nn")],
        lambda systems: of(TRAINED, systems),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_touches_exactly_what_depends_on_it(
    what: str, base: Fingerprints, known: Mapping[str, str], tmp_path: Path
) -> None:
    name, pairs, wanted = CHANGES[what]
    after = flat(changed(base, tmp_path, {name: replaced(name, *pairs)}))

    assert differing(known, after) == wanted(base.systems)


def test_a_new_system_makes_nothing_of_the_others_stale(
    base: Fingerprints, known: Mapping[str, str], tmp_path: Path
) -> None:
    system = '''class Another(PlainVAE):
    """A fifteenth system."""

    label = "Another"


SYSTEMS: Mapping'''
    texts = {
        "duvae.systems": replaced(
            "duvae.systems", ("SYSTEMS: Mapping", system), ('"ae": AE,', '"ae": AE,\n    "another": Another,')
        ),
        "duvae.registry": replaced(
            "duvae.registry",
            ("HYPERPARAMETERS: Mapping", "class More(Nothing):\n    more: float = 1.0\n\n\nHYPERPARAMETERS: Mapping"),
            ('"ae": Nothing,', '"ae": Nothing,\n    "another": More,'),
        ),
    }
    after = flat(changed(base, tmp_path, texts))

    assert {key for key in after if key.endswith(".another")} == of(TRAINED, {"another"})
    assert not {key for key in differing(known, after) if "." in key}


def test_data_files_of_the_package_count(base: Fingerprints, known: Mapping[str, str], tmp_path: Path) -> None:
    package = Path(shutil.copytree(PACKAGE, tmp_path / "duvae"))
    pages = {"examples", "figure1", "figure2", "report"}
    wanted = {
        "data/alphabets.tsv": {"prepare"},
        "report/templates/macros.html": pages,
        "report/paper_tables/table1_likelihood.csv": pages | {"graph"},  # `graph` checks that a table has rows
    }
    for name, kinds in wanted.items():
        path = package / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        found = Fingerprints(package)
        found.source.modules = dict(base.source.modules)
        assert differing(known, flat(found)) == kinds, name
        path.write_bytes(before)


def test_a_module_may_be_moved(base: Fingerprints, tmp_path: Path) -> None:
    """A fingerprint depends on the code, not on the module that contains it."""
    package = tmp_path / "duvae"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "refinement.py").rename(package / "metrics" / "steps.py")
    for path in package.rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("duvae.refinement", "duvae.metrics.steps"))

    moved = Fingerprints(package)
    assert any(module == "duvae.metrics.steps" for module, _ in moved.closure("train", "sa_vae").reached)
    assert moved.of("train", "sa_vae") == base.of("train", "sa_vae")


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_other_versions_of_python_agree(version: str, known: Mapping[str, str]) -> None:
    """Skips versions that are not installed. The code of fingerprints needs only the standard library."""
    python = traced.interpreter(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    code = "import sys, json; sys.path.insert(0, sys.argv[1])\n" + traced.STANDALONE
    done = subprocess.run([python, "-c", code, str(PACKAGE.parent)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == fingerprint.render(Fingerprints(PACKAGE).all()).strip()


# ------------------------------------------------------------------- completeness


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """The functions that a tiny run of each kind executes, as `module:line`, by `kind` or `kind.system`."""
    command = [sys.executable, str(ROOT / "tests" / "traced.py"), str(tmp_path_factory.mktemp("traced"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(done.stdout)

    return found


def test_every_kind_and_every_system_was_run(executed: Mapping[str, list[str]], base: Fingerprints) -> None:
    assert {key.partition(".")[0] for key in executed} == set(KINDS)
    assert {key.partition(".")[2] for key in executed if key.startswith("train.")} == set(base.systems)
    assert all(len(functions) > 3 for functions in executed.values())


def covered(closure: Closure, module: str, line: int) -> bool:
    """Whether a closure contains the definition around a line of a module."""
    inside = [name for lines, name in traced.definitions(module).items() if line in lines]
    for name in inside:
        owner, _, member = name.partition(".")
        parameters = closure.source.parameters(module, owner)
        by_itself = parameters and member in closure.source.definition(module, owner).members
        if (module, name if by_itself else owner) in closure.reached and (member or not parameters):
            return True

    return False


def test_every_executed_function_is_in_the_closure(executed: Mapping[str, list[str]], base: Fingerprints) -> None:
    outside = set()
    for key, functions in executed.items():
        kind, _, system = key.partition(".")
        closure = base.closure(kind, system or None)
        for function in functions:
            module, _, line = function.rpartition(":")
            left_out = any(module == each or module.startswith(f"{each}.") for each in NOT_HASHED)
            if not left_out and not covered(closure, module, int(line)):
                outside.add((key, function))

    assert outside == set()


def test_few_modules_are_left_out_each_with_a_reason() -> None:
    assert len(NOT_HASHED) <= 5
    assert all(len(reason.split()) > 3 for reason in NOT_HASHED.values())
    assert all(Source(PACKAGE).path(name) for name in NOT_HASHED)


def test_no_error_is_made_where_all_is_well(executed: Mapping[str, list[str]]) -> None:
    places = {function.rpartition(":") for functions in executed.values() for function in functions}
    lines = {int(line) for module, _, line in places if module == "duvae.errors"}
    found = {name for span, name in traced.definitions("duvae.errors").items() if lines & set(span)}

    assert found <= {"without_passwords"}  # fetch prints the places of files without the passwords of URLs


def test_progress_records_and_fingerprints_reach_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All results are the same with silent progress bars, without records, and with other messages and fingerprints."""
    from duvae import config, messages
    from duvae.commands import evaluate, probe, train
    from duvae.data import store, synthetic
    from duvae.project.progress import Bar, TrainingBar
    from duvae.project.provenance import Stopwatch
    from duvae.training import checkpoints

    raw = traced.raw()
    raw["checkpoint_seconds"] = 1000.0
    params = config.parse(raw)
    source = params.dataset("synthetic").source
    assert isinstance(source, config.SyntheticSource)

    def results(root: Path) -> dict[str, bytes]:
        store.write(root / "data/prepared/synthetic", *synthetic.prepared_synthetic(source))
        (root / "data/validated").mkdir()
        (root / "data/validated/synthetic.json").write_text("{}")
        for stage in (train, evaluate, probe):
            stage.run(params, "synthetic", "du_vae", 1, root)
        made = [*(root / "models").rglob("*"), *(root / "results").rglob("*")]
        files = [path for path in made if path.is_file() and not path.name.endswith(".run.json")]

        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    known = results(tmp_path / "one")
    for name in ("epoch", "done"):
        for bar in (Bar, TrainingBar):
            if hasattr(bar, name):
                monkeypatch.setattr(bar, name, lambda *_: None)
    monkeypatch.setattr(TrainingBar, "step", lambda *_: False)
    monkeypatch.setattr(Stopwatch, "write", lambda *_, **__: None)
    monkeypatch.setattr(checkpoints.fingerprint, "of_this_process", lambda *_: "0123456789abcdef")
    for name in ("unknown", "show", "_close"):  # a union of network types tries each type, and words an error for each
        monkeypatch.setattr(messages, name, lambda *_: "another message")

    assert len(known) > 5
    assert results(tmp_path / "two") == known


def test_mutated_literals_and_operators_change_the_fingerprint(
    executed: Mapping[str, list[str]], base: Fingerprints, tmp_path: Path
) -> None:
    """Mutates at least sixty places in executed functions. A seed draws them: up to eight functions for each kind."""
    random_ = random.Random(1)
    missed, tried = [], 0
    for key in sorted(executed):
        kind, _, system = key.partition(".")
        known = base.of(kind, system or None)
        for function in random_.sample(executed[key], min(8, len(executed[key]))):
            module, _, line = function.rpartition(":")
            if any(module == each or module.startswith(f"{each}.") for each in NOT_HASHED):
                continue
            mutated = traced.mutate(text(module), int(line), random_)
            if mutated is None:
                continue
            tried += 1
            if changed(base, tmp_path, {module: mutated}).of(kind, system or None) == known:
                missed.append((key, function))

    assert missed == []
    assert tried >= 60, tried
