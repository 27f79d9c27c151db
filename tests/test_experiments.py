"""The recipe of docs/rebuild.md for experiments of DVC, in a small project whose trainings are short shell commands."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

import tiny
from duvae import config
from duvae.project import fingerprint, job_list, private
from small_project import call, commit

ROOT = Path(__file__).parents[1]

PAGE = (ROOT / "docs" / "rebuild.md").read_text(encoding="utf-8")

JOB = "synthetic/du_vae/1"

DUVAE = f"""#!/bin/sh
write() {{ {sys.executable} -c "
import json, sys, yaml
columns = yaml.safe_load(open('params.yaml'))['settings']['du_vae']['columns']
json.dump({{'p': columns['synthetic']['p']}}, open(sys.argv[1], 'w'))" "$1"; }}
mkdir -p data/prepared/synthetic data/validated reports/data_docs/synthetic models/{JOB} results/{JOB}
case "$1" in
    prepare) echo sentences > data/prepared/synthetic/train ;;
    validate) echo "{{}}" > data/validated/synthetic.json; echo fine > reports/data_docs/synthetic/index.html ;;
    train)
        write results/{JOB}/train.run.json
        cp results/{JOB}/train.run.json models/{JOB}/weights
        printf 'epoch,valid_loss\\n1,2\\n' > results/{JOB}/history.csv ;;
    evaluate)
        for name in metrics evaluate.run per_example; do write results/{JOB}/$name.json; done ;;
    *) exec {sys.executable} -m duvae "$@" ;;
esac
"""
"""Stands for `duvae`: the stages of the graph are real, and those that take long write small files."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project in git with the stages of the real one and a single training."""
    raw = tiny.small()
    tiny.keep(raw, ["synthetic"], ["du_vae"])
    raw.update(figure1=None, run={"datasets": ["synthetic"], "settings": ["du_vae"], "seeds": [1]})
    folder, programs = tmp_path / "project", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    (programs / "duvae").write_text(DUVAE)
    (programs / "duvae").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))
    for name, value in (("NAME", "a"), ("EMAIL", "a@b")):
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_{name}", value)
    (folder / "params.yaml").write_text("# My values.\n" + yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    (folder / "dvc.yaml").write_text(private.stages((ROOT / "dvc.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    job_list.write(config.load(folder / "params.yaml"), folder / job_list.JOBS)
    fingerprint.write(folder)
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    commit(folder)

    return folder


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_recipe_of_the_page(project: Path) -> None:
    block = re.search(r"```sh\n(dvc exp run .*?)```", PAGE, re.DOTALL)
    assert block is not None
    run, show, branch, remove = (line.partition("  #")[0].split() for line in block[1].splitlines())
    before = (project / "params.yaml").read_bytes()
    raw = read(project / "params.yaml")

    call(project, *run)
    assert (project / "params.yaml").read_bytes() == before
    assert call(project, "git", "status", "--porcelain").stdout == ""
    lines = call(project, *show).stdout
    assert re.search(r"p08.*0\.8", lines), lines

    # The same value in the user's own file: the results come from the run cache.
    (project / "params.yaml").write_bytes(before.replace(b"p: 0.5", b"p: 0.8"))
    assert read(project / "params.yaml") != raw
    call(project, "duvae", "graph")
    lines = call(project, "dvc", "repro", run[-1]).stdout.splitlines()
    assert not [line for line in lines if line.startswith(("> duvae train", "> duvae evaluate"))]
    assert json.loads((project / "results" / JOB / "metrics.json").read_text()) == {"p": 0.8}
    call(project, "git", "stash", "--include-untracked")

    call(project, *branch)
    call(project, *remove)
    call(project, "git", "checkout", branch[-1])
    assert json.loads((project / "results" / JOB / "metrics.json").read_text()) == {"p": 0.8}
    raw["settings"]["du_vae"]["columns"]["synthetic"]["p"] = 0.8
    assert read(project / "params.yaml") == raw
    assert "p08" not in call(project, "dvc", "exp", "list").stdout


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("settings.du_vae.columns.synthetic.p=0.8", ["settings.du_vae.columns.synthetic.p"]),
        ("threads=2", ["threads"]),
        ("datasets.synthetic.optimisation.epochs=5", []),
    ],
)
def test_the_page_says_which_values_can_be_changed(change: str, changed: list[str], tmp_path: Path) -> None:
    """The last value has an anchor, which other data sets share."""
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, [change])
    before, after = flat(read(ROOT / "params.yaml")), flat(read(path))

    assert [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)] == changed
    if not changed:
        assert f"`-S {change}`" in PAGE


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """The values of nested mappings, by their keys with dots between the parts."""
    if not isinstance(value, dict):
        return {key: value}

    return {
        name: leaf for part, each in value.items() for name, leaf in flat(each, f"{key}.{part}".lstrip(".")).items()
    }
