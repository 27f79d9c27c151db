"""`make environment` installs only files with the hashes of the lock.

The tests run the project's Makefile in a small project of their own, without a network: a folder of wheels takes the
place of the package registry.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pip

from test_environment import ROOT, locked

PROJECT = '''
[build-system]
requires = ["backend"]
build-backend = "backend"

[project]
name = "duvae"
version = "1"
description = """{}"""
'''

BACKEND = """
import pathlib, shutil

def build_editable(folder, settings=None, metadata=None):
    (wheel,) = pathlib.Path().glob("*.whl")
    return shutil.copy(wheel, folder).rpartition("/")[2]

build_wheel = build_editable
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes], needs: str = "") -> str:
    """Writes a wheel into a folder; returns the SHA-256 hash of the wheel.

    Args:
        folder: Folder for the wheel.
        name: Name of the package.
        version: Version of the package.
        files: Content of each file of the package, by its path in the wheel.
        needs: Lines of the metadata that name the package's dependencies.
    """
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: hashlib.sha256(content).digest() for path, content in files.items()}
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},{len(files[path])}\n"
        for path, digest in digests.items()
    )
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**files, f"{info}/RECORD": record.encode()}.items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = 0o100755 << 16  # an executable file
            archive.writestr(entry, content)
    os.utime(path, (1, 1))  # uv takes a wheel with another time of change for another wheel

    return hashlib.sha256(path.read_bytes()).hexdigest()


def source(folder: Path, name: str, build: str) -> str:
    """Writes a source distribution of version 1 into a folder; returns the SHA-256 hash of its file.

    Args:
        folder: Folder for the source distribution.
        name: Name of the package.
        build: Content of the package's pyproject.toml, whose build backend copies the wheel in the distribution.
    """
    inside = folder.parent / f"{name}-1"
    inside.mkdir()
    wheel(inside, name, "1", {f"{name}.py": b""})
    (inside / "pyproject.toml").write_text(build, encoding="utf-8")
    (inside / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", encoding="utf-8")
    path = folder / f"{name}-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(inside, inside.name)

    return hashlib.sha256(path.read_bytes()).hexdigest()


class Project:
    """A small project with the Makefile of this project.

    Attributes:
        folder: Folder of the project.
        hashes: SHA-256 hashes of the wheels, by package.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uv = str(locked()["uv"])
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", folder)
        # A fast form of `python -m venv .venv`, with the pip of this environment.
        venv.create(folder / ".venv", symlinks=True)
        (packages,) = folder.glob(".venv/lib/python*/site-packages")
        for path in Path(pip.__file__).parents[1].glob("pip*"):
            (packages / path.name).symlink_to(path)
        self.describe("Requires-Dist: alpha\n")
        uv = Path(sys.executable).with_name("uv").read_bytes()
        self.hashes = {
            "alpha": wheel(wheels, "alpha", "1", {"alpha.py": b""}),
            "backend": wheel(wheels, "backend", "1", {"backend.py": BACKEND.encode()}),
            "built": source(wheels, "built", PROJECT.replace("duvae", "built").format("")),
            "uv": wheel(wheels, "uv", self.uv, {f"uv-{self.uv}.data/scripts/uv": uv}),
        }
        wheel(wheels, "torch", "2", {"torch.py": b""})

    def describe(self, needs: str) -> None:
        """Writes the project itself, as a wheel for its build backend; `needs`: lines that name its dependencies."""
        (self.folder / "pyproject.toml").write_text(PROJECT.format(needs), encoding="utf-8")
        files = {"duvae.pth": b"", "duvae-1.data/scripts/duvae": b"#!python\n"}
        wheel(self.folder, "duvae", "1", files, needs)

    def make(self, **hashes: str) -> subprocess.CompletedProcess[str]:
        """Runs `make environment` with a lock.

        Args:
            hashes: Hashes in the lock that differ from those of the wheels, by package; empty text: no hash.
        """
        lines = [
            f"{name}=={self.uv if name == 'uv' else 1}" + (f" \\\n    --hash=sha256:{hash_}\n" if hash_ else "\n")
            for name, hash_ in {**self.hashes, **hashes}.items()
        ]
        (self.folder / "requirements.lock").write_text("".join(["# a comment\ntorch==2\n", *lines]), encoding="utf-8")
        wheels = str(self.folder / "wheels")
        environment = {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.base_exec_prefix) / 'bin'}:/usr/bin:/bin",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": wheels,
            "PIP_NO_INDEX": "1",
            "UV_CACHE_DIR": str(self.folder / "cache"),
            "UV_OFFLINE": "1",
        }

        return subprocess.run(
            ["make", "environment"],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def installed(self) -> set[str]:
        """The names of the packages in .venv, except pip."""
        return {path.name.partition("-")[0] for path in self.folder.glob(".venv/lib/*/*/*.dist-info")} - {"pip"}


def test_only_files_with_the_hashes_of_the_lock_are_installed(tmp_path: Path) -> None:
    project, complete = Project(tmp_path), tmp_path / ".venv/.installed"
    # The lock has an older version, with which alone the project and the package `built` can be built.
    wheel(tmp_path / "wheels", "backend", "2", {"backend.py": b"raise ImportError('not the version of the lock')"})
    wrong = "0" * 64
    cases: tuple[tuple[str, str, set[str]], ...] = (
        ("uv", wrong, set()),
        ("uv", "", set()),
        ("alpha", wrong, {"uv"}),
        ("backend", "", {"uv"}),
    )
    for name, hash_, before in cases:
        done = project.make(**{name: hash_})
        assert done.returncode == 2
        assert name in done.stderr
        assert wrong in done.stderr if hash_ else "hash" in done.stderr
        assert project.installed() == before  # pip installs uv, uv all others
        assert not complete.exists()

    done = project.make()
    assert done.returncode == 0, done.stderr
    assert project.installed() == {"alpha", "backend", "built", "duvae", "torch", "uv"}
    assert complete.exists()

    # The packages of the lock are installed without a look at what they need, so a check follows.
    complete.unlink()
    project.describe("Requires-Dist: alpha>=2\n")
    done = project.make()
    assert done.returncode == 2
    assert "alpha>=2" in done.stderr
    assert "Run 'make clean'" in done.stderr
    assert not complete.exists()


def test_a_build_of_torch_changes_no_version_of_the_lock(tmp_path: Path) -> None:
    """torch has no hash. What it needs must not bring in files without a hash in place of those of the lock."""
    project = Project(tmp_path)
    wheel(tmp_path / "wheels", "alpha", "2", {"alpha.py": b""})
    wheel(tmp_path / "wheels", "torch", "2", {"torch.py": b""}, "Requires-Dist: alpha>=2\n")
    done = project.make()

    assert done.returncode == 2
    assert "torch==2 depends on alpha>=2" in done.stderr
    assert project.installed() == {"alpha", "backend", "built", "uv"}
    assert not (tmp_path / ".venv/.installed").exists()
