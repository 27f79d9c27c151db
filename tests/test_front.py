"""The front of the page of all results says in short what the results support, and no more."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import made_up
from duvae.config import Params
from duvae.report import claim_rows, claims, front, site
from duvae.report.cells import Cell, Head, Row, Table
from duvae.report.checks import CANNOT_TELL, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Finding
from duvae.report.claim_rules import CLAIMS
from duvae.report.claims import Line
from duvae.report.comparison import Comparison
from duvae.report.evidence import Evidence
from duvae.report.results import Result
from test_paper_claims import found, model

HARD = np.linspace(20, 40, 60)
NOT_RANKED = ": not ranked, since values of single examples are missing"


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.params()


def ending(result: Result, converged: bool) -> Result:
    return dataclasses.replace(result, metrics={**result.metrics, "ending": "decays" if converged else "epochs"})


# ---------------------------------------------------------------------------------- the scoreboard


def test_a_single_lowest_nll_is_named_with_its_paired_difference() -> None:
    models = [model("vae", 1, nll=30.0), model("du_vae", 1, nll=29.0), model("fb", 1, nll=30.0)]
    nll = {"vae": {1: HARD}, "du_vae": {1: HARD - 1 + 0.1 * np.sin(np.arange(60))}, "fb": {1: HARD + 1}}
    text = front.nll_text(models, Comparison(nll))

    assert text is not None
    assert text.startswith("DU-VAE 29.00, 1.0")
    assert text.endswith("] below VAE's: lowest of 3 compared")


def test_settings_that_cannot_be_distinguished_are_not_ranked() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 60)
    models = [model("vae", 1, nll=30.0), model("du_vae", 1, nll=29.9)]
    text = front.nll_text(models, Comparison({"vae": {1: HARD}, "du_vae": {1: HARD + noise - noise.mean() - 0.01}}))

    assert text is not None
    assert text.startswith("cannot be distinguished, of 2 compared: VAE 30.00; DU-VAE 29.90, minus VAE's: −0.01 [")
    assert "lowest" not in text


@pytest.mark.parametrize("left_out", [["fb"], []])
def test_without_pairs_the_nll_are_not_ranked(left_out: list[str]) -> None:
    models = [model("vae", 1, nll=30.0), model("du_vae", 1, nll=28.0), model("fb", 1, nll=27.0)]
    nll = {"vae": {1: HARD}, "du_vae": {1: HARD - 2}} if left_out else {}
    text = front.nll_text(models, Comparison(nll, left_out or ["vae", "du_vae", "fb"]))

    assert text == f"VAE 30.00 [0.10], DU-VAE 28.00 [0.10]{NOT_RANKED}"


def test_trainings_that_did_not_converge_are_marked() -> None:
    models = [ending(model("vae", 1), False), ending(model("du_vae", 1, nll=29.0), True)]
    text = front.nll_text(models, Comparison({}, ["vae", "du_vae"]))

    assert text == f"VAE 30.00‡ [0.10], DU-VAE 29.00 [0.10]{NOT_RANKED}"
    assert front.nll_text([model("ae", 1, nll=None)], Comparison({})) is None


def test_settings_with_an_nll_that_were_not_compared_are_counted() -> None:
    models = [model(name, 1, nll=30.0) for name in ("vae", "du_vae", "fb", "mae")]
    nll = {"vae": {1: HARD}, "du_vae": {1: HARD - 1 + 0.1 * np.sin(np.arange(60))}}

    text = front.nll_text(models, Comparison(nll, shorter=["fb", "mae"]))
    assert text is not None
    assert text.endswith(": lowest of 2 compared (4 have an NLL)")


@pytest.mark.parametrize(
    ("of_unseen", "words"),
    [
        ({"vae": 0.0, "du_vae": -1.0, "fb": -1.0}, "DU-VAE and FB cannot be distinguished"),
        ({"vae": 0.0, "du_vae": 0.0, "fb": -1.0}, "FB is lowest"),
        ({"vae": 0.0, "du_vae": -1.0, "fb": 0.0}, None),
    ],
)
def test_another_answer_on_unseen_examples_is_told(of_unseen: dict[str, float], words: str | None) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (3, 60))
    noise -= noise.mean(axis=1, keepdims=True)
    models = [model(name, 1, nll=30.0) for name in of_unseen]
    unseen = Comparison({n: {1: HARD + by + e} for (n, by), e in zip(of_unseen.items(), noise, strict=True)})
    nll = {"vae": {1: HARD + noise[0]}, "du_vae": {1: HARD - 1 + noise[1]}, "fb": {1: HARD + noise[2]}}

    text = front.nll_text(models, Comparison(nll, unseen=unseen))
    assert text is not None
    start, _, end = text.partition(": lowest of 3 compared")
    assert start.startswith("DU-VAE 30.00, 1.0")
    assert start.endswith("] below VAE's")
    assert end == (f". On the 60 test examples that are not in the training data, {words}" if words else "")


def test_the_highest_accuracy_stands_beside_the_vaes() -> None:
    models = [model("vae", 1, [60.0]), model("du_vae", 1, [64.0]), model("fb", 1, [50.0])]

    assert front.probe_text(models) == "DU-VAE 64.0 %, VAE 60.0 % (+4.0 points; 100 labels)"
    close = [*models, model("mae", 1, [63.0])]
    assert front.probe_text(close) == "DU-VAE 64.0 %, next MAE 63.0 %, VAE 60.0 % (+4.0 points; 100 labels)"
    best = [model("vae", 1, [70.0]), *models[1:]]
    assert front.probe_text(best) == "VAE 70.0 %, next DU-VAE 64.0 % (100 labels)"
    assert front.probe_text([model("vae", 1, [60.0])]) == "VAE 60.0 % (100 labels)"
    marked = [ending(each, each.system != "vae") for each in models]
    assert front.probe_text(marked) == "DU-VAE 64.0 %, VAE 60.0 %‡ (+4.0 points; 100 labels)"
    assert front.probe_text([model("vae", 1)]) is None


def test_collapsed_settings_are_grouped_by_the_verdict() -> None:
    used, unused = {"use": 3.0, "use_stderr": 0.1}, {"use": 0.0, "use_stderr": 0.01}
    models = [
        model("vae", 1, mi=0.0, **unused),
        model("fb", 1, mi=0.0, **unused),
        model("fb", 2, **used),
        model("du_vae", 1, **used),
        model("mae", 1, use=None, use_stderr=None),
    ]

    assert front.states(models) == {
        "collapsed": ["VAE"],
        "not collapsed": ["DU-VAE"],
        "seeds differ": ["FB"],
        "cannot tell": ["MAE"],
    }
    assert front.states([*models[:-1], ending(models[-1], False)])["cannot tell"] == ["MAE‡"]


@pytest.mark.parametrize(
    ("dataset", "changed", "words"),
    [
        ("short_yelp_small", {"train": None}, "8 % of the paper's training sentences"),
        ("short_yelp_small", {"train": None}, "10 of 120 epochs"),
        ("short_yelp_small", {"departs": ["Few."]}, "not the paper's experiment"),
        ("short_yelp", {"departs": [], "train": 100_000}, "the paper's experiment"),
        ("short_yelp", {"departs": [], "train": 100_000}, "100,000 training sentences, as many as the paper"),
        ("omniglot_small", {"kind": "image", "departs": ["Few."]}, "3 of 50 alphabets"),
        ("synthetic", {"kind": "synthetic", "train": 16_000}, "data of our own generator, after the paper's"),
    ],
)
def test_the_badge_compares_the_size_with_the_papers(
    params: Params, dataset: str, changed: dict[str, Any], words: str
) -> None:
    evidence = dataclasses.replace(found({"vae": 0.0}, 3), **changed)
    badge = front.badge(params.dataset(dataset), evidence)

    assert badge[0] == "3 seeds"
    assert words in badge
    other_limit = front.badge(params.dataset(dataset), evidence, same_limit=False)
    assert [part for part in other_limit if "epochs" in part] == ["10 epochs"]
    assert badge[1] == "1 setting"


def test_only_the_papers_experiment_has_a_gap_to_the_paper(params: Params) -> None:
    models = [model("vae", 1, nll=329.0), model("du_vae", 1, nll=327.0, hyperparameters={"gamma": 0.5, "p": 0.8})]
    yahoo, other = params.dataset("yahoo"), params.dataset("yahoo_halves")
    assert yahoo.paper is not None
    assert other.paper is not None
    assert other.paper.departs
    same = yahoo.model_copy(update={"paper": yahoo.paper.model_copy(update={"departs": []})})

    assert front.gaps(same, models)[0] == "Table 1, NLL in nats: VAE +0.5, DU-VAE 0.0"
    assert front.gaps(other, models) == []
    assert front.gaps(params.dataset("synthetic"), models) == []


def test_models_without_a_record_are_of_an_unknown_commit(params: Params) -> None:
    evidence = found({"vae": 0.0}, 2)
    record = {"wall_seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mib": 1.0}
    some = dataclasses.replace(evidence.results[0], provenance={"train": record})

    assert front.score(params.dataset("synthetic"), evidence).badge[-1] == "of an earlier version, commit unknown"
    partly = dataclasses.replace(evidence, results=[some, *evidence.results[1:]])
    badge = front.score(params.dataset("synthetic"), partly, ["Old."]).badge
    assert badge[-1] == "partly of earlier code or parameters"
    assert "earlier" not in " ".join(front.score(params.dataset("synthetic"), partly).badge)


def test_a_column_without_content_is_left_out() -> None:
    row = front.Score("a", ["1 seed"], {}, "VAE 30.00", None, [])

    assert front.columns([row]) == ["nll"]
    assert front.columns([row, dataclasses.replace(row, probe="VAE 60 %")]) == ["nll", "probe"]


# ---------------------------------------------------------------------------------- the claims


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        ([SUPPORTED, CANNOT_TELL], SUPPORTED),
        ([CANNOT_TELL, NOT_SUPPORTED], NOT_SUPPORTED),
        ([SUPPORTED, NOT_SUPPORTED], claims.DIVIDED),
        ([CANNOT_TELL, CANNOT_TELL], CANNOT_TELL),
        ([CANNOT_TELL, NOT_TESTED], CANNOT_TELL),
        ([NOT_TESTED], NOT_TESTED),
    ],
)
def test_the_verdict_of_several_data_sets(verdicts: list[str], together: str) -> None:
    own = [Line(CLAIMS[0], str(number), Finding(verdict, "", 5), "") for number, verdict in enumerate(verdicts)]

    assert claims.overall(own) == together


def lines(evidences: list[Evidence]) -> list[Line]:
    return claims.lines(evidences)


def test_each_claim_is_counted_once() -> None:
    of = found({"vae": 0.0, "bn_vae": -1.0}, 3)
    table = claim_rows.table(lines([of, dataclasses.replace(of, dataset="other")]))

    assert sum(table.counts.values()) == len(CLAIMS)
    assert list(table.datasets) == ["made_up", "other"]
    assert len(table.rows) + len(table.untested) == len(CLAIMS)
    assert all(len(row.lines) == 2 for row in table.rows)
    (row,) = [row for row in table.rows if row.claim.text.startswith("BN-VAE is competitive")]
    assert row.verdict == SUPPORTED
    assert row.on("other") is row.lines[1]
    assert row.on("third") is None


def test_one_seed_is_said_to_decide_nothing() -> None:
    note = "One seed decides nothing"
    one, three = (claim_rows.table(lines([found({"vae": 0.0, "bn_vae": -1.0}, seeds)])) for seeds in (1, 3))

    assert note in " ".join(one.notes)
    assert (one.counts[SUPPORTED], one.counts[NOT_SUPPORTED]) == (0, 0)
    assert note not in " ".join(three.notes)
    assert claim_rows.seeds_note([]) == []


def test_the_legend_has_the_signs_of_the_table() -> None:
    made = [Line(CLAIMS[0], "a", Finding(SUPPORTED, "", 2), ""), Line(CLAIMS[1], None, Finding(NOT_TESTED, "", 0), "")]

    assert claim_rows.table(made).signs == {"✓": SUPPORTED}


# ---------------------------------------------------------------------------------- the header, and empty columns


def test_the_header_says_when_and_at_which_commits() -> None:
    def made(day: int, commit: str | None, dirty: bool = False) -> dict[str, Any]:
        started = f"2026-05-{day:02}T01:02:03+00:00"
        return {"started": started, "commit": commit, "dirty": dirty, "versions": {"duvae": "0.1.0"}}

    records = [made(3, "0123456789"), made(4, "fedcba9876", True), made(3, None)]
    assert site.origin_of_records(records) == (
        "results of 3 May 2026 to 4 May 2026, commits 0123456 and fedcba9+, duvae 0.1.0"
    )
    assert site.origin_of_records(records[:1]) == "results of 3 May 2026, commit 0123456, duvae 0.1.0"
    many = [made(3, f"{place:010}") for place in range(1, 8)]
    assert "7 commits" in site.origin_of_records([{**each, "commit": f"{n}00000000"} for n, each in enumerate(many)])
    assert site.origin_of_records([]) == ""
    known = dataclasses.replace(model("vae", 1), provenance={"train": records[0]})
    some = site.origin([known, model("vae", 2)])
    assert some.startswith("1 of 2 models: results of 3 May 2026, commit 0123456, duvae 0.1.0; the others have no")
    assert site.origin([model("vae", 2)]) == "results of unknown date and commit: these models have no record"
    assert site.origin([]) == ""


def test_a_page_links_the_others_and_marks_itself() -> None:
    header = site.header("Studies", "", {**site.RESULTS, **site.STUDIES}, "../")

    assert header["links"] == [
        {"name": "Results", "address": "../index.html", "here": False},
        {"name": "Studies", "address": "../index.html#studies", "here": True},
    ]


def test_a_table_has_no_empty_column_and_no_empty_row() -> None:
    rows = [
        Row("a", [Cell("1"), Cell(None), Cell("2")]),
        Row("b", [Cell(None)] * 3),
        Row("c", [Cell("3")] + [Cell(None)] * 2),
    ]
    heads = [Head("one"), Head("two"), Head("three")]
    table = Table("t", "", heads, rows, groups=[("", 2), ("x", 1), ("y", 1)]).compact()

    assert [head.label for head in table.heads] == ["one", "three"]
    assert [(row.name, [cell.text for cell in row.cells]) for row in table.rows] == [
        ("a", ["1", "2"]),
        ("c", ["3", None]),
    ]
    assert table.groups == [("", 2), ("y", 1)]
