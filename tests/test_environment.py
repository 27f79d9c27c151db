"""The environment matches the lock. The library works without the packages that only rebuild the paper."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from duvae.cli import TELEMETRY_OFF

ROOT = Path(__file__).parents[1]

OURS = {"duvae", "pip"}
"""The project itself, and the tool with which Python comes."""

TORCHS_OWN = re.compile(r"nvidia-|cuda-|triton")
"""Packages that a CUDA build of torch installs."""


WITHOUT_HASH = {"torch": "Its builds (CPU, CUDA) are different files of the same version."}
"""Packages that the lock pins without hashes, each with the reason."""


def entries() -> list[tuple[Requirement, list[str]]]:
    """The packages in requirements.lock, for all platforms, each with the hashes of its files."""
    text = re.sub(r"^#.*\n", "", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.split(" --hash=") for line in text.replace("\\\n    ", "").splitlines()]

    return [(Requirement(name), [word.strip() for word in hashes]) for name, *hashes in lines]


def locked() -> dict[str, Version]:
    """The versions that requirements.lock pins on this machine."""
    pins = {}
    for requirement, _ in entries():
        if requirement.marker is None or requirement.marker.evaluate():
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", requirement
            pins[canonicalize_name(requirement.name)] = Version(specifier.version)

    return pins


def test_the_lock_has_a_hash_for_every_file_that_comes_from_the_registry() -> None:
    assert len(entries()) > 200
    for requirement, hashes in entries():
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", word) for word in hashes), requirement
        assert bool(hashes) is (requirement.name not in WITHOUT_HASH), requirement
    comments = re.findall(r"^#.*", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    for name in WITHOUT_HASH:
        assert any(name in line for line in comments), f"the lock gives no reason why {name} has no hash"


def test_what_is_installed_is_pinned_at_that_version() -> None:
    pins = locked()
    installed = {canonicalize_name(d.metadata["Name"]): Version(d.version) for d in distributions()}
    wrong = {
        name: f"{version} installed, {pins.get(name)} in requirements.lock"
        for name, version in installed.items()
        if name not in OURS
        and not TORCHS_OWN.match(name)
        # A build of torch has a local version such as +cpu, which no pin has.
        and (pins.get(name) is None or pins[name].public != version.public)
    }

    assert not wrong


def test_every_direct_dependency_is_in_the_lock() -> None:
    """Also the tools that install the project: `uv pip install` takes the versions and hashes of the lock for them."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, pins = described["project"], locked()
    groups = [*project["optional-dependencies"].values(), *described["dependency-groups"].values()]
    for line in [
        *described["build-system"]["requires"],
        *project["dependencies"],
        *(x for extra in groups for x in extra),
    ]:
        requirement = Requirement(line)
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, line


def test_the_regularizers_need_the_libraries_own_dependencies_alone() -> None:
    """A user who installs duvae without its extras can use the regularizers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = [canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"]["pipeline"]]
    code = "import sys, duvae.regularizers, duvae.posteriors; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)

    assert not {name.replace("-", "_") for name in extra} & set(done.stdout.split())


def test_the_makefile_explains_itself() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert targets
    for target in targets:
        assert f"make {target} " in done.stdout


def test_what_is_typed_by_hand_in_the_environment_does_not_report_home_either() -> None:
    bare = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF}
    command = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    seen = json.loads(subprocess.run(command, env=bare, capture_output=True, text=True, check=True).stdout)

    assert {name: seen.get(name) for name in TELEMETRY_OFF} == TELEMETRY_OFF


@pytest.mark.parametrize(("made_in", "anew"), [("/another/place", True), ("", False)])
def test_an_environment_that_was_moved_is_made_anew(tmp_path: Path, made_in: str, anew: bool) -> None:
    """The programs in .venv begin with the path of its Python. After a move they would not run."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/duvae").write_text(f"#!{made_in or tmp_path.resolve()}/.venv/bin/python\n")
    (tmp_path / ".venv/.installed").touch()
    command = ["make", "--dry-run", "environment"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)

    assert ("rm -rf .venv" in done.stdout) is anew
    assert ("Installing the environment" in done.stdout) is anew
