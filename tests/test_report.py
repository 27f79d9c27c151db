"""The pages and figures of the report show made-up results correctly."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import made_up
from duvae.commands import figure1, report
from duvae.config import Job, SyntheticDataset, SyntheticSource
from duvae.errors import UserError
from duvae.project import array_files
from duvae.report import comparison, figures, latent_spaces, observations, page, per_example, results
from duvae.report.per_example import Floor, PerExample, Space


class Tables(HTMLParser):
    """Reads a page of the report.

    Attributes:
        found: The tables by id. A table is a list of rows, and a row is a list of cell texts without units.
        loads: Addresses of the page's links and of the files that the page loads.
        ids: The ids of the page's elements.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.loads: list[str] = []
        self.open: list[str] = []
        self.cell: list[str] | None = None
        self.unit = False
        self.ids: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self.open.append(given["id"] or "")
            self.found[self.open[-1]] = []
        elif tag == "tr":
            self.found[self.open[-1]].append([])
        elif tag in ("td", "th"):
            self.cell = []
        self.unit = self.unit or (tag == "span" and given.get("class") == "unit")
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a" and not str(given["href"]).startswith("#"):
            self.loads.append(str(given["href"]))
        loading = ("img", "image", "script", "link", "iframe", "source", "object")
        if tag in loading and (given.get("src") or given.get("href")):
            self.loads.append(given.get("src") or given.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self.unit = self.unit and tag != "span"
        if tag in ("td", "th") and self.cell is not None:
            self.found[self.open[-1]][-1].append(" ".join("".join(self.cell).split()))
            self.cell = None
        elif tag == "table":
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.cell is not None and not self.unit:
            self.cell.append(data)

    def row(self, table: str, start: str) -> dict[str, str]:
        """Maps the column heads of a table to the cell texts of one row, which begins with the text `start`."""
        head, *rows = [row for row in self.found[table] if row[0] != ""]
        same = [row for row in rows if row[0] == start]
        (row,) = same or [row for row in rows if row[0].startswith(f"{start} ")]

        return dict(zip(head, row, strict=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up.project(tmp_path_factory.mktemp("project"), made_up.params())


@pytest.fixture(scope="module")
def drawn(root: Path) -> Tables:
    figure1.run(made_up.params(), root)

    return Tables((root / "reports/figure1.html").read_text())


def metrics(root: Path, setting: str) -> dict[str, float]:
    return json.loads((root / f"results/synthetic/{setting}/1/metrics.json").read_text())


def test_figure1_shows_the_numbers_of_the_results(root: Path, drawn: Tables) -> None:
    for setting, name in (("vae", "VAE"), ("agg_vae", "Agg-VAE"), ("bn_vae", "BN-VAE"), ("du_vae", "DU-VAE")):
        known, row = metrics(root, setting), drawn.row("figure1-likelihood-synthetic", name)
        assert row["NLL"] == f"{known['nll']:.2f} [{known['nll_stderr']:.2f}]"
        assert row["AU"] == str(known["au"])
        for key, column in (
            ("perplexity", "PPL"),
            ("reconstruction", "Recon."),
            ("kl", "KL"),
            ("mi", "MI"),
            ("ce", "CE"),
        ):
            assert row[column] == f"{known[key]:,.2f}"
    probe = json.loads((root / "results/synthetic/du_vae/1/probe.json").read_text())["by_labels"]["10000"]
    assert (
        drawn.row("figure1-probes-synthetic", "DU-VAE")["10,000"] == f"{probe['accuracy']:.1f} [{probe['spread']:.1f}]"
    )
    assert drawn.row("figure1-probes-synthetic", "Largest class")["500"] == "21.3"
    assert drawn.row("figure1-making-synthetic", "Agg-VAE")["Inner steps"] == "63,000"
    assert drawn.row("figure1-making-synthetic", "VAE")["Inner steps"] == "–"
    assert drawn.row("figure1-making-synthetic", "VAE")["Commit"] == made_up.COMMIT[:7]


def test_a_floor_stands_above_the_systems_and_gaps_are_paired(root: Path, drawn: Tables) -> None:
    truth = json.loads((root / "results/synthetic/truth.json").read_text())
    floor = drawn.row("figure1-likelihood-synthetic", "Floor: the true NLL")
    assert floor["NLL"] == f"{truth['nll']:.2f} [{truth['nll_stderr']:.2f}]"
    assert floor["KL"] == "–"
    true = array_files.read(root / "results/synthetic/per_example.json", "")[1]["nll"].astype(np.float64)
    found = array_files.read(root / "results/synthetic/du_vae/1/per_example.json", "")[1]["nll"]
    nll = found.astype(np.float64)[: len(true)]
    expected = f"{(nll - true).mean():.2f} [{(nll - true).std(ddof=1) / np.sqrt(len(true)):.2f}]"
    assert drawn.row("figure1-likelihood-synthetic", "DU-VAE")["Above floor"] == expected


def test_gap_needs_the_floors_own_sentences() -> None:
    floor = Floor({}, np.array([1.0, 2.0]))
    model = PerExample({}, np.array([0, 1, 4]), np.array([1.5, 4.5, 9.0]), None, None, None)
    gap = floor.gap(model)
    assert gap is not None
    assert gap.tolist() == [0.5, 2.5]
    assert floor.gap(replace(model, nll=None)) is None
    assert Floor({}).gap(model) is None
    with pytest.raises(UserError, match="different data"):
        floor.gap(replace(model, index=np.array([0, 3, 4])))


def test_an_autoencoder_leaves_cells_empty(drawn: Tables) -> None:
    row = drawn.row("figure1-likelihood-synthetic", "AE")
    assert [name for name, value in row.items() if value == "–"] == [
        "NLL",
        "Minus VAE's",
        "NLL, unseen",
        "Above floor",
        "PPL",
        "KL",
        "MI",
        "KL − MI",
        "MPD",
        "CE",
    ]


def test_pages_are_self_contained_and_repeatable(root: Path, drawn: Tables) -> None:
    page_of = root / "reports/figure1.html"
    before = page_of.read_bytes(), (root / "reports/figure1.png").read_bytes()
    assert any(source.startswith("data:") for source in drawn.loads)
    links = {source for source in drawn.loads if not source.startswith("data:")}
    assert links == {"index.html", "figure1.html"}  # this project has no study
    assert b"url(http" not in before[0]
    figure1.run(made_up.params(), root)
    assert (page_of.read_bytes(), (root / "reports/figure1.png").read_bytes()) == before


def test_what_is_seen_is_computed(root: Path) -> None:
    params = made_up.params()
    read = results.read(params, params.figure1_jobs(), root)
    compared = comparison.compare(read, [per_example.read(model, root) for model in read])
    fallen, alive, _, _, _, lowest, *_ = observations.observations(read, compared, 2)
    assert fallen.startswith("Collapsed: VAE (use of z ")
    assert "DU-VAE" not in fallen
    assert all(name in alive for name in ("AE", "Agg-VAE", "BN-VAE", "DU-VAE"))
    assert len(compared.best) == 4
    assert lowest.startswith(
        "Of VAE, Agg-VAE, BN-VAE and DU-VAE, none can be distinguished from the one with the lowest"
    )
    du_vae = next(r for r in read if r.job.setting == "du_vae")
    assert du_vae.collapsed is False
    du_vae.metrics["use"] = 0.0  # type: ignore[index]
    du_vae.metrics["use_stderr"] = 0.01  # type: ignore[index]
    assert du_vae.collapsed
    assert "DU-VAE" in observations.observations(read, compared, 2)[0]


def test_missing_files_are_named_with_their_commands(tmp_path: Path) -> None:
    params = made_up.params()
    made_up.project(tmp_path, params)
    for name in ("metrics.json", "evaluate.run.json"):
        (tmp_path / "results/synthetic/vae/1" / name).unlink()
    with pytest.raises(UserError) as caught:
        report.run(params, tmp_path)
    assert "vae/1/metrics.json: not there." in str(caught.value)
    assert "'duvae evaluate --dataset synthetic --setting vae --seed 1' makes it." in str(caught.value)
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("results/synthetic/ae/1/per_example.json", "duvae evaluate --dataset synthetic --setting ae --seed 1"),
        ("results/synthetic/per_example.json", "duvae truth --dataset synthetic"),
        ("results/synthetic/ae/1/history.csv", "duvae train --dataset synthetic --setting ae --seed 1"),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_each_missing_or_broken_file_has_its_command(tmp_path: Path, file: str, command: str, broken: bool) -> None:
    params = made_up.params()
    made_up.project(tmp_path, params)
    (tmp_path / file).write_text("") if broken else (tmp_path / file).unlink()
    with pytest.raises(UserError) as caught:
        figure1.run(params, tmp_path)
    assert str(tmp_path / file) in str(caught.value)
    assert command in str(caught.value)


def test_old_results_are_refused(tmp_path: Path) -> None:
    params = made_up.params()
    made_up.project(tmp_path, params)
    path = tmp_path / "results/synthetic/vae/1/metrics.json"
    path.write_text(json.dumps({"system": "vae", "nll": 1.0}))
    with pytest.raises(UserError, match=r"expected .*perplexity, .*duvae evaluate --dataset synthetic"):
        report.run(params, tmp_path)


def test_several_seeds_are_shown_by_mean_and_spread(tmp_path: Path) -> None:
    params = made_up.params(settings=["ae", "vae", "du_vae"], seeds=[1, 2, 3])
    made_up.project(tmp_path, params)
    report.run(params, tmp_path)
    tables = Tables((tmp_path / "reports/index.html").read_text())
    values = [
        json.loads((tmp_path / f"results/synthetic/du_vae/{seed}/metrics.json").read_text())["nll"]
        for seed in (1, 2, 3)
    ]
    row = tables.row("likelihood-synthetic", "DU-VAE")
    errors = [
        json.loads((tmp_path / f"results/synthetic/du_vae/{seed}/metrics.json").read_text())["nll_stderr"]
        for seed in (1, 2, 3)
    ]
    assert row["NLL"] == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} [{np.mean(errors):.2f}]"
    assert row["Seeds"] == "3"
    assert tables.row("likelihood-synthetic", "AE")["NLL"] == "–"
    assert len(tables.found["making-synthetic"]) == 1 + 3
    assert len(tables.found["models-synthetic"]) == 1 + 9
    mean, std, seeds = results.over_seeds(results.read(params, params.run_jobs(), tmp_path))
    assert list(mean.index) == ["ae", "vae", "du_vae"]
    assert seeds["vae"] == 3
    assert std.loc["du_vae", "nll"] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("settings", [["iaf_fb"], ["vae", "iaf_fb", "iaf_bn", "du_iaf"]])
def test_a_flow_leaves_mi_and_au_empty(tmp_path: Path, settings: list[str]) -> None:
    """The cells for MI and AU of a flow are empty, as in the paper. The use of z tells whether a flow collapsed."""
    params = made_up.params(settings=settings)
    made_up.project(tmp_path, params)
    report.run(params, tmp_path)
    tables = Tables((tmp_path / "reports/index.html").read_text())
    row = tables.row("likelihood-synthetic", "IAF+FB")
    alone = settings == ["iaf_fb"]  # then the columns are empty, and the table does not have them
    assert [name for name, value in row.items() if value == "–"] == ([] if alone else ["MI", "KL − MI", "AU"])
    assert ({"MI", "KL − MI", "AU"} <= set(row)) != alone
    assert row["System"] == "IAF+FB λ 0.25"
    assert row["z"] == "not collapsed"


def test_index_takes_any_data_set(tmp_path: Path) -> None:
    params = made_up.params(datasets=["synthetic", "short_yelp_resampled"], settings=["ae", "vae", "du_vae"])
    made_up.project(tmp_path, params, params.run_jobs())
    report.run(params, tmp_path)
    html = (tmp_path / "reports/index.html").read_text()
    tables = Tables(html)
    assert set(tables.found) == {
        f"{table}-{name}"
        for table in ("likelihood", "probes", "making")
        for name in ("synthetic", "short_yelp_resampled")
    } | {
        "table2-short_yelp_resampled",
        "compare-table",
        "claims-table",
        "scoreboard",
    } | {
        "dimensions-synthetic",
        "dimensions-short_yelp_resampled",
        "exact-synthetic",
    }
    assert "32 latent dimensions" in html
    assert "a sample of 100,000 (seed 1) of the same source" in html
    assert tables.row("likelihood-short_yelp_resampled", "DU-VAE")["System"] == "DU-VAE γ 0.5, p 0.8"
    assert "[" in tables.row("probes-synthetic", "DU-VAE")["100"]
    assert "[" not in tables.row("probes-short_yelp_resampled", "DU-VAE")["100"]  # there is only one subset
    assert "±" not in json.dumps([rows for name, rows in tables.found.items()], ensure_ascii=False)  # only one seed


def test_a_data_set_without_labels_has_no_probes(tmp_path: Path) -> None:
    params = made_up.params(datasets=["short_yelp_resampled"], settings=["vae"])
    of = params.datasets["short_yelp_resampled"]
    bare = of.model_copy(update={"probe": type(of.probe)()})
    params = params.model_copy(update={"datasets": {**params.datasets, "short_yelp_resampled": bare}})
    made_up.project(tmp_path, params, params.run_jobs())
    path = tmp_path / "results/short_yelp_resampled/vae/1/probe.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "largest_class": None, "by_labels": {}}))
    report.run(params, tmp_path)
    assert "probes-short_yelp_resampled" not in (tmp_path / "reports/index.html").read_text()


def test_the_aggregate_is_the_mean_of_all_posteriors() -> None:
    generator = np.random.default_rng(0)
    means, variances = generator.normal(0, 2, (40, 2)), generator.uniform(0.05, 3, (40, 2))
    x, y = generator.uniform(-3, 3, 7), generator.uniform(-3, 3, 5)
    density = latent_spaces.aggregate(means, variances, x, y)
    assert density.shape == (5, 7)
    for i, j in np.ndindex(5, 7):
        total = 0.0
        for mean, variance in zip(means, variances, strict=True):
            exponent = (x[j] - mean[0]) ** 2 / variance[0] + (y[i] - mean[1]) ** 2 / variance[1]
            total += np.exp(-exponent / 2) / (2 * np.pi * np.sqrt(variance[0] * variance[1]))
        assert density[i, j] == pytest.approx(total / 40, rel=1e-12)


def test_an_aggregate_integrates_to_one() -> None:
    at = np.linspace(-9, 9, 361)
    density = latent_spaces.aggregate(*latent_spaces.mixture(source()), at, at)
    assert density.sum() * 0.05**2 == pytest.approx(1, abs=1e-6)


def source() -> SyntheticSource:
    dataset = made_up.params().dataset("synthetic")
    assert isinstance(dataset, SyntheticDataset)

    return dataset.source


def space(name: str, variance: float | None, scale: float = 1.0) -> Space:
    generator = np.random.default_rng(3)
    means = scale * generator.normal(0, 1, (50, 2))

    return Space(name, means, None if variance is None else np.full((50, 2), variance), generator.integers(0, 5, 50))


def test_figure1_has_two_rows_a_system_and_one_scale() -> None:
    figure = latent_spaces.figure1(
        source(), space("z", None), [space("AE", None, 9.0), space("VAE", 1.0), space("DU-VAE", 0.1)]
    )
    *panels, bar = figure.axes
    assert len(panels) == 2 * 4
    assert [ax.get_title() for ax in panels[:4]] == ["True", "AE", "VAE", "DU-VAE"]
    assert {(ax.get_xlim(), ax.get_ylim(), ax.get_aspect()) for ax in panels} == {((-3.0, 3.0), (-3.0, 3.0), 1.0)}
    limits = {drawn.get_clim() for ax in panels[:4] for drawn in ax.collections if drawn.get_cmap().name == "viridis"}
    assert len(limits) == 1
    assert bar.get_ylim() == next(iter(limits))
    assert not panels[1].collections  # point masses have no density


def test_the_centre_component_is_blue() -> None:
    labels = np.array([0, 1, 2, 3, 4])
    points = Space("z", np.asarray(source().means), None, labels)
    figure = latent_spaces.figure1(source(), points, [])
    (dots,) = figure.axes[1].collections
    at = [tuple(place) for place in dots.get_offsets()].index((0.0, 0.0))
    blue = tuple(int(figures.COMPONENT_COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5))
    assert tuple(dots.get_facecolors()[at][:3]) == pytest.approx(blue)
    assert len({tuple(colour) for colour in dots.get_facecolors()}) == 5


def test_share_outside_of_the_frame() -> None:
    assert latent_spaces.share_outside(np.array([[0, 0], [3.1, 0], [0, -4], [3, 3.0]])) == 0.5


def test_curves_and_probes(root: Path) -> None:
    params = made_up.params()
    read = results.read(params, params.figure1_jobs(), root)
    curves = figures.curves(read, 10)
    assert len(curves.axes) == 6
    loss, kl, *_ = curves.axes
    assert len({line.get_color() for line in loss.lines}) == 5
    assert len({line.get_color() for line in kl.lines}) == 4  # AE has no KL
    (legend,) = curves.legends
    assert [text.get_text() for text in legend.get_texts()] == list(results.setting_names(read).values())
    (ax,) = figures.probes(read).axes
    assert {text.get_text() for text in ax.texts} == {*results.setting_names(read).values(), "largest class"}
    assert figures.svg(curves).startswith("<svg")
    assert figures.png(curves)[:4] == b"\x89PNG"
    assert len(latent_spaces.latent(space("VAE", 1.0)).axes) == 1


def test_settings_of_one_system_differ_in_their_lines(root: Path) -> None:
    params = made_up.params()
    (first,) = results.read(params, [params.job("synthetic", "du_vae", 1)], root)
    second = results.Result(Job("synthetic", "du_vae_other", 1, "synthetic"), first.metrics, first.history, None, {})
    styles = figures.line_styles([first, second])
    assert styles["du_vae"][0] == styles["du_vae_other"][0]
    assert styles["du_vae"][1] != styles["du_vae_other"][1]
    assert second.name == "DU-VAE (du_vae_other)"


def test_numbers_as_they_are_written() -> None:
    assert page.number(1234.5, 1) == "1,234.5"
    assert page.number(-0.004, 2) == "0.00"
    assert page.number(-1.5, 1) == "−1.5"
    assert page.number(None, 1) is None
    assert page.number(float("nan"), 1) is None
    assert page.number_range([31, 50]) == "31 to 50"
    assert page.word_list(["a", "b", "c"]) == "a, b and c"
    assert results.short_commit({"commit": "abcdef0123", "dirty": True}) == "abcdef0+"
    assert results.short_commit({"commit": None}) == "no commit"
