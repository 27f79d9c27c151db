"""The graph: what each stage depends on, what a change makes out of date, and the list of jobs."""

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

import tiny
from duvae import config, graph
from duvae.errors import UserError
from imports import HANDED_OVER, ROOT, SRC, empty, files

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
COMMANDS = {name: stage.get("do", stage)["cmd"].split()[1] for name, stage in GRAPH["stages"].items()}

DATASETS = ["synthetic", "short_yelp_resampled"]
SETTINGS = ["vae", "du_vae"]
SEEDS = [1]


# ------------------------------------------------------------------- the lists of modules and parameters


def listed(stage: str) -> list[str]:
    return [path for path in _body(stage)["deps"] if path.startswith("src/")]


def _body(stage: str) -> Mapping[str, Any]:
    return GRAPH["stages"][stage].get("do", GRAPH["stages"][stage])


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_lists_the_modules_it_uses(stage: str) -> None:
    found = set()
    for path in map(ROOT.joinpath, listed(stage)):
        assert path.exists(), path
        found |= set(path.rglob("*.py")) if path.is_dir() else {path}

    written = {path.relative_to(ROOT).as_posix() for path in found if path.suffix == ".py" and not empty(path)}
    imported = files(f"duvae.stages.{COMMANDS[stage]}")
    assert written == imported, f"dvc.yaml, {stage}: not listed {imported - written}, not used {written - imported}"


def test_every_file_of_the_library_belongs_to_a_stage() -> None:
    outside = {
        "duvae.__main__",
        "duvae.catalogue",
        "duvae.doctor",
        "duvae.reference",
        "duvae.stages.parameters",
        "duvae.serving",
        "duvae.stages.doctor",
        "duvae.stages.encode",
        "duvae.stages.generate",
        "duvae.stages.reconstruct",
        "duvae.stages.systems",
        "duvae.stages.track",
        "duvae.tracking",
        "duvae.trained",
        *HANDED_OVER,
    }
    known = {ROOT / path for stage in COMMANDS for path in listed(stage)}
    for path in SRC.rglob("*"):
        module = path.relative_to(SRC).with_suffix("").as_posix().replace("/", ".")
        named = any(module == each or module.startswith(f"{each}.") for each in outside)
        if not path.is_file() or path.suffix in {".pyc", ".typed", ".part"} or named:
            continue
        if path.suffix != ".py" or not empty(path):
            assert path in known or any(folder in known for folder in path.parents), f"{path} is in no stage's deps"


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stages_lists_are_sorted_and_each_once(stage: str) -> None:
    for names in (listed(stage), [p for p in _body(stage).get("params", []) if "${" not in p]):
        assert names == sorted(set(names))


def test_figure1_runs_over_its_settings() -> None:
    text = json.dumps(_body("figure1")["deps"])

    for folder in ("posteriors", "results"):
        found = re.findall(rf"{folder}/{config.FIGURE1_DATASET}/(\w+)/\$\{{figure1\.seed\}}", text)
        assert tuple(found) == config.FIGURE1_SETTINGS


def test_plots_are_of_figure1s_settings() -> None:
    for plot in GRAPH["plots"]:
        ((title, drawn),) = plot.items()
        found = [re.fullmatch(r"results/synthetic/(\w+)/\$\{figure1\.seed\}/history\.csv", path) for path in drawn["y"]]
        settings = [match.group(1) for match in found if match]
        assert len(settings) == len(drawn["y"])
        # AE has no KL and no mutual information.
        assert settings == [s for s in config.FIGURE1_SETTINGS if s != "ae" or "ELBO" in title]


# ------------------------------------------------------------------- the list of jobs


def parameters(**run: Any) -> config.Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tiny.block(raw).update({"seeds": [1], **run})
    raw["figure1"]["seed"] = 1

    return config.parse(raw)


def test_the_committed_list_is_up_to_date() -> None:
    graph.check(config.load(ROOT / "params.yaml"), ROOT / graph.JOBS)


def test_jobs_are_the_union_each_once() -> None:
    params = parameters(datasets=["short_yelp", "synthetic", "short_yelp"], settings=["vae", "ae"], seeds=[2, 1])
    names = list(yaml.safe_load(graph.render(params))["jobs"])

    assert len(names) == len(set(names))
    assert set(names) == {
        *(f"{d}-{s}-{n}" for d in ("short_yelp", "synthetic") for s in ("vae", "ae") for n in (1, 2)),
        *(f"synthetic-{s}-1" for s in config.FIGURE1_SETTINGS),
    }


def test_triples_without_the_data_sets_column_are_left_out() -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tiny.block(raw).update(datasets=["short_yelp", "synthetic"], settings=["vae", "odd"], seeds=[1])
    raw["settings"]["odd"] = {"system": "vae", "parts": {"init": "paper"}, "columns": {"yelp": {}}}
    jobs = yaml.safe_load(graph.render(config.parse(raw)))["jobs"]

    assert "short_yelp-odd-1" in jobs
    assert "synthetic-odd-1" not in jobs


def test_figure1_is_there_whatever_run_names() -> None:
    rows = yaml.safe_load(graph.render(parameters(datasets=["short_yelp"], settings=["du_vae"], seeds=[7])))

    assert rows["sets"] == ["short_yelp", "synthetic"]
    assert rows["texts"] == ["short_yelp"]
    assert rows["synthetics"] == ["synthetic"]
    assert rows["fetched"] == ["short_yelp"]
    assert rows["own"] == []
    assert rows["images"] == []
    assert {f"synthetic-{setting}-1" for setting in config.FIGURE1_SETTINGS} < set(rows["jobs"])
    assert rows["jobs"]["short_yelp-du_vae-7"] == {
        "dataset": "short_yelp",
        "setting": "du_vae",
        "seed": 7,
        "column": "yelp",
        "key": "settings.du_vae",
    }


def test_a_missing_or_stale_list_is_told_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "pipelines" / "jobs.yaml"

    with pytest.raises(UserError, match=r"not there\. Run 'duvae graph'"):
        graph.check(parameters(), path)
    assert graph.write(parameters(), path)
    assert not graph.write(parameters(), path)
    graph.check(parameters(), path)
    with pytest.raises(UserError, match=r"out of date(.|\n)*\+ .*synthetic-vae-3(.|\n)*Run 'duvae graph'"):
        graph.check(parameters(seeds=[1, 3]), path)


# ------------------------------------------------------------------- DVC itself, over stages that only pretend

FAKE = """\
#!{python}
import json, subprocess, sys, uuid
from pathlib import Path

if sys.argv[1] == "graph" or (sys.argv[1] == "fetch" and sys.argv[-1] == "reviews"):
    from duvae.cli import main
    sys.exit(main())
for name in json.loads(Path({outs!r}).read_text())[" ".join(["duvae", *sys.argv[1:]])]:
    path, mark = Path(name), str(uuid.uuid4())
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        path.write_text("epoch,valid_loss,valid_kl,valid_mi,id\\n1,40.5,0.25,0.5," + mark + "\\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps({{"nll": 41.25, "id": mark}}))
    elif path.suffix:
        path.write_text(mark)
    else:
        path.mkdir()
        (path / "data.txt").write_text(mark)
"""


class Workspace:
    """A copy of the graph and the sources in which every stage but `graph` only writes its outs, new each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Workspace":
        here = cls(folder)
        folder.mkdir()
        shutil.copytree(SRC, folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        here.dvc("init", "--no-scm", "--quiet")
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
        here.dvc("config", "core.no_scm", "true")
        here.change(lambda raw: tiny.block(raw).update(datasets=DATASETS, settings=SETTINGS, seeds=SEEDS))
        here.change(lambda raw: raw["figure1"].update(seed=1))
        here.duvae("graph")

        return here

    def copy(self, folder: Path) -> "Workspace":
        shutil.copytree(self.folder, folder)

        return Workspace(folder)

    def change(self, edit: Callable[[Any], object]) -> None:
        """Edits params.yaml and leaves its anchors as they are."""
        file = YAML()
        raw = file.load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        edit(raw)
        with (self.folder / "params.yaml").open("w", encoding="utf-8") as opened:
            file.dump(raw, opened)

    def touch(self, path: str) -> None:
        with (self.folder / path).open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")

    def call(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        bin_ = self.folder.parent / "bin"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": os.pathsep.join([str(bin_), os.environ["PATH"]]), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr

        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.call("dvc", *arguments, check=check)

    def duvae(self, *arguments: str) -> None:
        self.call(sys.executable, "-c", "from duvae.cli import main; main()", *arguments)

    def stages(self) -> dict[str, Any]:
        """Every stage that DVC sees, by its name."""
        code = (
            "import json; from dvc.repo import Repo\n"
            "print(json.dumps({s.addressing: [s.cmd, [o.def_path for o in s.outs]] for s in Repo().index.stages}))"
        )

        return json.loads(self.call(sys.executable, "-c", code).stdout.splitlines()[-1])

    def pretend(self) -> None:
        """Puts a `duvae` first on the path that writes the outs of what it is called with."""
        bin_ = self.folder.parent / "bin"
        bin_.mkdir(exist_ok=True)
        outs = bin_ / "outs.json"
        outs.write_text(json.dumps(dict(self.stages().values())), encoding="utf-8")
        fake = bin_ / "duvae"
        fake.write_text(FAKE.format(python=sys.executable, outs=str(outs)), encoding="utf-8")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)

    def repro(self, *targets: str) -> set[str]:
        """The stages that `dvc repro` ran."""
        return set(re.findall(r"Running stage '([^']+)'", self.dvc("repro", *targets).stdout))

    def stale(self) -> set[str]:
        """The stages that something changed for, not counting what hangs on them."""
        from dvc.repo import Repo

        with contextlib.chdir(self.folder), Repo() as repo:
            return set(repo.status())


def test_images_are_made_grey_and_then_bits(tmp_path: Path) -> None:
    """The chain of an image data set, as DVC sees it; none of it is there unless `run` names it."""
    here = Workspace.create(tmp_path / "images")
    before = here.stages()
    here.change(lambda raw: tiny.block(raw).update(datasets=["omniglot_small"], settings=["du_vae"]))
    here.duvae("graph")
    outs = {name: outs for name, (_, outs) in here.stages().items()}

    assert not any("omniglot" in name for name in before)
    assert {name for name in outs if name.endswith("@omniglot_small")} == {
        f"{stage}@omniglot_small" for stage in ("fetch", "grey", "binarize", "validate")
    }
    assert outs["grey@omniglot_small"] == ["data/grey/omniglot_small"]
    assert outs["binarize@omniglot_small"] == ["data/prepared/omniglot_small"]
    assert {f"{stage}@omniglot_small-du_vae-1" for stage in ("train", "evaluate", "probe", "generate")} <= set(outs)
    assert outs["generate@omniglot_small-du_vae-1"] == ["generated/omniglot_small/du_vae/1.npz"]


def test_a_file_of_ones_own_is_looked_at_each_time(tmp_path: Path) -> None:
    """Where it changed, what was made of it is made again; where not, nothing is."""
    here = Workspace.create(tmp_path / "own")
    corpus = here.folder / "corpora" / "reviews.txt"
    corpus.parent.mkdir()
    corpus.write_text("good food\nbad food\n", encoding="utf-8")
    source = {"train": [{"path": "corpora/reviews.txt"}], "split": {"valid": 0.2, "test": 0.2, "seed": 1}}

    def edit(raw: Any) -> None:
        small = raw["datasets"]["short_yelp_small"]
        own = {**small, "source": {**source, "build": {"most": 10}, "max_words": 5}, "probe": {}}
        raw["datasets"]["reviews"] = own
        tiny.block(raw).update(datasets=["reviews"], settings=["vae"])

    here.change(edit)
    here.duvae("graph")
    here.pretend()

    assert here.repro("prepare@reviews") == {"graph", "own@reviews", "prepare@reviews"}
    assert (here.folder / "data/raw/reviews/corpora/reviews.txt").read_bytes() == corpus.read_bytes()
    assert here.repro("prepare@reviews") == {"own@reviews"}
    corpus.write_text("good food\nbad food\nno food\n", encoding="utf-8")
    assert here.repro("prepare@reviews") == {"own@reviews", "prepare@reviews"}
    assert (here.folder / "data/raw/reviews/corpora/reviews.txt").read_bytes() == corpus.read_bytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which all has run once: first Figure 1 with what it needs and nothing else, then the rest."""
    here = Workspace.create(tmp_path_factory.mktemp("graph") / "built")
    here.pretend()
    figure1 = {
        "graph",
        *(f"{stage}@synthetic" for stage in ("synthesize", "validate", "truth")),
        *(f"{stage}@synthetic-{s}-1" for stage in ("train", "evaluate", "probe") for s in config.FIGURE1_SETTINGS),
        "figure1",
    }
    assert here.repro("figure1") == figure1
    assert here.repro() == set(here.stages()) - figure1

    return here


@pytest.fixture
def workspace(built: Workspace, request: pytest.FixtureRequest) -> Workspace:
    """A copy of it, to change."""
    name = re.sub(r"\W+", "_", request.node.name)

    return built.copy(built.folder.parent / name)


def jobs(stage: str, dataset: str | None = None, setting: str | None = None) -> set[str]:
    figure1 = {("synthetic", s, 1) for s in config.FIGURE1_SETTINGS}
    run = {(d, s, n) for d in DATASETS for s in SETTINGS for n in SEEDS}

    return {f"{stage}@{d}-{s}-{n}" for d, s, n in figure1 | run if dataset in (None, d) and setting in (None, s)}


def test_a_second_repro_does_nothing(built: Workspace) -> None:
    assert built.repro() == set()
    assert built.repro("figure1") == set()


def test_a_hyperparameter_reruns_its_setting_and_what_hangs_on_it(workspace: Workspace) -> None:
    workspace.change(lambda raw: raw["settings"]["du_vae"]["columns"]["synthetic"].update(p=0.25))

    wanted = {
        name for stage in ("train", "evaluate", "probe", "generate") for name in jobs(stage, "synthetic", "du_vae")
    }
    assert workspace.repro() == {"graph", *wanted, "figure1", "report"}


def test_a_template_reruns_the_pages_alone(workspace: Workspace) -> None:
    workspace.touch("src/duvae/report/templates/figure1.html")

    assert workspace.repro() == {"figure1", "report"}


def test_a_change_of_run_trains_what_is_new_alone(workspace: Workspace) -> None:
    workspace.change(lambda raw: tiny.block(raw).update(settings=["vae", "du_vae", "bn_vae"]))
    workspace.duvae("graph")
    workspace.pretend()

    new = {"short_yelp_resampled-bn_vae-1"}  # its like on the synthetic data is Figure 1's
    wanted = {f"{stage}@{name}" for stage in ("train", "evaluate", "probe", "generate") for name in new}
    assert workspace.repro() == {"graph", *wanted, "report"}


@pytest.mark.parametrize("targets", [[], ["figure1"], ["train@synthetic-vae-1"]])
def test_a_stale_list_stops_everything(workspace: Workspace, targets: list[str]) -> None:
    workspace.change(lambda raw: tiny.block(raw).update(seeds=[1, 3]))
    workspace.change(lambda raw: raw["settings"]["vae"]["parts"].update(init="torch"))

    done = workspace.dvc("repro", *targets, check=False)

    assert done.returncode != 0
    assert "out of date" in done.stderr
    assert "Run 'duvae graph'" in done.stderr
    assert re.findall(r"Running stage '([^']+)'", done.stdout) == ["graph"]


def test_a_data_set_that_is_gone_stops_everything(workspace: Workspace) -> None:
    def edit(raw: Any) -> None:
        tiny.block(raw)["datasets"] = ["synthetic"]
        del raw["datasets"][DATASETS[1]]

    workspace.change(edit)
    done = workspace.dvc("repro", check=False)

    assert done.returncode != 0
    assert "Run 'duvae graph'" in done.stderr
    assert re.findall(r"Running stage '([^']+)'", done.stdout) == ["graph"]


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (lambda raw: raw["settings"]["du_vae"]["columns"]["yelp"].update(p=0.7), jobs("train", DATASETS[1], "du_vae")),
        (lambda raw: raw["settings"]["du_vae"]["columns"]["omniglot"].update(p=0.7), set()),
        (lambda raw: raw["settings"]["vae"]["parts"].update(init="torch"), jobs("train", None, "vae")),
        (
            lambda raw: raw["datasets"]["synthetic"]["networks"].update(hidden=60),
            {*jobs("train", "synthetic"), "report"},
        ),
        (
            lambda raw: raw["datasets"]["short_yelp_resampled"]["source"]["sample"].update(seed=2),
            {f"{stage}@short_yelp_resampled" for stage in ("fetch", "prepare", "validate")} | {"report"},
        ),
        (
            lambda raw: raw["datasets"]["synthetic"]["truth"].update(spacing=0.1),
            {"truth@synthetic", "report"},
        ),
        (lambda raw: raw["evaluation"].update(importance_samples=50), {*jobs("evaluate"), "figure1", "report"}),
        (lambda raw: raw["probe"].update(draws=7), jobs("probe")),
        (lambda raw: raw["generation"].update(rows=7), jobs("generate")),
        (
            lambda raw: raw["threads"] and raw.update(threads=2),
            {"truth@synthetic", *jobs("train"), *jobs("evaluate"), *jobs("probe"), *jobs("generate")},
        ),
    ],
)
def test_a_parameter_touches_the_stages_that_read_it(
    workspace: Workspace, edit: Callable[[Any], object], wanted: set[str]
) -> None:
    workspace.change(edit)

    assert workspace.stale() - {"graph"} == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("src/duvae/cli.py", set()),
        ("src/duvae/config/params.py", set()),
        ("src/duvae/data/data_docs.py", {f"validate@{name}" for name in DATASETS}),
        ("src/duvae/training/loop.py", jobs("train")),
        ("src/duvae/metrics/likelihood.py", jobs("evaluate")),
        ("src/duvae/metrics/probes.py", jobs("probe")),
        ("src/duvae/networks/lstm.py", {*jobs("train"), *jobs("evaluate"), *jobs("probe"), *jobs("generate")}),
        ("src/duvae/generation.py", jobs("generate")),
        ("src/duvae/report/examples.py", {"report"}),
        ("src/duvae/stages/report.py", {"report"}),
    ],
)
def test_a_module_touches_the_stages_that_use_it(workspace: Workspace, path: str, wanted: set[str]) -> None:
    workspace.touch(path)

    assert workspace.stale() == wanted


def test_metrics_and_plots_are_dvcs(workspace: Workspace) -> None:
    shown = json.loads(workspace.dvc("metrics", "show", "--json").stdout)[""]["data"]
    for name in jobs("evaluate"):
        dataset, setting, seed = name.partition("@")[2].split("-")
        assert shown[f"results/{dataset}/{setting}/{seed}/metrics.json"]["data"]["nll"] == 41.25

    workspace.dvc("plots", "show", "--out", "drawn")
    drawn = (workspace.folder / "drawn" / "index.html").read_text(encoding="utf-8")
    for plot in GRAPH["plots"]:
        assert all(title in drawn for title in plot)
    assert "results/synthetic/du_vae/1/history.csv" in drawn


@pytest.mark.parametrize("stage", ["train", "evaluate", "probe"])
def test_what_takes_long_is_found_again_in_the_run_cache(workspace: Workspace, stage: str) -> None:
    """With the lock and the outputs gone, as in another clone that shares the cache, nothing runs again."""
    (workspace.folder / "dvc.lock").unlink()
    for folder in ("models", "results", "posteriors"):
        shutil.rmtree(workspace.folder / folder)

    assert workspace.repro(f"{stage}@synthetic-vae-1") == set()
