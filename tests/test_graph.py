"""The graph: the dependencies of each stage, the stages that a change makes stale, and the list of jobs."""

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

import tiny
from duvae import config
from duvae.errors import UserError
from duvae.project import fingerprint, job_list

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
COMMANDS = {name: stage.get("do", stage)["cmd"].split()[1] for name, stage in GRAPH["stages"].items()}

DATASETS = ["synthetic", "short_yelp_resampled"]
SETTINGS = ["vae", "du_vae"]
SEEDS = [1]
TRAINED = ("train", "evaluate", "probe", "samples")
PAGES = {"figure1", "report"}
"""The stages whose pages name the results of other parameters or other code than today's."""


def jobs(stage: str, dataset: str | None = None, setting: str | None = None) -> set[str]:
    figure1 = {("synthetic", s, 1) for s in config.FIGURE1_SETTINGS}
    run = {(d, s, n) for d in DATASETS for s in SETTINGS for n in SEEDS}

    return {f"{stage}@{d}-{s}-{n}" for d, s, n in figure1 | run if dataset in (None, d) and setting in (None, s)}


# ------------------------------------------------------------------- the dependencies of stages


def _body(stage: str) -> Mapping[str, Any]:
    return GRAPH["stages"][stage].get("do", GRAPH["stages"][stage])


def listed(stage: str, file: str = "params.yaml") -> list[str]:
    """The parameters from one file that a stage depends on."""
    found: list[str] = []
    for entry in _body(stage).get("params", []):
        if isinstance(entry, str):
            found += [entry] if file == "params.yaml" else []
        else:
            found += entry.get(file, [])

    return found


@pytest.mark.parametrize("stage", sorted(set(COMMANDS) - {"fingerprint", "own_files"}))
def test_a_stage_depends_on_the_code_of_its_kind(stage: str) -> None:
    module, by_system = fingerprint.KINDS[stage]

    assert COMMANDS[stage] == module
    own = f"{stage}.${{item.system}}" if by_system else stage
    compared = ["evaluate", "probe", "train"] if stage in PAGES else []
    assert listed(stage, "fingerprints.yaml") == sorted([own, *compared])
    assert not [path for path in _body(stage)["deps"] if path.startswith("src/")]


def test_every_fingerprint_belongs_to_a_stage() -> None:
    assert set(fingerprint.KINDS) == set(COMMANDS) - {"fingerprint", "own_files"}


def test_the_graph_is_short() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stages_lists_are_sorted_and_each_once(stage: str) -> None:
    names = [name for name in listed(stage) if "${" not in name]

    assert names == sorted(set(names))


def test_figure1_runs_over_its_settings() -> None:
    text = json.dumps(_body("figure1")["deps"])

    found = re.findall(rf"results/{config.FIGURE1_DATASET}/(\w+)/\$\{{figure1\.seed\}}", text)
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
    job_list.check(config.load(ROOT / "params.yaml"), ROOT / job_list.JOBS)


def test_jobs_are_the_union_each_once() -> None:
    params = parameters(datasets=["short_yelp", "synthetic", "short_yelp"], settings=["vae", "ae"], seeds=[2, 1])
    names = list(yaml.safe_load(job_list.render(params))["jobs"])

    assert len(names) == len(set(names))
    assert set(names) == {
        *(f"{d}-{s}-{n}" for d in ("short_yelp", "synthetic") for s in ("vae", "ae") for n in (1, 2)),
        *(f"synthetic-{s}-1" for s in config.FIGURE1_SETTINGS),
    }


def test_triples_without_the_data_sets_column_are_left_out() -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tiny.block(raw).update(datasets=["short_yelp", "synthetic"], settings=["vae", "odd"], seeds=[1])
    raw["settings"]["odd"] = {"system": "vae", "parts": {"init": "paper"}, "optimisation": {}, "columns": {"yelp": {}}}
    jobs = yaml.safe_load(job_list.render(config.parse(raw)))["jobs"]

    assert "short_yelp-odd-1" in jobs
    assert "synthetic-odd-1" not in jobs


def test_figure1_is_there_whatever_run_names() -> None:
    rows = yaml.safe_load(job_list.render(parameters(datasets=["short_yelp"], settings=["du_vae"], seeds=[7])))

    assert rows["sets"] == ["short_yelp", "synthetic"]
    assert rows["prepared"]["short_yelp"] == {
        "dataset": "short_yelp",
        "after": "data/raw/short_yelp",
        "to": "data/prepared/short_yelp",
    }
    assert rows["prepared"]["synthetic"]["after"] == job_list.FIRST
    assert rows["synthetics"] == ["synthetic"]
    assert rows["fetched"] == ["short_yelp"]
    assert rows["images"] == []
    assert {f"synthetic-{setting}-1" for setting in config.FIGURE1_SETTINGS} < set(rows["jobs"])
    assert rows["jobs"]["short_yelp-du_vae-7"] == {
        "dataset": "short_yelp",
        "setting": "du_vae",
        "system": "du_vae",
        "seed": 7,
        "column": "yelp",
        "key": "settings.du_vae",
        "after": job_list.FIRST,
    }


def test_a_missing_or_stale_list_is_told_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "pipelines" / "jobs.yaml"

    with pytest.raises(UserError, match=r"not there\. Run 'duvae graph'"):
        job_list.check(parameters(), path)
    assert job_list.write(parameters(), path)
    assert not job_list.write(parameters(), path)
    job_list.check(parameters(), path)
    with pytest.raises(UserError, match=r"out of date(.|\n)*\+ .*synthetic-vae-3(.|\n)*Run 'duvae graph'"):
        job_list.check(parameters(seeds=[1, 3]), path)


# ------------------------------------------------------------------- DVC itself, with stages that only pretend

FAKE = """\
#!{python}
import json, subprocess, sys, uuid
from pathlib import Path

if sys.argv[1] in {{"graph", "fingerprint", "own-files"}} or (sys.argv[1] == "fetch" and sys.argv[-1] == "reviews"):
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
    """A copy of the graph and the sources. Every stage except `graph` only writes its outputs, with new content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, as_it_is: bool = False, more: Sequence[str] = ()) -> "Workspace":
        """Creates a workspace with few data sets and settings, or with all of params.yaml if `as_it_is`.

        Args:
            folder: Folder of the workspace.
            as_it_is: Whether to keep all of params.yaml.
            more: Further data sets to keep, by name.
        """
        here = cls(folder)
        folder.mkdir()
        shutil.copytree(SRC, folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        here.dvc("init", "--no-scm", "--quiet")
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
        here.dvc("config", "core.no_scm", "true")
        if not as_it_is:
            here.change(lambda raw: tiny.block(raw).update(datasets=DATASETS, settings=SETTINGS, seeds=SEEDS))
            here.change(lambda raw: raw["figure1"].update(seed=1))
            here.change(lambda raw: tiny.keep(raw, [*DATASETS, *more], {*config.FIGURE1_SETTINGS, *SETTINGS}))
        here.duvae("graph")
        here.duvae("fingerprint")
        here.duvae("own-files")

        return here

    def copy(self, folder: Path) -> "Workspace":
        shutil.copytree(self.folder, folder)

        return Workspace(folder)

    def change(self, edit: Callable[[Any], object]) -> None:
        """Edits params.yaml and preserves its anchors."""
        file = YAML()
        raw = file.load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        edit(raw)
        with (self.folder / "params.yaml").open("w", encoding="utf-8") as opened:
            file.dump(raw, opened)

    def edit(self, path: str, before: str, after: str) -> None:
        """Replaces a text in a file, where it must occur once."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path}: {text.count(before)} times: {before}"
        file.write_text(text.replace(before, after), encoding="utf-8")

    def call(
        self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        bin_ = self.folder.parent / "bin"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": os.pathsep.join([str(bin_), os.environ["PATH"]]),
                "COLUMNS": "400",
                **(environment or {}),
            },
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
        """The command and the outputs of every stage that DVC sees, by the stage's name."""
        code = (
            "import json; from dvc.repo import Repo\n"
            "print(json.dumps({s.addressing: [s.cmd, [o.def_path for o in s.outs]] for s in Repo().index.stages}))"
        )

        return json.loads(self.call(sys.executable, "-c", code).stdout.splitlines()[-1])

    def pretend(self) -> None:
        """Installs a false `duvae` first on the path. It writes the outputs of the stage whose command it receives."""
        bin_ = self.folder.parent / "bin"
        bin_.mkdir(exist_ok=True)
        outs = bin_ / "outs.json"
        outs.write_text(json.dumps(dict(self.stages().values())), encoding="utf-8")
        fake = bin_ / "duvae"
        fake.write_text(FAKE.format(python=sys.executable, outs=str(outs)), encoding="utf-8")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)

    def repro(self, *targets: str) -> set[str]:
        """The stages that `dvc repro` ran, except the stage that runs every time."""
        return set(re.findall(r"Running stage '([^']+)'", self.dvc("repro", *targets).stdout)) - {"own_files"}

    def planned(self, *targets: str) -> list[str]:
        """The stages that a rebuild would run, in order."""
        environment = {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pipelines.rebuild", "--plan", "--verbose", "--devices", "cpu", *targets]
        said = self.call(*command, environment=environment).stdout

        return re.findall(r"^  (\S+@\S+)  ", said, re.MULTILINE)

    def stale(self) -> set[str]:
        """The stages that changed themselves. Stages after them and the stage that runs every time are left out."""
        from dvc.repo import Repo

        with contextlib.chdir(self.folder), Repo() as repo:
            return set(repo.status()) - {"own_files"}


def test_images_are_made_grey_and_then_bits(tmp_path: Path) -> None:
    """The chain of stages of an image data set, as DVC sees it. It exists only if `run` names the data set."""
    here = Workspace.create(tmp_path / "images", more=["omniglot_small"])
    before = here.stages()
    here.change(lambda raw: tiny.block(raw).update(datasets=["omniglot_small"], settings=["du_vae"]))
    here.duvae("graph")
    outs = {name: outs for name, (_, outs) in here.stages().items()}

    assert not any("omniglot" in name for name in before)
    assert {name for name in outs if name.endswith("@omniglot_small")} == {
        f"{stage}@omniglot_small" for stage in ("fetch", "prepare", "binarize", "validate")
    }
    assert outs["prepare@omniglot_small"] == ["data/grey/omniglot_small"]
    assert outs["binarize@omniglot_small"] == ["data/prepared/omniglot_small"]
    assert {f"{stage}@omniglot_small-du_vae-1" for stage in ("train", "evaluate", "probe", "samples")} <= set(outs)
    assert outs["samples@omniglot_small-du_vae-1"] == [
        "generated/omniglot_small/du_vae/1.npz",
        "results/omniglot_small/du_vae/samples/1.json",
        "results/omniglot_small/du_vae/samples/1.run.json",
    ]


def test_a_file_of_ones_own_is_looked_at_each_time(tmp_path: Path) -> None:
    """If the file has changed, its results are computed again; otherwise nothing is."""
    here = Workspace.create(tmp_path / "own", more=["short_yelp_small"])
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

    chain = {"fetch@reviews", "prepare@reviews"}
    copied = here.folder / "data/raw/reviews/corpora/reviews.txt"
    assert here.repro("prepare@reviews") == {"fingerprint", "graph", *chain}
    assert copied.read_bytes() == corpus.read_bytes()
    assert here.repro("prepare@reviews") == set()
    assert not chain & here.stale()
    dry = here.dvc("repro", "--dry", "prepare@reviews").stdout
    assert re.findall(r"Running stage '([^']+)'", dry) == ["own_files"]
    assert here.planned("prepare@reviews") == []

    corpus.write_text("good food\nbad food\nno food\n", encoding="utf-8")
    assert here.planned("prepare@reviews") == ["fetch@reviews", "prepare@reviews"]
    assert "fetch@reviews" in here.stale()
    assert here.repro("prepare@reviews") == chain
    assert copied.read_bytes() == corpus.read_bytes()
    corpus.unlink()
    here.duvae("own-files")
    assert "fetch@reviews" in here.stale()
    assert "no such file: corpora/reviews.txt" in here.dvc("repro", "prepare@reviews", check=False).stderr
    corpus.write_text("good food\nbad food\n", encoding="utf-8")
    assert here.repro("prepare@reviews") == set()  # both outputs come from the run cache
    assert copied.read_bytes() == corpus.read_bytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which all stages ran once: first those of Figure 1 alone, then the others."""
    here = Workspace.create(tmp_path_factory.mktemp("graph") / "built")
    here.pretend()
    figure1 = {
        "fingerprint",
        "graph",
        *(f"{stage}@synthetic" for stage in ("prepare", "validate", "truth")),
        *(f"{stage}@synthetic-{s}-1" for stage in ("train", "evaluate", "probe") for s in config.FIGURE1_SETTINGS),
        "figure1",
    }
    assert here.repro("figure1") == figure1
    assert here.repro() == set(here.stages()) - figure1 - {"own_files"}

    return here


@pytest.fixture
def workspace(built: Workspace, request: pytest.FixtureRequest) -> Workspace:
    """A copy of the built workspace, to be changed."""
    name = re.sub(r"\W+", "_", request.node.name)

    return built.copy(built.folder.parent / name)


def test_a_second_repro_does_nothing(built: Workspace) -> None:
    assert built.repro() == set()
    assert built.repro("figure1") == set()


def test_a_hyperparameter_reruns_its_setting_and_what_hangs_on_it(workspace: Workspace) -> None:
    workspace.change(lambda raw: raw["settings"]["du_vae"]["columns"]["synthetic"].update(p=0.25))

    wanted = {
        name for stage in ("train", "evaluate", "probe", "samples") for name in jobs(stage, "synthetic", "du_vae")
    }
    assert workspace.repro() == {"graph", *wanted, "figure1", "report"}


def test_a_template_reruns_the_pages_alone(workspace: Workspace) -> None:
    path = workspace.folder / "src/duvae/report/templates/figure1.html"
    path.write_text(path.read_text(encoding="utf-8") + "<!-- more -->", encoding="utf-8")

    assert workspace.repro() == {"fingerprint", "figure1", "report", "examples@short_yelp_resampled"}


def test_pages_are_made_anew_where_neither_the_cache_nor_the_data_are(workspace: Workspace) -> None:
    """A fresh clone has only what git keeps. No training may run for a page."""
    for folder in ("data", "models", "generated", ".dvc/cache"):
        shutil.rmtree(workspace.folder / folder)
    path = workspace.folder / "src/duvae/report/templates/figure1.html"
    path.write_text(path.read_text(encoding="utf-8") + "<!-- more -->", encoding="utf-8")

    done = workspace.dvc("repro", "--allow-missing", "report", "figure1")
    assert set(re.findall(r"Running stage '([^']+)'", done.stdout)) == {
        "fingerprint",
        "own_files",
        "figure1",
        "report",
    }


def test_a_change_of_run_trains_what_is_new_alone(workspace: Workspace) -> None:
    workspace.change(lambda raw: tiny.block(raw).update(settings=["vae", "du_vae", "bn_vae"]))
    workspace.duvae("graph")
    workspace.pretend()

    new = {"short_yelp_resampled-bn_vae-1"}  # the same setting on the synthetic data already belongs to Figure 1
    wanted = {f"{stage}@{name}" for stage in ("train", "evaluate", "probe", "samples") for name in new}
    assert workspace.repro() == {"graph", *wanted, "report", "examples@short_yelp_resampled"}


@pytest.mark.parametrize("targets", [[], ["figure1"], ["train@synthetic-vae-1"]])
def test_a_stale_list_stops_everything(workspace: Workspace, targets: list[str]) -> None:
    workspace.change(lambda raw: tiny.block(raw).update(seeds=[1, 3]))
    workspace.change(lambda raw: raw["settings"]["vae"]["parts"].update(init="torch"))

    done = workspace.dvc("repro", *targets, check=False)

    assert done.returncode != 0
    assert "out of date" in done.stderr
    assert "Run 'duvae graph'" in done.stderr
    assert re.findall(r"Running stage '([^']+)'", done.stdout)[-1] == "graph"


def test_a_data_set_that_is_gone_stops_everything(workspace: Workspace) -> None:
    def edit(raw: Any) -> None:
        tiny.block(raw)["datasets"] = ["synthetic"]
        del raw["datasets"][DATASETS[1]]

    workspace.change(edit)
    done = workspace.dvc("repro", check=False)

    assert done.returncode != 0
    assert "Run 'duvae graph'" in done.stderr
    assert re.findall(r"Running stage '([^']+)'", done.stdout)[-1] == "graph"


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (
            lambda raw: raw["settings"]["du_vae"]["columns"]["yelp"].update(p=0.7),
            {*jobs("train", DATASETS[1], "du_vae"), *PAGES},
        ),
        (lambda raw: raw["settings"]["du_vae"]["columns"]["omniglot"].update(p=0.7), PAGES),
        (lambda raw: raw["settings"]["vae"]["parts"].update(init="torch"), {*jobs("train", None, "vae"), *PAGES}),
        (
            lambda raw: raw["settings"]["vae"]["optimisation"].update(epochs=2),
            {*jobs("train", None, "vae"), "figure1", "report"},
        ),
        (
            lambda raw: raw["datasets"]["synthetic"]["networks"].update(hidden=60),
            {*jobs("train", "synthetic"), *PAGES},
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
        (lambda raw: raw["exact"].update(spacing=0.15), jobs("evaluate")),
        (lambda raw: raw["probe"].update(draws=7), jobs("probe")),
        (lambda raw: raw["generation"].update(rows=7), jobs("samples")),
        (
            lambda raw: raw["threads"] and raw.update(threads=2),
            {"truth@synthetic", *jobs("train"), *jobs("evaluate"), *jobs("probe"), *jobs("samples")},
        ),
    ],
)
def test_a_parameter_touches_the_stages_that_read_it(
    workspace: Workspace, edit: Callable[[Any], object], wanted: set[str]
) -> None:
    workspace.change(edit)

    assert workspace.stale() - {"graph"} == wanted


@pytest.mark.parametrize(
    ("path", "before", "after", "wanted"),
    [
        ("src/duvae/cli/__init__.py", "no_args_is_help=True", "no_args_is_help=False", set()),
        ("src/duvae/training/loop.py", "from duvae", "# A comment.\nfrom duvae", set()),
        ("src/duvae/data/data_docs.py", "", "", {f"validate@{name}" for name in DATASETS}),
        ("src/duvae/training/loop.py", "", "", {*jobs("train"), *PAGES}),
        ("src/duvae/metrics/likelihood.py", "", "", {*jobs("evaluate"), *PAGES}),
        ("src/duvae/metrics/probes.py", "", "", {*jobs("probe"), *PAGES}),
        ("src/duvae/networks/lstm.py", "", "", {n for stage in TRAINED for n in jobs(stage)} | PAGES),
        ("src/duvae/inference/generation.py", "", "", jobs("samples")),
        ("src/duvae/report/examples.py", "", "", {"report", "examples@short_yelp_resampled"}),
        ("src/duvae/commands/report.py", "", "", {"report"}),
        (
            "src/duvae/regularizers.py",
            "class VarianceDropout(Staged):",
            "class VarianceDropout(Staged):\n    more = 1\n",
            {n for stage in TRAINED for n in jobs(stage, None, "du_vae")} | PAGES,
        ),
    ],
)
def test_a_change_of_code_touches_the_stages_that_it_can_change(
    workspace: Workspace, path: str, before: str, after: str, wanted: set[str]
) -> None:
    """If there is no text to replace, the module gets one more statement, which runs at import."""
    file = workspace.folder / path
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(before, after, 1) if before else f"{text}\nprint()\n", encoding="utf-8")
    workspace.duvae("fingerprint")

    assert workspace.stale() - {"fingerprint"} == wanted


RECORDED = """
import sys
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import dump_yaml
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta

entries = {}
for stage in Repo().index.stages:
    for each in [*stage.deps, *stage.outs]:
        if isinstance(each, ParamsDependency):
            each.save()
        else:
            each.hash_info, each.meta = HashInfo("md5", "0" * 32), Meta(size=1234567)
    entries[stage.name] = to_single_stage_lockfile(stage)
dump_yaml(sys.argv[1], {"schema": "2.0", "stages": entries})
"""
"""Writes the dvc.lock of a project in which all stages have run, with made-up hashes and sizes."""


def test_the_lock_of_the_projects_own_graph_does_not_grow(tmp_path: Path) -> None:
    """The lock has entries for all stages of `run` in params.yaml, and stays small."""
    here = Workspace.create(tmp_path / "whole", as_it_is=True)
    here.call(sys.executable, "-c", RECORDED, str(tmp_path / "dvc.lock"))

    assert set(yaml.safe_load((tmp_path / "dvc.lock").read_text(encoding="utf-8"))["stages"]) == set(here.stages())
    trainings = sum(name.startswith("train@") for name in here.stages())
    assert (tmp_path / "dvc.lock").stat().st_size <= 7_200 * trainings


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


@pytest.mark.parametrize("stage", ["train", "evaluate", "probe", "samples"])
def test_what_takes_long_is_found_again_in_the_run_cache(workspace: Workspace, stage: str) -> None:
    """A clone that shares the cache has neither the lock nor the outputs. Even so, no stage runs again."""
    (workspace.folder / "dvc.lock").unlink()
    for folder in ("models", "results"):
        shutil.rmtree(workspace.folder / folder)

    assert workspace.repro(f"{stage}@synthetic-vae-1") == {"fingerprint"}
