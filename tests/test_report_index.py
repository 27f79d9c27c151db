"""The page of all results shows the numbers of the result files.

The files are made up: thirteen systems, two data sets and two seeds.
"""

import dataclasses
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import made_up
from duvae.commands import figure1, report
from duvae.config import Job, Paper, Params
from duvae.errors import UserError
from duvae.project.provenance import unwrapped
from duvae.registry import RECORDS
from duvae.report import (
    compare,
    comparison,
    figures,
    metric_columns,
    names,
    observations,
    paper,
    paper_tables,
    per_example,
    results,
)
from duvae.report.claim_rules import CLAIMS
from duvae.report.results import Result
from test_report import Tables

DATASETS, SEEDS = ("synthetic", "short_yelp_resampled"), (1, 2)
NAMESPACES = ("http://www.w3.org/", "http://purl.org/dc/", "http://creativecommons.org/ns")


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.everything(DATASETS, SEEDS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    folder = made_up.project(tmp_path_factory.mktemp("everything"), params, params.run_jobs())
    report.run(params, folder)

    return folder


@pytest.fixture(scope="module")
def html(root: Path) -> str:
    return (root / "reports/index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(html: str) -> Tables:
    return Tables(html)


def held(root: Path, dataset: str, setting: str, file: str) -> list[dict[str, Any]]:
    return [json.loads((root / "results" / dataset / setting / str(seed) / file).read_text()) for seed in SEEDS]


def over(values: list[float | None], decimals: int, errors: list[float | None] = []) -> str:  # noqa: B006
    """Writes the mean and the standard deviation of values, and the mean of their errors, as the page does."""
    if values[0] is None:
        return "–"
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known)
    spread = math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1))
    error = f" [{sum(e for e in errors if e is not None) / len(errors):,.{decimals}f}]" if errors else ""
    text = f"{mean:,.{decimals}f} ± {spread:,.{decimals}f}{error}"

    return re.sub(r"-(?=0(?:\.0+)?(?![.\d]))", "", text).replace("-", "−")


def labelled(params: Params, root: Path, dataset: str) -> dict[str, str]:
    return results.setting_names(r for r in results.read(params, params.run_jobs(), root) if r.job.dataset == dataset)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_number_is_that_of_the_files(params: Params, root: Path, drawn: Tables, dataset: str) -> None:
    called = labelled(params, root, dataset)
    assert set(called) == set(made_up.ALL)
    for setting, name in called.items():
        metrics = held(root, dataset, setting, "metrics.json")
        row = drawn.row(f"likelihood-{dataset}", name)
        assert row["Seeds"] == "2"
        for key, head in {
            "perplexity": "PPL",
            "reconstruction": "Recon.",
            "kl": "KL",
            "mi": "MI",
            "mpd": "MPD",
            "ce": "CE",
        }.items():
            assert row[head] == over([m[key] for m in metrics], 2), (setting, key)
        assert row["AU"] == over([m["au"] for m in metrics], 1)
        for key, head in {"nll": "NLL", "mpd_t": "MPD of zᵀ", "ce_t": "CE of zᵀ"}.items():
            text = row[head].replace("‡", "")
            assert text == over([m[key] for m in metrics], 2, [m[f"{key}_stderr"] for m in metrics])
        assert ("‡" in row["NLL"]) == (metrics[0]["system"] == "fb")  # ended at the limit of epochs
        assert row["KL − MI"] == over([None if m["mi"] is None else m["kl"] - m["mi"] for m in metrics], 2)
        assert row["Use of z"] == over([m["use"] for m in metrics], 2, [m["use_stderr"] for m in metrics])
        assert row["z"] == ("collapsed" if metrics[0]["system"] == "vae" else "not collapsed")
        signed = name.replace("FB", "FB‡", 1) if metrics[0]["system"] == "fb" else name  # it did not converge
        probes, row = held(root, dataset, setting, "probe.json"), drawn.row(f"probes-{dataset}", signed)
        for labels in ("100", "500", "1000", "2000", "10000"):
            found = [probe["by_labels"][labels] for probe in probes]
            spreads = [f["spread"] for f in found] if dataset == "synthetic" else []  # one subset has no spread
            assert row[f"{int(labels):,}"] == over([f["accuracy"] for f in found], 1, spreads)
        row = drawn.row(f"making-{dataset}", name)
        assert row["Epochs"] == over([m["epochs"] for m in metrics], 0)
        assert row["Best"] == over([m["best_epoch"] for m in metrics], 0)
        cpu = [unwrapped(made)["cpu_seconds"] for made in held(root, dataset, setting, "train.run.json")]
        assert row["Training"] == over(cpu, 0)
        assert row["Evaluation"] == over([10.5, 10.5], 0)
        assert row["Commit"] == made_up.COMMIT[:7]
        assert len([r for r in drawn.found[f"models-{dataset}"] if r[0].startswith(f"{signed} seed")]) == 2


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("table", ["likelihood", "probes", "making"])
def test_rows_stand_as_in_table_1(drawn: Tables, dataset: str, table: str) -> None:
    rows = [
        row[0].replace("‡", "")
        for row in drawn.found[f"{table}-{dataset}"][1:]
        if not row[0].startswith(("Floor", "Largest"))
    ]
    assert [re.split(r" (?:\(|[γβδλ] \d)", row)[0] for row in rows] == [
        "AE", "VAE", "β-VAE", "SA-VAE", "SA-VAE", "Agg-VAE", "FB", "δ-VAE", "BN-VAE", "MAE", "DU-VAE", "DU-VAE",
        "IAF+FB", "IAF+BN", "DU-IAF", "BN-VAE, fixed β", "BN-VAE, fixed β",
    ]  # fmt: skip
    assert {"DU-VAE (γ 0.5, p 0.8)", "DU-VAE (γ 0.6, p 0.8)", "SA-VAE", "SA-VAE (15 epochs)"} < set(rows)
    assert {"IAF+FB λ 0.25", "MAE γ 2, η 0.2", "BN-VAE, fixed β (γ 0.6, β 1)"} < set(rows)


def test_where_a_system_has_no_figure_the_cell_is_empty(drawn: Tables) -> None:
    def empty(name: str) -> set[str]:
        return {head for head, text in drawn.row("likelihood-synthetic", name).items() if text == "–"}

    last = {"MPD of zᵀ", "CE of zᵀ"}
    likelihoods = {"NLL", "Minus VAE's", "NLL, unseen", "Above floor", "PPL"}
    assert empty("AE") == likelihoods | {"KL", "MI", "KL − MI", "MPD", "CE"} | last
    for name in ("IAF+FB", "IAF+BN", "DU-IAF"):
        assert empty(name) == {"MI", "KL − MI", "AU"}
    for name in ("β-VAE", "BN-VAE", "δ-VAE"):
        assert empty(name) == last
    assert empty("VAE") == {"Minus VAE's"} | last


def test_every_claim_of_the_paper_is_on_the_page(html: str, drawn: Tables) -> None:
    for claim in CLAIMS:
        assert claim.text.replace("'", "&#39;") in html
    head, *rows = drawn.found["claims-table"]
    assert head == ["Claim of the paper", *DATASETS]
    starts = [f"{claim.section} {claim.text}" for claim in CLAIMS]
    assert len(rows) > 15
    assert all(sum(row[0].startswith(start) for start in starts) == 1 for row in rows), "one line per claim"
    (row,) = [row for row in rows if "IAF+FB and DU-IAF" in row[0]]
    assert row[0].endswith("so this is not the effect of the flow alone.")
    assert all(f"{dataset}: " in row[0] for dataset in DATASETS), "the numbers are folded into the line"
    signs = {cell for row in rows for cell in row[1:]}
    assert signs <= {"", "✓ supported", "✗ not supported", "? cannot tell"}
    assert len(signs) > 2


def test_nothing_is_fetched_and_every_anchor_is_there(html: str, drawn: Tables) -> None:
    beside = "examples/short_yelp_resampled.html"
    pages = {"index.html", "index.html#samples-synthetic", "figure1.html"}
    pages |= {f"data_docs/{dataset}/index.html" for dataset in DATASETS}
    assert {source for source in drawn.loads if not source.startswith("data:")} == {beside, *pages}
    assert drawn.loads.count(beside) == 1
    assert all(url.startswith(NAMESPACES) for url in re.findall(r"\w+://[^\"'\s<>)]+", html))
    assert "@import" not in html
    bare = re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)  # the ids of glyphs in the figures repeat
    ids = Tables(bare).ids
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'href="(?:index\.html)?#([^"]+)"', bare)
    assert {"scoreboard", "claims", "compare", "collapse-synthetic", "figure1", "paper-short_yelp_resampled"} < set(
        wanted
    )
    assert set(wanted) <= set(ids)
    assert len(html.encode()) < 6e6


def test_the_same_results_give_the_same_page(params: Params, root: Path, html: str) -> None:
    report.run(params, root)
    assert (root / "reports/index.html").read_text(encoding="utf-8") == html


def test_figure1_stands_once_and_its_numbers_on_its_own_page(
    params: Params, root: Path, html: str, drawn: Tables
) -> None:
    figure1.run(params, root)
    alone = Tables((root / "reports/figure1.html").read_text(encoding="utf-8"))
    assert html.count('aria-label="Contours of the aggregated posteriors') == 1
    assert not [name for name in drawn.found if name.startswith("figure1-")]
    assert {"claims-figure1", "figure1-likelihood-synthetic", "figure1-probes-synthetic"} < set(alone.found)
    without = params.model_copy(update={"run": params.blocks()[0].model_copy(update={"settings": ["vae", "du_vae"]})})
    assert report.figure1_models(without, results.read(without, without.run_jobs(), root)) is None


def test_the_comparison_holds_the_numbers_and_the_curves(root: Path, html: str) -> None:
    data = json.loads(re.findall(r'<script type="application/json" id="compare-data">(.*?)</script>', html)[0])
    assert [of["id"] for of in data["sets"]] == list(DATASETS)
    assert data["first"] == ["synthetic/vae", "synthetic/du_vae"]
    for of in data["sets"]:
        assert [setting["id"].partition("/")[2] for setting in of["settings"]][:3] == ["ae", "vae", "beta_vae"]
        for setting in of["settings"]:
            dataset, name = setting["id"].split("/")
            nll = [m["nll"] for m in held(root, dataset, name, "metrics.json")]
            if name == "ae":
                assert setting["values"]["nll"] == [None, None]
            else:
                assert setting["values"]["nll"] == pytest.approx([np.mean(nll), np.std(nll, ddof=1)], rel=1e-4)
            assert len(setting["curves"]) == len(SEEDS)
            assert setting["colour"] == RECORDS[made_up.ALL[name][0]].colour
            history = pd.read_csv(root / "results" / dataset / name / "1" / "history.csv").set_index("epoch")
            curve = setting["curves"][0]
            losses = history["valid_loss"][curve["epoch"]].tolist()
            assert curve["valid_loss"] == pytest.approx(losses, rel=5e-5)
            assert setting["picture"] == (f"latent-{dataset}-{name}" if dataset == "synthetic" else None)
            assert setting["picture"] is None or f'<figure id="{setting["picture"]}"><img' in html
        keys = [measure["key"] for measure in of["measures"]]
        assert ("gap" in keys) == (of["id"] == "synthetic")
        assert {"nll", "mpd", "mpd_t", "probe_10000", "best_epoch", "train_cpu"} < set(keys)


def test_a_single_setting_is_compared_with_nothing(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae"])
    made_up.project(tmp_path, params, params.run_jobs())
    report.run(params, tmp_path)
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert "compare-data" not in html
    assert not {"compare", "collapse-synthetic", "figure1"} & set(Tables(html).ids)
    assert "likelihood-synthetic" in Tables(html).found


def test_a_long_curve_is_thinned(params: Params, root: Path) -> None:
    (model,) = results.read(params, [Job("synthetic", "vae", 1, "synthetic")], root)
    long = pd.concat([model.history] * 12, ignore_index=True)
    (setting,) = compare.settings([Result(model.job, model.metrics, long, model.probe, model.provenance)])
    epochs = setting["curves"][0]["epoch"]
    assert len(epochs) == compare.POINTS < len(long)
    assert (epochs[0], epochs[-1]) == (1, long["epoch"].iloc[-1]), "the first and the last epoch are kept"
    assert len(setting["curves"][0]["valid_loss"]) == compare.POINTS


def test_who_made_a_result_may_be_missing(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "du_vae"])
    made_up.project(tmp_path, params, params.run_jobs())
    for path in (tmp_path / "results").rglob("*.run.json"):
        path.unlink()
    report.run(params, tmp_path)
    html = (tmp_path / "reports/index.html").read_text()
    row = Tables(html).row("making-synthetic", "VAE")
    assert not {"Training", "Evaluation", "Memory", "Device", "Commit"} & set(row), "no column is empty"
    assert "Results of unknown date and commit: these models have no record" in html


# ---------------------------------------------------------------------------------- comparison with the paper


@pytest.mark.parametrize("name", paper_tables.FILES)
def test_every_row_of_the_paper_is_read(name: Any) -> None:
    path = made_up.ROOT / "src/duvae/report/paper_tables" / paper_tables.FILES[name]
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = sorted(set(frame["dataset"])) if "dataset" in frame else ["yelp"]
    rows = [row for column in columns for row in paper.paper_rows(name, column)]
    sizes = len(set(frame["labels"])) if "labels" in frame else 1
    assert len(rows) * sizes == len(frame)
    texts = [text for row in rows for text in row.numbers.values()]
    figures_of = ["accuracy"] if "labels" in frame else ["nll", "kl", "mi", "au"]
    assert sorted(texts) == sorted(frame[figures_of].to_numpy().ravel())
    assert {row.system for row in rows} <= set(RECORDS)
    for row in rows:
        assert len(row.values) == len(RECORDS[row.system].bracketed)


def test_what_table_3_prints_as_1_minus_p_is_p() -> None:
    found = {row.system: row.values for row in paper.paper_rows("table3", "omniglot")}
    assert found["du_vae"] == {"gamma": 0.5, "p": 0.9}
    assert found["du_iaf"] == {"gamma": 0.5, "p": 0.85}
    assert {"gamma": 0.5, "p": 0.9} in [
        row.values for row in paper.paper_rows("table1", "omniglot") if row.system == "du_vae"
    ]


def test_ours_stands_beside_the_paper(params: Params, root: Path, drawn: Tables, html: str) -> None:
    table = drawn.found["table2-short_yelp_resampled"]
    assert [text for text in table[0] if text] == ["100", "500", "1,000", "2,000", "10,000"]
    assert table[1][:5] == ["System", "Seeds", "ours", "paper", "ours"], "the data are not the paper's"
    called = {row[0]: row for row in table[2:]}
    assert list(called) == [
        "AE", "VAE", "δ-VAE δ 0.1", "Agg-VAE", "FB‡ λ 0.1", "BN-VAE γ 0.6", "MAE γ 2, η 0.2", "DU-VAE γ 0.5, p 0.8",
        "IAF+FB λ 0.25", "IAF+BN γ 0.7", "DU-IAF γ 0.6, p 0.7", "DU-VAE γ 0.6, p 0.8; not in the paper",
    ]  # fmt: skip
    ours = [p["by_labels"]["500"]["accuracy"] for p in held(root, "short_yelp_resampled", "du_vae", "probe.json")]
    row = called["DU-VAE γ 0.5, p 0.8"]
    assert row[1] == "2"
    assert row[4:6] == [over(ours, 2), "89.63"]
    assert called["DU-VAE γ 0.6, p 0.8; not in the paper"][3:6:2] == ["–", "–"]
    fixed = {row[0]: row for row in drawn.found["tableS2-short_yelp_resampled"][2:]}
    assert fixed["BN-VAE, fixed β β 0.1"][1] == "2"
    assert list(fixed) == ["BN-VAE, fixed β β 0.1", "BN-VAE, fixed β β 1"], "only rows with results of ours"
    assert "Not run: BN-VAE, fixed β β 0.3, BN-VAE, fixed β β 0.5 and BN-VAE, fixed β β 0.7." in html
    assert "Not the paper&#39;s experiment.</strong>" in html or "Not the paper's experiment.</strong>" in html
    assert "a seeded sample of the corpus" in html
    assert not any(name.startswith("table") and name.endswith("-synthetic") for name in drawn.found)


def omniglot(root: Path, params: Params) -> tuple[list[Result], dict[str, str]]:
    models = [r for r in results.read(params, params.run_jobs(), root) if r.job.dataset == "synthetic"]

    return models, dict.fromkeys(made_up.ALL, "#000000")


def test_slips_are_marked_where_they_are(params: Params, root: Path) -> None:
    models, colours = omniglot(root, params)
    of = paper.compare_with_paper("table1", "omniglot", models, colours, "image")
    assert [mark for mark, _ in of.notes] == ["", "", "a", "b", "c", "d", ""]
    copied = next(mark for mark, text in of.notes if "He et al. 2018" in text)
    rows = {row.name: row for row in reversed(of.table.rows)}
    assert rows["SA-VAE"].mark == rows["β-VAE"].mark == copied
    assert rows["VAE"].mark == ""
    same_au = next(mark for mark, text in of.notes if "same AU" in text)
    marked = [row.name for row in of.table.rows if row.cells[11].mark == same_au]
    assert sorted(set(marked)) == sorted(["VAE", "β-VAE", "SA-VAE", "Agg-VAE", "FB", "δ-VAE", "BN-VAE"])
    assert any("gated PixelCNN" in text for _, text in of.notes)
    assert not any("gated" in text for _, text in paper.compare_with_paper("table1", "yahoo", models, colours).notes)
    third = paper.compare_with_paper("table3", "omniglot", models, colours, "image")
    rows = {row.name: row for row in reversed(third.table.rows)}
    assert rows["AE"].mark == rows["δ-VAE"].mark != ""
    assert rows["DU-VAE"].mark == rows["DU-IAF"].mark != ""
    assert rows["DU-VAE"].note == "γ 0.5, p 0.9"
    assert rows["DU-VAE"].cells[0].text is None  # the setting of params.yaml has another p


@pytest.mark.parametrize(("examples", "told"), [(360, True), (7_000, True), (8_115, False)])
def test_an_mi_that_few_examples_cannot_reach_is_told(params: Params, root: Path, examples: int, told: bool) -> None:
    """The paper's highest MI on OMNIGLOT is 8.90: more than log 7,000 = 8.85, and less than log 8,115 = 9.00."""
    models, colours = omniglot(root, params)
    models = [dataclasses.replace(each, metrics={**each.metrics, "sentences": examples}) for each in models]
    texts = [text for _, text in paper.compare_with_paper("table1", "omniglot", models, colours, "image").notes]

    found = [text for text in texts if text.startswith("Our MI is at most log N")]
    assert len(found) == told
    if told:
        assert f"{math.log(examples):.2f} for {examples:,} test images" in found[0]
    third = paper.compare_with_paper("table3", "omniglot", models, colours, "image")
    assert not any("log N" in text for _, text in third.notes)


def test_numbers_of_other_data_are_not_subtracted(params: Params, root: Path) -> None:
    models, colours = omniglot(root, params)

    def columns(departs: list[str]) -> tuple[str, list[str], list[str | None]]:
        table = paper.compare_with_paper("table1", "omniglot", models, colours, "image", departs).table
        (row,) = [row for row in table.rows if row.name == "VAE"]

        return table.caption, [head.label for head in table.heads], [cell.text for cell in row.cells]

    caption, heads, _ = columns(["The images are others."])
    assert "Nothing is subtracted, since this is not the paper's experiment." in caption
    assert "ours minus the paper's" not in caption
    assert heads == ["Seeds", *["ours", "paper"] * 4]
    caption, heads, cells = columns([])
    assert "Nothing is subtracted" not in caption
    assert "; and ours minus the paper's." in caption
    assert heads == ["Seeds", *["ours", "paper", "diff."] * 4]
    for ours, theirs, difference in zip(cells[1::3], cells[2::3], cells[3::3], strict=True):
        assert ours is not None
        assert theirs is not None
        assert difference is not None
        found = float(difference.replace("−", "-").replace("+", ""))
        assert found == pytest.approx(float(ours.replace("−", "-")) - float(theirs), abs=0.0151)


def test_a_table_without_the_column_is_refused(params: Params, root: Path) -> None:
    models, colours = omniglot(root, params)
    with pytest.raises(UserError, match=r"datasets\.synthetic\.paper\.tables: Table S1.*no rows for the column 'yelp'"):
        paper.compare_with_paper("tableS1", "yelp", models, colours)


@pytest.mark.parametrize(
    ("ours", "printed", "said"),
    [
        (327.26, "327.0", "+0.3"),
        (326.94, "327.0", "−0.1"),
        (327.04, "327.0", "0.0"),
        (89.0, "89.21", "−0.21"),
        (5.0, "", None),
        (math.nan, "5.0", None),
    ],
)
def test_differences_are_as_exact_as_the_print(ours: float, printed: str, said: str | None) -> None:
    assert paper.difference(ours, printed) == said


def test_hyperparameters_match_by_the_papers_letters() -> None:
    assert names.letter_values("iaf_fb", {"free_bits": 0.1, "blocks": 2}) == {"free_bits": 0.1}
    assert names.letter_values("du_iaf", {"gamma": 0.5, "p": 1, "width": 60}) == {"gamma": 0.5, "p": 1.0}
    assert names.hyperparameter_text("iaf_fb", {"free_bits": 0.1, "blocks": 2}) == "λ 0.1"
    assert names.hyperparameter_text("bn_vae_fixed_beta", {"gamma": 0.6, "beta": 0.3}) == "γ 0.6, β 0.3"
    assert names.same_hyperparameters("iaf_fb", {"free_bits": 0.25}, {"free_bits": 0.25})
    assert names.same_hyperparameters("bn_vae_fixed_beta", {"gamma": 0.6, "beta": 0.3}, {"beta": 0.3})
    assert not names.same_hyperparameters("du_vae", {"gamma": 0.5, "p": 0.9}, {"gamma": 0.5, "p": 0.8})
    assert not names.same_hyperparameters("du_vae", {"gamma": 0.5}, {"gamma": 0.5, "p": 0.8})
    assert names.same_hyperparameters("vae", {}, {})
    assert names.hyperparameter_text("new", {"gamma": 0.6}) == ""
    assert names.label("new") == "new"
    assert sorted(["new", "mae", "ae", "du_iaf"], key=names.rank) == ["ae", "mae", "du_iaf", "new"]


def test_a_data_set_says_which_tables_it_belongs_to() -> None:
    known = made_up.params()
    of = known.dataset("short_yelp").paper
    assert of == Paper(tables=["table2", "tableS2"])
    resampled = known.dataset("short_yelp_resampled").paper
    assert resampled is not None
    assert resampled.departs
    assert known.dataset("synthetic").paper is None


# ---------------------------------------------------------------------------------- figures and words


def test_many_lines_have_their_names_beside_them(params: Params, root: Path) -> None:
    models = results.in_paper_order(
        r for r in results.read(params, params.run_jobs(), root) if r.job.dataset == "synthetic"
    )
    called = results.setting_names(models)
    for width in (figures.WIDTH, figures.COLUMN):
        figure = figures.curves(models, 10, width)
        figure.draw_without_rendering()
        assert not figure.legends
        for ax in (*figure.axes, figures.probes(models, width).axes[0]):
            ax.figure.draw_without_rendering()
            boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
            assert {text.get_text() for text in ax.texts} <= {*called.values(), figures.LARGEST_CLASS}
            assert len(boxes) > 10
            assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes)), "names do not overlap"
            assert all(box.x1 <= ax.figure.bbox.x1 + 0.5 for box in boxes), "names lie within the figure"
    styles = figures.line_styles(models)
    assert len(set(styles.values())) == len(styles)


def test_systems_without_mi_and_au_are_told_apart(params: Params, root: Path) -> None:
    models = [r for r in results.read(params, params.run_jobs(), root) if r.job.dataset == "synthetic"]
    compared = comparison.compare(models, [per_example.read(model, root) for model in models])
    lines = observations.observations(models, compared, 2)
    (alive,) = [line for line in lines if line.startswith("Not collapsed")]
    assert all(
        re.search(rf"{re.escape(name)} \(use of z 1\.\d\d, KL ", alive) for name in ("IAF+FB", "IAF+BN", "DU-IAF")
    )
    assert "nan" not in " ".join(lines)


def test_items_are_called_what_they_are(params: Params) -> None:
    assert metric_columns.noun(params.dataset("synthetic")) == "sentence"
    assert metric_columns.noun(params.dataset("short_yelp")) == "sentence"
