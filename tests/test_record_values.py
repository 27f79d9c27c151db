"""Values in the files of a result that no stage writes are errors that name the file and the value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import made_up
from duvae.errors import UserError
from duvae.project.provenance import unwrapped
from duvae.report import results, then_and_now

PARAMS = made_up.params(settings=["vae"])
(JOB, *_) = PARAMS.jobs()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up.project(tmp_path_factory.mktemp("sound"), PARAMS, [JOB], sentences=20)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A result without digests, as earlier versions wrote it, so that only the values tell that they are wrong."""
    target = tmp_path / "results" / JOB.folder
    target.mkdir(parents=True)
    for path in (sound / "results" / JOB.folder).iterdir():
        if path.suffix not in {".json", ".csv"}:
            continue
        content = path.read_text(encoding="utf-8")
        if path.name.endswith(".run.json"):
            content = json.dumps({**unwrapped(json.loads(content)), "outputs": {}, "digest": None})
        (target / path.name).write_text(content, encoding="utf-8")

    return target


def read(folder: Path) -> results.Result:
    return results.read(PARAMS, [JOB], folder.parents[len(JOB.folder.parts)])[0]


def replaced(value: Any, keys: str, new: Any) -> Any:
    """A JSON value in which the value at dotted keys is another one. The key `*` is the first key."""
    key, _, rest = keys.partition(".")
    key = next(iter(value)) if key == "*" else key

    return {**value, key: replaced(value[key], rest, new) if rest else new}


def test_the_made_up_result_is_sound(folder: Path) -> None:
    assert read(folder).row["seconds"] > 0


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("metrics.json", "nll", float("nan")),
        ("metrics.json", "perplexity", -1.0),
        ("metrics.json", "nll_stderr", -0.5),
        ("metrics.json", "au", -1),
        ("metrics.json", "epochs", 10**30),
        ("metrics.json", "best_epoch", -1),
        ("metrics.json", "hyperparameters", {"gamma": {"a": 1}}),
        ("metrics.json", "unseen", -1),
        ("metrics.json", "nll_unseen", [41.0]),
        ("metrics.json", "exact", []),
        ("metrics.json", "exact.sentences", -1),
        ("metrics.json", "exact.bias", None),
        ("metrics.json", "exact.curve", [{"samples": 1}]),
        ("metrics.json", "use", "0.5"),
        ("metrics.json", "use_stderr", -0.5),
        ("metrics.json", "kl_by_dimension", 0.5),
        ("metrics.json", "mean_variances", [0.5, -0.5]),
        ("probe.json", "by_labels.*.accuracy", 101.0),
        ("probe.json", "by_labels.*.accuracy", -1.0),
        ("probe.json", "by_labels.*.spread", None),
        ("probe.json", "by_labels.*.draws", []),
        ("probe.json", "largest_class", -1.0),
        ("probe.json", "by_labels", {"some": {"accuracy": 50.0, "spread": None, "draws": [50.0]}}),
        ("train.run.json", "wall_seconds", -5.0),
        ("train.run.json", "cpu_seconds", 1e300),
        ("train.run.json", "peak_memory_mib", -1),
        ("train.run.json", "threads", -1),
        ("train.run.json", "started", "0001-01-01T00:00:00"),
        ("train.run.json", "seconds_per_epoch", [float("inf")]),
        ("train.run.json", "seconds_per_epoch", ["one", "two"]),
        ("train.run.json", "seconds_per_epoch", 5),
        ("train.run.json", "parameters", "some"),
        ("train.run.json", "commit", 5),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, key: str, value: Any, folder: Path) -> None:
    path = folder / name
    path.write_text(json.dumps(replaced(json.loads(path.read_text(encoding="utf-8")), key, value)), encoding="utf-8")

    with pytest.raises(UserError) as error:
        read(folder)
    assert f"{path}: " in str(error.value)
    assert key.rpartition(".")[2] in str(error.value)
    assert "again." in str(error.value)


def column(name: str, value: str) -> Callable[[list[str]], list[str]]:
    """Writes a value into the first row of a table."""

    def changed(lines: list[str]) -> list[str]:
        cells = lines[1].split(",")
        cells[lines[0].split(",").index(name)] = value

        return [lines[0], ",".join(cells), *lines[2:]]

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (column("epoch", ""), "the number of an epoch in each row"),
        (column("epoch", "-1"), "the number of an epoch in each row"),
        (column("encoder_steps", "inf"), "finite numbers in encoder_steps"),
        (column("valid_loss", "-1e400"), "finite numbers in valid_loss"),
        (lambda lines: [lines[0], *reversed(lines[1:])], "the number of an epoch in each row, in rising order"),
        (lambda lines: [lines[0], *(f"{line},5" for line in lines[1:])], "as many cells in each row"),
    ],
)
def test_a_history_that_cannot_be_is_named(
    change: Callable[[list[str]], list[str]], message: str, folder: Path
) -> None:
    path = folder / "history.csv"
    path.write_text("\n".join(change(path.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")

    with pytest.raises(UserError) as error:
        read(folder)
    assert str(error.value).startswith(f"{path}: expected {message}")


@pytest.mark.parametrize("name", ["metrics.json", "train.run.json"])
def test_endless_nesting_is_no_traceback(name: str, folder: Path) -> None:
    (folder / name).write_text("[" * 100_000, encoding="utf-8")

    with pytest.raises(UserError, match="expected JSON; found lists in lists"):
        read(folder)


def test_a_broken_result_of_another_stage_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command compares the result with params.yaml after it has done its own work."""
    (folder / "metrics.json").write_text("[]", encoding="utf-8")
    then_and_now.warn(PARAMS, [JOB], folder.parents[len(JOB.folder.parts)])

    assert capsys.readouterr().err.startswith(f"warning: {folder / 'metrics.json'}: expected a mapping")


def test_models_with_the_same_change_share_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [JOB._replace(seed=seed) for seed in range(1, 7)]
    change = then_and_now.StageChange("models", "trained", "train", ("optimisation.epochs 50 (params.yaml: 120)",))
    other = change._replace(values=("optimisation.batch 8 (params.yaml: 32)",))
    monkeypatch.setattr(then_and_now, "_read_changes", lambda params, job, root: [other if job.seed == 3 else change])
    then_and_now.warn(PARAMS, jobs)
    first, second = capsys.readouterr().err.splitlines()
    names = [f"models/{job.folder.as_posix()}" for job in jobs]

    assert first.startswith(f"warning: {names[0]}, {names[1]}, {names[3]} and 2 more: were trained with ")
    assert first.endswith(
        "optimisation.epochs 50 (params.yaml: 120). What is shown belongs to these earlier values. Run 'dvc repro'."
    )
    assert second.startswith(f"warning: {names[2]}: was trained with optimisation.batch 8")
    assert "--seed 3' and the stages after it, or 'dvc repro'." in second
