"""The pages in docs name only tests, functions and measures that exist."""

import ast
import pkgutil
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
THEORY = (ROOT / "docs/theory.md").read_text(encoding="utf-8")


def test_the_tests_that_docs_name_exist() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        for file, name in re.findall(r"`(test_\w+\.py)::(\w+)`", path.read_text(encoding="utf-8")):
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
                path.name,
                file,
                name,
            )


def test_every_metric_is_defined_once_and_has_a_test() -> None:
    for name in ("nll", "perplexity", "reconstruction", "kl", "mi", "au", "mpd", "ce", "mpd_t", "ce_t"):
        assert len(re.findall(rf"^`{name}`, ", METRICS, flags=re.MULTILINE)) == 1, name
    for section in METRICS.split("\n## ")[1:]:
        assert re.search(r"^Tests?: `test_", section, flags=re.MULTILINE), section.split("\n")[0]


def test_every_equation_has_a_proof_and_the_code_that_is_named_exists() -> None:
    rows = re.findall(r"^\|(?!---| equation )(.*)\|$", THEORY.partition("\n## ")[0], flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(duvae\.[\w.]+)`", row)]

    assert len(rows) > 10
    for row in rows:
        assert re.search(r"`test_\w+\.py::\w+`", row), row
    assert len(set(named)) > 5
    for name in named:
        pkgutil.resolve_name(name)


def test_every_test_of_the_theory_is_on_its_page() -> None:
    tree = ast.parse((ROOT / "tests/test_theory.py").read_text(encoding="utf-8"))
    proofs = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    beside = {"test_dropout_that_keeps_everything_changes_neither", "test_some_system_follows_algorithm_1"}

    assert proofs - beside == set(re.findall(r"test_theory\.py::(\w+)", THEORY))
