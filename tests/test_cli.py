"""The command line: help, examples, exit codes, and the modules that it must not import."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from duvae import cli
from duvae.cli import dispatch, topics

ROOT = Path(__file__).parents[1]
STAGES = [
    *("graph", "fetch", "prepare", "validate", "truth", "train", "evaluate", "probe", "figure1", "report", "track"),
    *("demo", "systems", "doctor", "generate", "interpolate", "reconstruct", "encode", "parameters"),
]
JOB = ["--dataset", "synthetic", "--setting", "vae", "--seed", "1"]
PICTURES = ["--dataset", "omniglot", "--setting", "vae", "--seed", "1"]
HEAVY = {"torch", "mlflow", "great_expectations", "sklearn", "matplotlib", "pandas", "pyarrow", "dvc", "optuna"}


def duvae(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["duvae", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs `duvae ...` in this process; returns the exit code."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["duvae", *arguments])
    with pytest.raises(SystemExit) as leaving:
        cli.main()

    return int(leaving.value.code or 0)


def test_every_stage_is_a_command() -> None:
    assert set(get_command(cli.app).commands) >= set(STAGES)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", STAGES)
def test_help_shows_examples(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, command, "--help") == 0

    output = capsys.readouterr().out
    examples = output.partition("Examples:")[2]
    assert f"    duvae {command}" in examples
    assert "--params PATH" in output


@pytest.mark.parametrize("command", STAGES)
def test_examples_are_commands_that_exist(command: str) -> None:
    epilog = get_command(cli.app).commands[command].epilog  # type: ignore[attr-defined]
    for line in epilog.partition("\b\n")[2].splitlines():
        words = [word for word in line.split() if "=" not in word]
        if words[0] != "duvae":
            continue
        options = {
            name
            for parameter in get_command(cli.app).commands[words[1]].params  # type: ignore[attr-defined]
            for name in parameter.opts
        }
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("columns", ["100", "80", "60"])
def test_the_whole_help_is_plain_and_complete(columns: str) -> None:
    done = duvae("--help", COLUMNS=columns)
    listed = " ".join(done.stdout.partition("Options:")[2].split())

    assert done.returncode == 0
    assert max(map(len, done.stdout.partition("Examples:")[0].splitlines())) <= int(columns)
    assert done.stdout.isascii()
    for name, command in get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        assert f"\n  {name} " in done.stdout
        first, _, rest = " ".join(command.help.partition("\n\n")[0].split()).partition(". ")
        assert f" {name} {first}{'.' if rest else ''}" in listed, "a summary was cut off"
        assert first.endswith(".") or rest


def test_every_command_has_one_topic() -> None:
    """`duvae --help` lists the commands under the headings of `TOPICS`, and each command once."""
    output = duvae("--help").stdout
    listed = [name for members in topics.TOPICS.values() for name in members]

    assert sorted(listed) == sorted(get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert re.findall(r"^([A-Z][A-Za-z ]*):$", output, re.MULTILINE) == ["Options", *topics.TOPICS]
    assert re.findall(r"^  ([a-z][\w-]*) ", output.partition("Options:")[2], re.MULTILINE) == listed


def test_a_command_without_a_topic_comes_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(topics.TOPICS, "Explore", ("doctor", "systems"))

    assert call(monkeypatch, "--help") == 0
    assert re.search(rf"^{topics.OTHER}:\n  results ", capsys.readouterr().out, re.MULTILINE)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from duvae.cli import main\n"
        "sys.argv = ['duvae', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}

    assert not loaded & (HEAVY | {"pydantic", "yaml", "numpy"})


def test_a_mistake_is_found_before_anything_heavy_is_imported() -> None:
    code = (
        "import json, sys\n"
        "from duvae.cli import main\n"
        "sys.argv = ['duvae', 'train', '--dataset', 'synthetic', '--setting', 'du_va', '--seed', '1']\n"
        "try:\n    main()\n"
        "except SystemExit as leaving:\n    print(json.dumps([leaving.code, *sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    exit_code, *modules = json.loads(done.stdout.splitlines()[-1])

    assert exit_code == 2
    assert done.stderr.startswith("error: params.yaml: unknown setting 'du_va' (did you mean 'du_vae'?)")
    assert not {name.split(".")[0] for name in modules} & HEAVY


def test_version() -> None:
    done = duvae("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("duvae 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "synthetik", "--setting", "vae", "--seed", "1"], "did you mean 'synthetic'?"),
        (["train", "--dataset", "synthetic", "--setting", "vae", "--seed", "-1"], "--seed"),
        (["train", "--dataset", "synthetic", "--setting", "vae"], "Missing option '--seed'"),
        (["prepare", "--dataset", "synthetik"], "did you mean 'synthetic'?"),
        (["truth", "--dataset", "short_yelp"], "only data sets of the kind 'synthetic'"),
        (["graph", "--params", "nowhere.yaml"], "nowhere.yaml: not there"),
        (["systems", "du_va"], "unknown system 'du_va' (did you mean 'du_vae'?)"),
        (["trane"], "No such command 'trane'"),
        (["generate", *JOB, "--temperature", "0"], "--temperature: expected a number from 0.001 to 1000.0; found 0.0"),
        (["generate", *JOB, "--temperature", "0.5", "--likely"], "--temperature, --likely: expected one of them"),
        (["generate", *JOB, "--top-p", "0"], "--top-p: expected a share above 0, and at most 1; found 0.0"),
        (["interpolate", *JOB, "--beams", "3", "--top-p", "0.9"], "--top-p, --beams: expected one of them"),
        (["reconstruct", *JOB, "--beams", "3", "--temperature", "1"], "--temperature, --beams: expected one of them"),
        (["generate", *PICTURES, "--no-unknown"], "--no-unknown: expected only for models of texts"),
        (["interpolate", *JOB, "--from", "the food"], "--from, --to: expected both"),
        (["reconstruct", *JOB, "--sentence", "a", "--input", "b.txt"], "--sentence, --input: expected one of them"),
        (["encode", *JOB, "--input", "x", "--ink", "red"], "--ink red: expected dark or light"),
        (["graph", "--chek"], "error: duvae graph: No such option: --chek"),
        (["systems", "ae", "vae"], "error: duvae systems: Got unexpected extra argument"),
        (["results", "--format", "x"], "'duvae results --help' explains the options."),
    ],
)
def test_a_mistake_ends_with_2_and_no_traceback(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["rebuild", "figure1", "parallel_study", "mlflow_ui", "prefect_server"])
def test_errors_of_the_programs_begin_in_the_same_way(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{name}", "--nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: python -m pipelines.{name}: ")
    assert len(done.stderr.splitlines()) == 1
    assert "--nothing" in done.stderr or "--study" in done.stderr


def test_an_interruption_ends_with_130_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatch, "run", interrupted)

    assert call(monkeypatch, "graph") == 130
    assert capsys.readouterr().err.startswith("interrupted: ")


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dispatch, "run", broken)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["duvae", "graph"])

    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_no_library_reports_home(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    for name in cli.TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dispatch, "run", lambda *_, **__: environment.update(os.environ))

    assert call(monkeypatch, "graph") == 0
    assert {name: environment.get(name) for name in cli.TELEMETRY_OFF} == cli.TELEMETRY_OFF


@pytest.mark.parametrize("stage", STAGES)
def test_arguments_fit_the_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments that a command passes fit the parameters of the stage's function."""
    calls = []
    monkeypatch.setattr(dispatch, "run", lambda name, *args, **options: calls.append((name, args, options)))
    dataset = ["--dataset", "synthetic"]
    job = [*dataset, "--setting", "vae", "--seed", "1"]
    options = {"prepare": dataset, "validate": dataset, "truth": dataset, "train": job, "evaluate": job, "probe": job}
    options["fetch"] = ["--dataset", "short_yelp", "--mirror", "somewhere"]

    options |= dict.fromkeys(("generate", "interpolate", "reconstruct"), job)
    options["encode"] = [*job, "--input", "new.txt"]

    assert call(monkeypatch, stage, *options.get(stage, [])) == 0
    ((name, args, keywords),) = calls
    assert name == stage
    inspect.signature(importlib.import_module(f"duvae.commands.{name}").run).bind(*args, **keywords)
