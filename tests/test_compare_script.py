"""The script of the comparison of two settings shows only the differences that the results support."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import duvae.report
from duvae.report import compare
from test_paper_claims import model

SCRIPT = Path(duvae.report.__file__).parent / "templates/compare.js"
NODE = "node"
needs_node = pytest.mark.program(NODE)

PAGE = """
const elements = {};
function element(tag) {
  return {tag, kids: [], style: {}, text: "", value: "", setAttribute() {}, addEventListener() {}, scrollIntoView() {},
    append(...kids) { this.kids.push(...kids); }, replaceChildren(...kids) { this.kids = kids; },
    get parentElement() { return this; },
    set textContent(text) { this.text = text; }, get textContent() {
      return this.text + this.kids.map(kid => typeof kid === "string" ? kid : kid.textContent).join(""); }};
}
globalThis.document = {
  getElementById: id => elements[id] ??= element(id), querySelector: () => null,
  createElement: element, createElementNS: (_, tag) => element(tag)};
globalThis.location = {hash: ""};
globalThis.window = {addEventListener() {}};
document.getElementById("compare-data").textContent = process.argv[2];
require(process.argv[1]);
const [head, body] = elements["compare-table"].kids;
const last = row => row.kids[row.kids.length - 1].textContent;
console.log(JSON.stringify({
  differences: Object.fromEntries(body.kids.map(row => [row.kids[0].textContent, last(row)])),
  choices: elements["pick-a"].kids.map(kid => kid.textContent),
  words: elements["compare-words"].textContent}));
"""
"""A page without a browser, with as much of the document as the script uses. It prints what the script wrote."""


def shown(first: str, second: str, pairs: dict[str, Any]) -> dict[str, Any]:
    """Runs the script for two settings out of two data sets, `one` and `two`, with the settings `vae` and `fb`."""
    sets = []
    for name in ("one", "two"):
        models = [model("vae", 1), model("fb", 1, nll=31.0, kl=2.0)]
        settings = compare.settings(models)
        for setting in settings:
            setting["id"] = f"{name}/{setting['id'].partition('/')[2]}"
        sets.append({"id": name, "warmup": 1, "measures": compare.measures(models), "settings": settings})
        sets[-1]["pairs"] = pairs
    data = {"sets": sets, "curves": [], "first": [first, second]}
    done = subprocess.run(
        [NODE, "-e", PAGE, str(SCRIPT), json.dumps(data)], capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout)

    return found


def test_what_follows_from_the_nll_is_marked() -> None:
    marked = [row["key"] for row in compare.measures([model("vae", 1, nll_unseen=30.0)]) if row.get("likelihood")]

    assert marked == ["nll", "nll_unseen", "perplexity"]


@needs_node
def test_without_pairs_there_is_no_difference_of_the_nll() -> None:
    found = shown("one/vae", "one/fb", {})

    assert found["differences"]["NLL nats"] == "–"
    assert found["differences"]["PPL"] == "–"
    assert found["differences"]["KL nats"] == "+0.40"
    assert found["words"] == "The NLL was not compared in pairs, since values of single examples are missing."


@needs_node
def test_the_confidence_is_that_of_one_comparison() -> None:
    found = shown("one/vae", "one/fb", {"vae": {"fb": [1.5, 0.25, 1, 1, 0.1]}})

    assert found["differences"]["NLL nats"] == "+1.50 [0.25]"
    assert found["words"].startswith("The NLL differs, on the same test examples (95 % for this comparison alone)")
    found = shown("one/vae", "one/fb", {"vae": {"fb": [0.1, 0.25, 1, 0, 0.4]}})
    assert "cannot be distinguished (95 % for this comparison alone)" in found["words"]


@needs_node
def test_both_lists_have_the_settings_of_one_data_set() -> None:
    found = shown("two/vae", "two/fb", {"vae": {"fb": [1.5, 0.25, 1, 1, 0.1]}})

    assert found["choices"] == ["VAE", "FB"]
    assert found["differences"]["NLL nats"] == "+1.50 [0.25]"
