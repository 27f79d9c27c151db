"""Mutations of what a user gives end with exit status 0 or 2. See fuzzing.py."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import fuzzing
from fuzzed import bounds, lines, parameters
from fuzzed.bounds import Outcome

PROGRAM = Path(fuzzing.__file__)
MUTATIONS = 500


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program as `make fuzz` does. A fork of this process would have its threads' locks."""
    command = [sys.executable, str(PROGRAM), *arguments]

    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)


def test_mutations_end_as_they_must() -> None:
    done = fuzz("--mutations", str(MUTATIONS), "--seed", "1")
    row = re.search(r"^all +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert row is not None, done.stdout
    accepted, refused, faults = (int(number) for number in row.groups())
    assert (accepted + refused, faults) == (MUTATIONS, 0)
    # The search would be worth little if the first command refused everything, or if nothing were refused.
    assert accepted > MUTATIONS / 10
    assert refused > MUTATIONS / 4


def test_a_seed_and_a_number_give_a_mutation() -> None:
    for number in range(20):
        first, second, other = (fuzzing.mutation(seed, number) for seed in (3, 3, 4))
        assert (first.what, first.commands) == (second.what, second.commands)
        assert first.kind == other.kind
    assert [fuzzing.mutation(3, n).what for n in range(20)] != [fuzzing.mutation(4, n).what for n in range(20)]


def test_every_kind_of_place_is_changed_in_the_first_mutations() -> None:
    """Every rule of params.yaml meets one mutation before a rule meets a second one."""
    order = parameters.ordered(1, parameters.compact)
    content = parameters.compact()
    kinds = [parameters.kind_of(place, content) for place in order]
    count = len(set(kinds))

    assert count > 300
    assert len(set(kinds[:count])) == count
    assert set(order) == {place for place, _ in parameters.places(content)}


def test_every_command_has_a_command_line() -> None:
    from typer.main import get_command

    from duvae.cli import app

    assert {line[0] for line in lines.SOUND} == set(get_command(app).commands)  # type: ignore[attr-defined]


def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Outcome:
    """The judgement on a process that stands in for the child of a mutation: it runs a few lines of Python."""
    place = tmp_path / "place"
    (place / "project").mkdir(parents=True)
    script = f"import os, sys; sys.path[:0] = [{str(PROGRAM.parent)!r}]; from fuzzed import bounds\n{program}"
    with (place / "errors").open("wb") as errors, (place / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=place / "project", stdout=output, stderr=errors, process_group=0
        )
    child = bounds.Child(process.pid, place, 0.0)
    monkeypatch.setattr(bounds, "PATIENCE", float("inf"))
    while (outcome := bounds.poll(child)) is None:
        time.sleep(0.01)
    process.returncode = 0  # `poll` has waited for it

    return outcome


CODE = "open('../codes', 'w').write('{}')"


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        (CODE.format(0), None),
        ("print('error: found 1', file=sys.stderr); " + CODE.format(2), None),
        (CODE.format(2), "refused without a message"),
        (CODE.format(75), "exit status 75"),
        ("raise ValueError('odd')", "a traceback: ValueError: odd"),
        ("bounds.CPU_SECONDS = 1; bounds.limits()\nwhile True: pass", "used more than"),
        ("bounds.MEMORY = 2**28; bounds.limits(); bytearray(2**29)", "MemoryError"),
        ("os.kill(os.getpid(), 11)", "ended by the signal 11"),
        ("open('x.part', 'w')", "left project/x.part"),
        ("print('\\x1b[2J')", "control character"),
        ("print('x' * 200_000)", "printed 200,001 characters"),
        ("sys.addaudithook(bounds.Fence(os.path.realpath('..'))); open('../../x', 'w')", "OUTSIDE: open of"),
        ("sys.addaudithook(bounds.Fence(os.path.realpath('..'))); os.rename('x', '../../x')", "OUTSIDE: os.rename of"),
    ],
)
def test_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, fault: str | None) -> None:
    monkeypatch.setattr(bounds, "CPU_SECONDS", 1)
    outcome = ended(tmp_path, monkeypatch, program)

    if fault is None:
        assert outcome.faults == ()
    else:
        assert any(fault in found for found in outcome.faults), outcome


@pytest.mark.parametrize("kind", fuzzing.MODULES)
def test_mutations_of_a_kind_differ(kind: str) -> None:
    numbers = [number for number in range(200) if fuzzing.CYCLE[number % len(fuzzing.CYCLE)] == kind]
    made: list[Callable[[Path], object]] = [fuzzing.mutation(1, number).change for number in numbers]

    assert len({fuzzing.mutation(1, number).what for number in numbers}) > len(made) / 2
