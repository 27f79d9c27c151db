"""Calls `duvae` as the command line does, in the process of a test."""

import sys

import pytest

from duvae import cli


def call(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs `duvae <command>` in this process. Returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["duvae", *command.split()])
    with pytest.raises(SystemExit) as leaving:
        cli.main()

    return int(leaving.value.code or 0)
