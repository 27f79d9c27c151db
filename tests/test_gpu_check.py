"""The check of a GPU, in a dry run on the CPU: every part runs, and a row beyond its bound fails."""

import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.gpu import broken, clock, failures, page, rates, waits
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.check import Check
from benchmarks.gpu.rows import NO_ERROR, Row, guarded
from benchmarks.large_text import YAHOO
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import family
from duvae.training.steps import optimizer

ROOT = Path(__file__).parents[1]
GPU = Check(torch.device("cuda"), family.FULL_SIZE, ("vae",))
"""A check whose bounds apply, as on a GPU. No test lets it compute."""


def program(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the check in a process that sees no GPU and no tests; or some code in such a process."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *(["-c", code] if code else ["-m", "benchmarks.gpu"]), *arguments]

    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1800)


# ------------------------------------------------------------------------------------- the whole check

PARTS = ["rates", "parity", "waits", "bits", "half", "compiled", "speed", "failures"]


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The files and the output of a dry run of all parts, with one system."""
    folder = tmp_path_factory.mktemp("dry")
    done = program("--device", "cpu", "--systems", "vae", "--output", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    rows = [Row.of_json(values) for values in content["rows"]]

    return SimpleNamespace(
        done=done, rows=rows, about=content["about"], page=(folder / "gpu.md").read_text(encoding="utf-8")
    )


def test_a_dry_run_has_all_parts_and_fails_nowhere(dry: Any) -> None:
    assert list(dict.fromkeys(row.part for row in dry.rows)) == PARTS
    assert [row for row in dry.rows if row.status == "failed"] == []
    for part in PARTS:
        assert re.search(rf"^{part}: \d+ rows, 0 failed, \d+ s$", dry.done.stderr, re.MULTILINE), part
    assert list(dry.about["seconds"]) == PARTS
    assert page.first_sentence(dry.rows) in dry.page
    assert dry.page.count("\n## ") == len(PARTS)
    assert "a dry run on the CPU, which says nothing about a GPU" in dry.page


def test_a_dry_run_compares_all_that_models_compute(dry: Any) -> None:
    """The second computation uses other operations, so that the values differ by rounding."""
    names = {"loss", "gradient", "update", "encoded kl", "NLL", "MI", "MPD", "CE", "features", "likeliest outputs"}
    for kind in ("text", "images"):
        found = {row.name.removeprefix(f"{kind}: "): row for row in dry.rows if row.part == "parity"}
        assert names <= set(found)
        assert {found[name].status for name in names} == {"passed"}
        assert 0 < found["loss"].value < 1e-5
    assert any(row.name == "yahoo: gradient" for row in dry.rows)


def test_bits_and_precisions_count_in_a_dry_run(dry: Any) -> None:
    counted = {row.name for row in dry.rows if row.status == "passed"}
    for kind in ("text", "images"):
        assert {f"{kind}: the same bits twice", f"{kind}: stopped and resumed"} <= counted
        assert {f"{kind}: gradient in bfloat16", f"{kind}: bfloat16 is used"} <= counted
    assert "images: gradient of 5 examples, compiled" in counted


def test_what_needs_a_gpu_never_passes_in_a_dry_run(dry: Any) -> None:
    ended = "the process of this part"
    for row in dry.rows:
        if row.part in {"rates", "waits", "speed", "failures"} and row.name != ended:
            assert row.status == "not on this device", row.name
            assert row.missing
    assert [row.value for row in dry.rows if row.name == ended] == ["ended by itself"] * len(PARTS)


def test_simulated_failures_end_as_real_ones_should(dry: Any) -> None:
    found = [row for row in dry.rows if row.part == "failures" and row.missing]
    assert len(found) == 5 * len(failures.CASES) + 1
    assert [row.name for row in found if row.value != row.bound] == []


def test_speed_is_measured_for_steps_evaluation_and_sampling(dry: Any) -> None:
    rows = {row.name: row for row in dry.rows if row.part == "speed"}
    for dataset in ("yahoo", "short_yelp", "omniglot"):
        assert rows[f"{dataset}: NLL in ieee"].value > 0
        assert rows[f"{dataset}: sampling"].value > 0
    for name in ("yahoo: step in tf32", "yahoo: NLL in ieee"):
        row = rows[f"{name}, share of the product's rate"]
        assert (row.sign, row.bound) == (">=", 0.5)
    row = rows["yahoo: step in tf32, over launches times the cost of one"]
    assert (row.sign, row.bound) == ("<=", 1.3)


def test_without_a_gpu_the_exit_status_is_2_and_there_is_no_file(tmp_path: Path) -> None:
    done = program("--output", str(tmp_path))
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert message.startswith("error: expected a GPU that torch can use, but torch ")
    assert "nvidia-smi" in message
    assert "--device cpu" in message
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--patience", "0"), ("--only", "nothing"), ("--systems", "gan")])
def test_a_wrong_option_is_an_error(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(["--device", "cpu", *arguments])
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2
    assert arguments[0] in capsys.readouterr().err


MADE_UP = """
import sys
from benchmarks.gpu import __main__ as program
from benchmarks.gpu.rows import Row

def good(check): yield Row("a", 1.0, "s", 2.0)
def bad(check): yield Row("b", 3.0, "s", 2.0)
def crash(check):
    yield Row("c", 1.0, "s", 2.0)
    raise RuntimeError("CUDA error: device-side assert triggered")

for parts in sys.argv[2:]:
    program.PARTS = {name: program.Part(globals()[name], 60) for name in parts.split()}
    status = program.main(["--device", "cpu", "--output", f"{sys.argv[1]}/{parts}"])
    print(f"status {status}")
"""


def test_a_row_beyond_its_bound_or_a_crash_is_exit_status_1(tmp_path: Path) -> None:
    """The rows of the other parts, and those before a crash, are written all the same."""
    cases = {"good": (0, 2, 2), "good bad": (1, 4, 3), "crash good": (1, 4, 3)}
    done = program(str(tmp_path), *cases, code=MADE_UP)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(cases), done.stderr
    for (parts, (status, total, passed)), sentence, end in zip(cases.items(), lines[::2], lines[1::2], strict=True):
        assert sentence.startswith(
            f"Of {total} rows with a bound, {passed} passed, {total - passed} failed and 0 do not"
        )
        assert end == f"status {status}"
        rows = json.loads((tmp_path / parts / "gpu.json").read_text(encoding="utf-8"))["rows"]
        assert [row["part"] for row in rows] == [part for part in parts.split() for _ in range(2)]
        if "crash" in parts:
            assert rows[1]["value"] == "exit status 1"
            assert rows[1]["remark"] == "RuntimeError: CUDA error: device-side assert triggered"


PROCESSES = """
import json, os, signal, time
from dataclasses import asdict
from benchmarks.gpu import process

def killed():
    yield {"n": 1}
    os.kill(os.getpid(), signal.SIGSEGV)

def late():
    yield {"n": 1}
    time.sleep(600)

print(json.dumps([asdict(process.run(work, limit)) for work, limit in ((killed, 60), (late, 3))]))
"""


def test_a_part_that_is_killed_or_late_keeps_its_rows() -> None:
    killed, late = json.loads(program(code=PROCESSES).stdout)
    assert killed["end"] == "ended by SIGSEGV"
    assert late["end"] == "killed after 3 seconds"
    assert killed["values"] == late["values"] == [{"n": 1}]


# ---------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (Row("a", 1.0, "", 1.0), "passed"),
        (Row("a", 1.1, "", 1.0), "failed"),
        (Row("a", 1.1, "", 1.0, ">="), "passed"),
        (Row("a", 0.9, "", 1.0, ">="), "failed"),
        (Row("a", 71, "", 71, "=="), "passed"),
        (Row("a", 1, "", 71, "=="), "failed"),
        (Row("a", "equal", "", "equal", "=="), "passed"),
        (Row("a", "weights differ", "", "equal", "=="), "failed"),
        (Row("a", "error", "", 1.0), "failed"),
        (Row("a", math.nan, "", 1.0), "failed"),
        (Row("a", math.nan, "", 1.0, ">="), "failed"),
        (Row("a", math.inf, "", 1.0), "failed"),
        (Row("a", None, "", 1.0), "failed"),
        (Row("a", 1.0), "measured"),
        (Row("a", 0.5, "", 1.0, missing="no GPU"), "not on this device"),
        (Row("a", None, missing="no GPU"), "not on this device"),
    ],
)
def test_a_row_knows_whether_its_bound_holds(row: Row, status: str) -> None:
    assert row.status == status
    assert row.as_json()["status"] == status
    again = Row.of_json(json.loads(json.dumps(row.as_json(), allow_nan=False)))
    assert again.status == status
    if not (isinstance(row.value, float) and not math.isfinite(row.value)):
        assert again == row


VALUES = st.one_of(st.none(), st.floats(), st.sampled_from(["equal", "weights differ"]))
ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from(["a", "b | c"]),
        VALUES,
        st.just("nats"),
        st.one_of(st.none(), st.floats(allow_nan=False), st.just("equal")),
        st.sampled_from(["<=", ">=", "=="]),
        st.sampled_from(["", "vae", "ae"]),
        st.just(""),
        st.sampled_from(["", "no GPU"]),
        st.just("rates"),
    ),
    max_size=12,
)


@given(ROWS)
def test_the_first_sentence_counts_every_row_once(rows: list[Row]) -> None:
    total, passed, failed, others, without = map(int, re.findall(r"\d+", page.first_sentence(rows)))
    assert (total + without, passed + failed + others) == (len(rows), total)
    assert failed == sum(row.status == "failed" for row in rows)
    assert passed == sum(row.status == "passed" for row in rows)


@given(ROWS)
def test_the_page_shows_each_failed_row_and_joins_only_rows_that_passed(rows: list[Row]) -> None:
    lines = page.merged(rows)
    for status in ("failed", "measured", "not on this device"):
        assert sum(row.status == status for row in lines) == sum(row.status == status for row in rows)
    assert {row.name for row in lines} == {row.name for row in rows}
    for row in lines:
        assert page.line(row).count("|") == 7
        assert ("FAILED" in page.line(row)) == (row.status == "failed")


def test_the_page_shows_the_worst_system() -> None:
    rows = [Row("loss", value, "relative", 1e-5, system=name) for name, value in (("ae", 1e-7), ("vae", 9e-6))]
    (joined,) = page.merged(rows)
    assert joined.value == 9e-6
    assert joined.remark == "worst of 2 systems: vae"


def test_an_error_is_a_row_and_the_rows_before_it_stay() -> None:
    def rows() -> Iterator[Row]:
        yield Row("a", 1.0)
        raise ValueError("no\nway")

    first, error = guarded("steps", "vae", rows)
    assert first == Row("a", 1.0, system="vae")
    assert (error.status, error.value, error.bound) == ("failed", "ValueError: no way", NO_ERROR)


# ----------------------------------------------------------------------------- times, launches, operations


def event(device: str, start: float, end: float, kind: str = "kernel", section: bool = False) -> Any:
    return SimpleNamespace(
        device_type=SimpleNamespace(name=device),
        time_range=SimpleNamespace(start=start, end=end),
        activity_type=kind,
        is_user_annotation=section,
    )


def test_launches_and_busy_time_come_from_the_profiler() -> None:
    events = [
        event("CPU", 0, 100),
        event("CUDA", 0, 10),
        event("CUDA", 5, 12),  # two kernels at a time
        event("CUDA", 20, 30, "gpu_memcpy"),
        event("CUDA", 0, 100, "gpu_user_annotation", section=True),
        event("CUDA", 0, 100, "cuda_sync"),
    ]
    work = clock.work_of(events)
    assert work is not None
    assert work.launches == 3
    assert work.busy == pytest.approx(22e-6)
    assert clock.work_of(events[:1]) is None


def test_operations_and_reads_are_counted() -> None:
    x = torch.zeros(3, 4)
    with clock.OperationCounter() as counter:
        float((x + 1).T.sum())
    assert (counter.count, counter.reads) == (2, 1)
    assert clock.operations(lambda: torch.zeros(3, 4) @ torch.zeros(4, 5)) == 2 * 3 * 4 * 5


def test_the_products_of_a_step_have_its_operations() -> None:
    assert 2 * sum(a * b * c for a, b, c in rates.product_shapes(YAHOO)) == YAHOO.step_operations()


# ------------------------------------------------------------------------------------ waits and failures


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes in which PyTorch was asked to look for waits."""
    found: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", found.append)
    monkeypatch.setattr(clock.Clock, "wait", lambda self: None)

    return found


def test_the_line_that_waits_is_named(modes: list[str]) -> None:
    def wait() -> None:
        parameter = nn.Parameter(torch.zeros(1))
        parameter.grad = torch.zeros(1)
        optimiser = optimizer([parameter], "sgd", 1.0, fused=False)

        class Waits:
            def __rmul__(self, other: Any) -> Any:
                raise RuntimeError(waits.WAIT)

            def __neg__(self) -> Any:
                raise RuntimeError(waits.WAIT)

        optimiser.param_groups[0]["lr"] = Waits()
        optimiser.step()

    count, where = waits.waits(GPU, wait, errors=True)
    assert count == 1
    assert where.startswith("training/steps.py: torch._foreach_add_")
    assert modes == ["error", "default"]


def test_waits_are_counted_where_some_are_allowed(modes: list[str]) -> None:
    def wait() -> None:
        for _ in range(3):
            warnings.warn(waits.WAIT, stacklevel=1)

    assert waits.waits(GPU, wait, errors=False) == (3, "")
    assert waits.waits(GPU, lambda: None, errors=True) == (0, "")
    assert modes == ["warn", "default", "error", "default"]


def test_another_error_in_a_step_is_no_wait(modes: list[str]) -> None:
    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        waits.waits(GPU, fail, errors=True)
    assert modes[-1] == "default"


@pytest.mark.parametrize("case", failures.CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("right", [True, False])
def test_another_exit_status_of_a_failure_is_seen(
    case: failures.Case, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU: a device-side assert that ends like a lost GPU, and every other failure that ends like an assert."""
    status = case.status if right else 75 if case.status == 1 else 1
    monkeypatch.setattr(failures, "start", lambda *arguments: (status, f"error: {case.words}"))
    found = list(failures.of_case(GPU, case))
    assert ({row.status for row in found} == {"passed"}) == right
    assert (found[0].status == "passed") == right
    assert len(found) == 5


def test_every_failure_has_a_computation() -> None:
    assert {case.kind for case in failures.CASES} | {"works"} == set(broken.KINDS)
