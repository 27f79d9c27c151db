"""Compares the installed packages with those that duvae requires, and with the versions of requirements.lock."""

import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

PIN = re.compile(r"^([\w.-]+)==([^\s;]+)[ \t]*(;?)", re.MULTILINE)
"""A line of the lock: `name==version`, perhaps with a marker after `;`, such as `sys_platform == 'win32'`."""


def missing() -> list[str]:
    """Names of the packages that duvae and its extra `pipeline` require and that are not installed."""
    lines = [line for line in requires("duvae") or [] if "extra ==" not in line or "pipeline" in line.split("extra")[1]]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]

    return [name for name in names if not installed_version(name)]


def compare(lock: Path) -> tuple[int, list[str]]:
    """Compares the installed versions with those of a lock.

    A marker says which platforms or versions of Python need a package. So a package with a marker may be missing, and
    may have several lines with different versions.

    Args:
        lock: Path of the file requirements.lock.

    Returns:
        The number of packages that were compared, and a text such as `numpy 2.4.6 (2.4.5 in the lock)` for each whose
        installed version is none of the lock's.
    """
    versions: dict[str, list[str]] = {}
    everywhere = set()
    for name, pin, marker in PIN.findall(lock.read_text(encoding="utf-8")):
        versions.setdefault(name, []).append(pin)
        if not marker:
            everywhere.add(name)
    actual = {name: installed_version(name) for name in versions}
    compared = [name for name in versions if name in everywhere or actual[name]]
    others = [
        f"{name} {actual[name] or 'missing'} ({' or '.join(versions[name])} in the lock)"
        for name in compared
        if actual[name] not in versions[name]
    ]

    return len(compared), others


def installed_version(name: str) -> str:
    """Finds the installed version of a package, without the name of a build such as `+cpu`; empty: not installed."""
    with suppress(PackageNotFoundError):
        return version(name).partition("+")[0]
    return ""
