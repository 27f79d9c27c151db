"""What the documents point at is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


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
