"""dvc.yaml lists exactly the parameters that each stage reads.

Each stage runs once at a small size, and a `Recorder` notes the keys of params.yaml that the stage reads.
"""

import os
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import made_up
from duvae import config
from duvae.report import study_text
from tiny import own, pictures, small

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
JOB = config.Job("synthetic", "du_vae", 1, "synthetic")


class Recorder:
    """Stands for an object of the parameters, and records which keys are read from the object."""

    def __init__(self, value: Any, path: str, read: set[str]) -> None:
        self.__dict__.update(_value=value, _path=path, _read=read)

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return type(self._value)

    def _of(self, value: Any, key: str) -> Any:
        path = f"{self._path}.{key}".lstrip(".")
        if isinstance(value, config.Frozen) or (isinstance(value, dict) and _holds_objects(value)):
            return Recorder(value, path, self._read)
        self._read.add(path)

        return value

    def __getattr__(self, name: str) -> Any:
        if isinstance(self._value, dict):
            return getattr(self._value, name)
        if name in type(self._value).model_fields:
            return self._of(getattr(self._value, name), name)
        found = getattr(type(self._value), name)
        if isinstance(found, property):
            return found.fget(self)
        if name.startswith("model_"):
            self._read.add(self._path)
            return getattr(self._value, name)

        return types.MethodType(found, self)

    def __getitem__(self, key: str) -> Any:
        return self._of(self._value[key], key)

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)


def _holds_objects(mapping: dict[str, Any]) -> bool:
    return any(isinstance(value, config.Frozen) for value in mapping.values())


def read_by(stage: str, folder: Path, *arguments: Any, params: config.Params | None = None) -> set[str]:
    """Runs a stage in `folder`; returns the keys of params.yaml that the stage reads."""
    params = params or config.parse(small())
    read: set[str] = set()
    before = Path.cwd()
    os.chdir(folder)
    try:
        import_module(f"duvae.commands.{stage}").run(Recorder(params, "", read), *arguments)
    finally:
        os.chdir(before)

    return read


def of_params(entries: list[Any]) -> list[str]:
    """Those entries of a stage's list `params` in dvc.yaml that are keys of params.yaml.

    An entry that is a mapping instead names another file and keys of that file.
    """
    return [entry for entry in entries if isinstance(entry, str)]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    folder = tmp_path_factory.mktemp("project")
    own(folder)
    pictures(folder)
    data, job = (JOB.dataset,), (JOB.dataset, JOB.setting, JOB.seed)

    return {
        "fetch": read_by("fetch", folder, "own") | read_by("fetch", folder, "pictures"),
        "prepare": read_by("prepare", folder, "own")
        | read_by("prepare", folder, *data)
        | read_by("prepare", folder, "pictures"),
        "binarize": read_by("binarize", folder, "pictures"),
        "validate": read_by("validate", folder, *data)
        | read_by("validate", folder, "own")
        | read_by("validate", folder, "pictures"),
        "truth": read_by("truth", folder, *data),
        "train": read_by("train", folder, *job),
        "evaluate": read_by("evaluate", folder, *job),
        "probe": read_by("probe", folder, *job),
        "samples": read_by("samples", folder, *job),
    }


@pytest.mark.parametrize(
    "stage",
    [
        "fetch",
        "prepare",
        "binarize",
        "validate",
        "truth",
        "train",
        "evaluate",
        "probe",
        "samples",
    ],
)
def test_a_stage_lists_the_parameters_it_reads(stage: str, read: dict[str, set[str]]) -> None:
    listed = set()
    for entry in of_params(STAGES[stage]["do"]["params"]):
        for name, value in {**JOB._asdict(), "key": f"settings.{JOB.setting}"}.items():
            entry = entry.replace(f"${{item.{name}}}", str(value))  # noqa: PLW2901
        listed.add(entry.replace("${item}", JOB.dataset))
    entries = [entry for entry in STAGES[stage]["do"]["params"] if not isinstance(entry, str)]
    if any(f"{stage}.${{item.system}}" in entry.get("fingerprints.yaml", []) for entry in entries):
        listed |= {f"settings.{JOB.setting}.system"}  # part of the key in fingerprints.yaml
    listed |= {"checkpoint_seconds"} & read[stage]  # changes no result, so dvc.yaml omits it
    # The key `column` is left out: dvc.yaml does not list it, since the items of its `foreach` hold it.
    found = {
        path.replace("datasets.own.", "datasets.synthetic.").replace("datasets.pictures.", "datasets.synthetic.")
        for path in read[stage]
        if path[-7:] != ".column"
    }
    listed -= {"datasets.synthetic.kind"} - found  # the kind only chooses a class of parameters

    assert {path for path in found if not any(f"{path}.".startswith(f"{entry}.") for entry in listed)} == set()
    assert {entry for entry in listed if not any(f"{path}.".startswith(f"{entry}.") for path in found)} == set()


def test_the_page_of_a_study_lists_the_parameters_it_reads() -> None:
    params, read = config.load(ROOT / "params.yaml"), set[str]()
    study = params.study("synthetic_grid")
    summary = {
        "study": "synthetic_grid",
        **study.model_dump(include={"dataset", "setting", "seeds", "sampler", "min_mi"}),
    }
    summary |= dict.fromkeys(("epochs_of_a_training", "warmup", "importance_samples"), 0)
    assert study_text.earlier_lines(summary, Recorder(params, "", read))
    names = {"dataset": study.dataset, "key": f"settings.{study.setting}", "study": "synthetic_grid"}
    listed = set(of_params(STAGES["figure2"]["do"]["params"]))
    for name, value in names.items():
        listed = {entry.replace(f"${{item.{name}}}", value) for entry in listed}

    assert {path for path in read if not any(f"{path}.".startswith(f"{entry}.") for entry in listed)} == set()
    assert {entry for entry in listed if not any(f"{path}.".startswith(f"{entry}.") for path in read)} == set()


@pytest.mark.parametrize(
    ("stage", "arguments"), [("figure1", ()), ("report", ()), ("examples", ("short_yelp_resampled",))]
)
def test_a_page_lists_the_parameters_it_reads(stage: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    params = (
        made_up.params(datasets=["synthetic", "short_yelp_resampled"])
        if arguments
        else config.load(ROOT / "params.yaml")
    )
    made_up.project(tmp_path, params)
    found = {path for path in read_by(stage, tmp_path, *arguments, params=params) if path[-7:] != ".column"}
    entries = of_params(STAGES[stage].get("do", STAGES[stage])["params"])
    listed = {entry.replace("${item}", *arguments) if arguments else entry for entry in entries}
    if isinstance(params.run, config.Run):
        listed -= {"runs"}  # the stage reads `runs` only if `run` is a name

    assert {path for path in found if not any(f"{path}.".startswith(f"{entry}.") for entry in listed)} == set()
    assert {entry for entry in listed if not any(f"{path}.".startswith(f"{entry}.") for path in found)} == set()
