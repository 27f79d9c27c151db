"""Data sets and settings of the user in files of their own, and the private project in which they run."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny
from duvae import config
from duvae.data import sources
from duvae.errors import UserError
from duvae.project import own_data

DEFAULTS = yaml.safe_load(own_data.DEFAULTS.read_text(encoding="utf-8"))
TEXT = {"kind": "text", "source": {"train": [{"path": "corpora/reviews.txt"}]}}
IMAGES = {"kind": "images", "source": {"path": "leaves"}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a params.yaml, a data set and a setting of the user; the test runs in this folder."""
    raw = tiny.small()
    tiny.keep(raw, ["synthetic"], ["vae", "du_vae"])
    raw.update(figure1=None, run={"datasets": ["synthetic"], "settings": ["vae"], "seeds": [1]})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    declare(tmp_path / "datasets/reviews.yaml", TEXT)
    declare(
        tmp_path / "settings/mine.yaml", {**raw["settings"]["du_vae"], "columns": {"yelp": {"gamma": 0.7, "p": 0.9}}}
    )
    monkeypatch.chdir(tmp_path)

    return tmp_path


def declare(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def test_a_data_set_needs_only_what_differs_from_the_defaults(project: Path) -> None:
    declare(project / "datasets/leaves.yaml", IMAGES)
    for name, kind in (("reviews", "text"), ("leaves", "images")):
        raw, params = own_data.compose(own_data.Selection(name, ["vae", "du_vae"]))
        complete = {**DEFAULTS[kind], "source": {}, "kind": kind}
        assert {**raw["datasets"][name], "source": {}} == complete
        assert [job.name for job in params.run_jobs()] == [f"{name}-vae-1", f"{name}-du_vae-1"]


def paths(value: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The values inside nested mappings, by their keys."""
    if not isinstance(value, dict):
        return {above: value}

    return {key: inner for name, each in value.items() for key, inner in paths(each, (*above, name)).items()}


@given(st.data(), st.sampled_from(["text", "images"]))
def test_each_value_is_the_users_own_or_else_the_default(data: st.DataObject, kind: str) -> None:
    base = {"kind": kind, **copy.deepcopy(DEFAULTS[kind])}
    keys = data.draw(st.lists(st.sampled_from(sorted(paths(DEFAULTS[kind]))), unique=True))
    own: dict[str, Any] = {"kind": kind, "source": {}}
    for key in keys:
        inside = own
        for part in key[:-1]:
            inside = inside.setdefault(part, {})
        inside[key[-1]] = "own value"
    merged = paths(own_data.with_defaults(own))
    if kind == "images" and ("source", "size") in keys and ("networks", "size") not in keys:
        assert merged.pop(("networks", "size")) == "own value"  # the networks read images of the given size
    expected = {key: "own value" if key in keys else value for key, value in paths(base).items()}
    assert merged == {key: value for key, value in expected.items() if key in merged}
    assert expected.keys() - merged.keys() <= {("networks", "size")}


@pytest.mark.parametrize(
    ("source", "split", "build"),
    [
        ({}, {"valid", "test", "seed"}, True),
        ({"valid": [{"path": "v.txt"}]}, {"test", "seed"}, True),
        ({"valid": [{"path": "v.txt"}], "test": [{"path": "t.txt"}]}, None, True),
        ({"valid": [{"path": "v.txt"}], "test": [{"path": "t.txt"}], "sample": {"size": 5, "seed": 1}}, None, True),
        ({"vocabulary": "words.txt"}, {"valid", "test", "seed"}, False),
    ],
)
def test_files_of_the_user_replace_a_default_split_and_vocabulary(
    project: Path, source: dict[str, Any], split: set[str] | None, build: bool
) -> None:
    declare(project / "datasets/reviews.yaml", {**TEXT, "source": {**TEXT["source"], **source}})
    raw, _ = own_data.compose(own_data.Selection("reviews", ["vae"]))
    complete = raw["datasets"]["reviews"]["source"]
    assert complete.get("split", {}).keys() == (split or set())
    assert ("build" in complete) == build


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "kind: text\nnetworks:\n  hiden: 5\nsource: {train: [{path: a.txt}]}\n",
            r"networks\.hiden \(line 3\): unknown key",
        ),
        (
            "kind: text\nsource:\n  train: [{path: a.txt}]\n  max_words: many\n",
            r"source\.max_words \(line 4\): expected a",
        ),
        ("kind: text\n", r"source: expected this key"),
        ("kind: texts\nsource: {}\n", r"kind \(line 1\): unknown kind 'texts'"),
        ("- a\n", r"expected a mapping with the keys kind, source; found a list"),
        ("kind: text\nkind: text\n", r"line 2: .*the key 'kind' occurs twice"),
    ],
)
def test_a_mistake_is_named_with_the_users_file_and_line(project: Path, content: str, message: str) -> None:
    (project / "datasets/reviews.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=rf"^datasets/reviews\.yaml[:,] {message}"):
        own_data.compose(own_data.Selection("reviews", ["vae"]))


def test_a_mistake_in_a_setting_is_named_with_its_file(project: Path) -> None:
    declare(project / "settings/mine.yaml", {"system": "du_vae", "parts": {}, "columns": {"yelp": {"gama": 1.0}}})
    with pytest.raises(UserError, match=r"settings/mine\.yaml: columns\.yelp\.gama \(line 5\)"):
        own_data.compose(own_data.Selection("reviews", ["mine"]))


def test_a_setting_of_the_user_runs_like_any_other(project: Path) -> None:
    _, params = own_data.compose(own_data.Selection("reviews", ["vae", "mine"], [3, 4]))
    assert [job.name for job in params.run_jobs()] == [
        f"reviews-{each}" for each in ("vae-3", "vae-4", "mine-3", "mine-4")
    ]
    assert params.hyperparameters("mine", "reviews").model_dump()["gamma"] == 0.7


def test_names_that_are_taken_wrong_or_unknown_are_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data set 'review' \(did you mean 'reviews'\?\)"):
        own_data.compose(own_data.Selection("review", ["vae"]))
    with pytest.raises(UserError, match="unknown setting 'min'"):
        own_data.compose(own_data.Selection("reviews", ["min"]))
    declare(project / "datasets/synthetic.yaml", TEXT)
    with pytest.raises(UserError, match=r"datasets/synthetic\.yaml: expected a name that params\.yaml does not have"):
        own_data.compose(own_data.Selection("reviews", ["vae"]))
    (project / "datasets/synthetic.yaml").rename(project / "datasets/My Texts.yaml")
    with pytest.raises(UserError, match=r"datasets/My Texts\.yaml: expected a name of at most 60 lower-case letters"):
        own_data.compose(own_data.Selection("reviews", ["vae"]))


def test_a_setting_without_values_of_its_own_is_refused(project: Path) -> None:
    declare(project / "settings/mine.yaml", {"system": "du_vae", "columns": {"yelp": {"study": "grid"}}})
    with pytest.raises(UserError, match=r"setting 'mine': expected hyperparameters of its own; .* the study 'grid'"):
        own_data.compose(own_data.Selection("reviews", ["mine"]))


def test_a_setting_needs_the_column_of_the_data_set(project: Path) -> None:
    declare(project / "datasets/reviews.yaml", {**TEXT, "column": "prose"})
    with pytest.raises(UserError, match=r"expected at least one setting that has the column"):
        own_data.compose(own_data.Selection("reviews", ["vae"]))


def test_a_data_set_of_the_project_runs_apart_as_well(project: Path) -> None:
    raw, params = own_data.compose(own_data.Selection("synthetic", ["vae"], changes=["optimisation.epochs=7"]))
    assert params.optimisation("vae", "synthetic").epochs == 7
    assert raw["datasets"].keys() == {"synthetic"}
    assert config.load(Path("params.yaml")).optimisation("vae", "synthetic").epochs == 2


@pytest.mark.parametrize("relative", ["corpora/reviews.txt", "./reviews.txt", "../elsewhere/reviews.txt"])
def test_a_path_leads_to_the_same_file_from_the_private_project(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "project"
    folder = own_data.folder("reviews", root)
    folder.mkdir(parents=True)
    assert (folder / own_data.private_path(relative)).resolve() == (root / relative).resolve()


def test_other_paths_stay_as_they_are() -> None:
    assert own_data.private_path("/data/reviews.txt") == "/data/reviews.txt"
    for path in sources.SOURCES:
        assert own_data.private_path(path) == path


def test_every_path_of_a_source_is_seen_from_the_private_project(project: Path) -> None:
    source = {
        "train": [{"path": "a.txt", "label": 1}, {"path": "/b.txt"}],
        "subsets": {"few": [{"path": "c.txt"}]},
        "vocabulary": "words.txt",
    }
    declare(project / "datasets/reviews.yaml", {**TEXT, "source": source})
    _, params = own_data.compose(own_data.Selection("reviews", ["vae"]))
    assert params.dataset("reviews").source.paths == [
        "../../a.txt",
        "/b.txt",
        "../../c.txt",
        "../../words.txt",
    ]


def test_the_documentation_names_every_default() -> None:
    page = (tiny.ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    for kind, defaults in DEFAULTS.items():
        section = page.partition(f"### Defaults of {kind}\n")[2].partition("\n#")[0]
        block = re.search(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
        assert block is not None
        assert yaml.safe_load(block[1]) == defaults
