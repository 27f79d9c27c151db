"""The package without its optional dependencies (extras).

The tests build a wheel, install it in a new virtual environment, and use it there.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

import family
from duvae import __main__, cli
from duvae.config import ImageNetworks
from duvae.data.splits import SPECIALS
from duvae.inference import model_files
from duvae.inference.model import load
from duvae.inference.model_files import Description

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODEL_PAGE = (ROOT / "docs/use-a-model.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = sorted(Requirement(line).name for line in PROJECT["dependencies"])
EXTRAS = sorted({Requirement(line).name for extra in PROJECT["optional-dependencies"].values() for line in extra})

UV = str(Path(sys.executable).with_name("uv"))
"""Path of uv, which `make environment` uses too. Its cache makes a second environment fast."""

WORDS = [*SPECIALS, "the", "food", "was", "good", ".", "never", "again", "!"]
SENTENCES = ["the food was good .", "never again !", "good food"]

USE = """
import json, sys
import numpy as np
from duvae.inference.model import load

for folder in sys.argv[3:]:
    model = load(folder)
    codes = model.encode(json.loads(sys.argv[1]) if model.size is None else np.load(sys.argv[2]))
    model.decode(codes.mean)
    model.generate(2)
    print(json.dumps([codes.mean.tolist(), codes.features.tolist()]))
"""


def call(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command without this process's Python path and virtual environment; returns the finished process."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment["UV_FIND_LINKS"] = os.environ.get("PIP_FIND_LINKS", "")

    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def run(python: str, code: str, *arguments: str, cwd: Path, without: Sequence[str] = ()) -> str:
    """Runs code with the interpreter `python`; returns the standard output.

    Args:
        python: Path of the interpreter.
        code: Python code to run.
        arguments: Command-line arguments for the code.
        cwd: Folder in which the code runs.
        without: Names of packages that the code cannot import.

    Raises:
        RuntimeError: The code ended with an error; the message is the code's error output.
    """
    hidden = f"import sys; sys.modules.update(dict.fromkeys({list(without)}))\n"
    done = call(python, "-I", "-c", hidden + code, *arguments, cwd=cwd)
    if done.returncode:
        raise RuntimeError(done.stderr)

    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Installs the wheel and its dependencies in a new virtual environment; returns the path of its interpreter.

    The dependencies have the versions of requirements.lock.
    """
    folder = tmp_path_factory.mktemp("package")
    found = str(folder / "venv/bin/python")
    lock = str(ROOT / "requirements.lock")
    build = call(UV, "build", "--wheel", "--out-dir", str(folder), "-b", lock, str(ROOT), cwd=folder)
    assert build.returncode == 0, build.stderr
    (wheel,) = folder.glob("*.whl")
    for command in (
        ("venv", "--python", sys.executable, str(folder / "venv")),
        ("pip", "install", "--python", found, "-c", lock, str(wheel)),
    ):
        done = call(UV, *command, cwd=folder)
        assert done.returncode == 0, done.stderr

    return found


def trained(folder: Path, system: str) -> Path:
    """Trains a model of sentences for a short time; returns its folder, which also holds the vocabulary."""
    training = family.training(system)
    training.run()
    folder = folder / "models/reviews" / system / "1"
    model_files.save(folder, training.model, family.trained(family.describe(system, dropout_in=0.5, dropout_out=0.5)))
    (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")

    return folder


def drawing(folder: Path, system: str) -> Path:
    """Saves a model of images with random weights; returns its folder."""
    described = family.describe(system)
    networks = ImageNetworks(
        size=28, channels=[8, 8], features=8, kernels=[7, 5, 3], width=8, feature_maps=2, latent=3
    ).model_dump()
    description = family.trained(Description(system, described.hyperparameters, described.parts, networks, 2))
    torch.manual_seed(1)
    model_files.save(folder / "image" / system, family.lively(description.build()[0]), description)

    return folder / "image" / system


def test_nothing_of_the_extras_is_installed(python: str, tmp_path: Path) -> None:
    code = "from importlib.metadata import distributions; print(*(d.metadata['Name'].lower() for d in distributions()))"
    installed = set(run(python, code, cwd=tmp_path).split())

    assert installed >= {"duvae", *BASE}
    # The extras list filelock and jinja2, but PyTorch needs them too.
    assert installed & set(EXTRAS) <= {"filelock", "jinja2"}


def test_the_regularizers_of_the_readme_need_torch_and_jaxtyping_alone(python: str, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    others = sorted({*BASE} - {"torch", "jaxtyping"})

    assert others
    assert run(python, snippet + "\nprint(mean.shape)", cwd=tmp_path, without=others).startswith("torch.Size([64, 32])")


def test_the_use_of_a_model_in_docs_runs(python: str, tmp_path: Path) -> None:
    snippet = re.findall(r"```py\n(.*?)```", MODEL_PAGE, re.DOTALL)[0]
    trained(tmp_path / "private/reviews", "du_vae")

    assert run(python, snippet + "\nprint(codes.features.shape)", cwd=tmp_path).endswith("\n(2, 3)\n")


def test_trained_models_load_and_encode_as_they_do_here(python: str, tmp_path: Path) -> None:
    folders = [*(trained(tmp_path, system) for system in ("delta_vae", "du_vae", "du_iaf"))]
    folders.append(drawing(tmp_path, "du_vae"))
    images = np.random.default_rng(1).random((3, 28, 28)).astype(np.float32).round()
    np.save(tmp_path / "images.npy", images)
    arguments = json.dumps(SENTENCES), str(tmp_path / "images.npy"), *map(str, folders)
    lines = run(python, USE, *arguments, cwd=tmp_path).splitlines()

    for folder, line in zip(folders, lines, strict=True):
        mean, features = json.loads(line)
        model = load(folder)
        codes = model.encode(SENTENCES if model.size is None else images)
        assert len(mean) == 3
        np.testing.assert_allclose(mean, codes.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(features, codes.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BASE)
def test_a_trained_model_needs_each_of_the_base_dependencies(name: str, python: str, tmp_path: Path) -> None:
    """A model cannot be used without any one of the listed dependencies. A needless dependency fails this test.

    The test above fails where the list lacks a dependency.
    """
    folder = drawing(tmp_path, "vae")

    with pytest.raises(RuntimeError, match=f"ModuleNotFoundError: .*{name}"):
        run(python, USE, "[]", "", str(folder), cwd=tmp_path, without=[name])


@pytest.mark.parametrize("command", [["bin/duvae"], ["bin/python", "-m", "duvae"]], ids=["duvae", "python -m duvae"])
def test_the_command_names_the_extra_that_it_needs(command: list[str], python: str, tmp_path: Path) -> None:
    program, *arguments = command
    done = call(str(Path(python).parents[1] / program), *arguments, "--help", cwd=tmp_path)

    assert done.returncode == 2
    assert re.fullmatch(r"error: the command 'duvae' needs the library 'typer', .*'duvae\[pipeline\]'.*\n", done.stderr)


@pytest.mark.parametrize(
    ("library", "extra"), [("not_there", "pipeline"), ("not_there.inside", "pipeline"), ("psycopg", "postgres")]
)
def test_a_library_that_is_missed_later_has_the_same_error(
    library: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setattr(cli, "main", lambda: missing(library))
    with pytest.raises(SystemExit) as leaving:
        __main__.main()

    assert leaving.value.code == 2
    assert (
        f"'{library.partition('.')[0]}', which is not installed. Install the extra '{extra}'" in capsys.readouterr().err
    )


@pytest.mark.parametrize("module", ["duvae.not_there", "json.not_there", "numpy.not_there"])
def test_a_module_that_no_extra_brings_is_no_mistake_of_the_user(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda: missing(module))
    with pytest.raises(ModuleNotFoundError, match=module):
        __main__.main()


def missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'", name=name)
