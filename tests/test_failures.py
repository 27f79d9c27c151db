"""The kinds of failures: how an error becomes an exit status, and an exit status a kind of failure."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from duvae import cli
from duvae.errors import (
    DEVICE_LOST,
    HOST_UNAVAILABLE,
    OUT_OF_MEMORY,
    DeviceLostError,
    TemporaryError,
    UserError,
    failure_status,
)
from pipelines.devices import Device
from pipelines.failures import Failure, of_exit_status
from pipelines.parallel_study import Crew

ADVICE = """
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
"""What PyTorch writes after the first line of each error of CUDA."""

ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)


def of_cuda(name: str) -> Exception:
    """An error of CUDA as PyTorch raises it."""
    return RuntimeError(f"CUDA error: {name}{ADVICE}")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause

    return error


STATUSES: dict[str, tuple[Exception, int | None]] = {
    "memory of the GPU": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), OUT_OF_MEMORY),
    "memory of the GPU without the class": (RuntimeError("CUDA out of memory. Tried to allocate."), OUT_OF_MEMORY),
    "memory for the context": (of_cuda("out of memory"), OUT_OF_MEMORY),
    "memory for cuBLAS": (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `f`"), OUT_OF_MEMORY),
    "memory for the tables of cuBLAS": (of_cuda("CUBLAS_STATUS_NOT_INITIALIZED when calling `f`"), OUT_OF_MEMORY),
    "memory for cuDNN": (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OUT_OF_MEMORY),
    "memory of the machine": (MemoryError(), OUT_OF_MEMORY),
    "memory of the machine, by torch": (RuntimeError("can't allocate memory: you tried"), OUT_OF_MEMORY),
    "a cause": (caused(ValueError("bad"), of_cuda("unspecified launch failure")), DEVICE_LOST),
    **{
        name: (of_cuda(name), DEVICE_LOST)
        for name in (
            "unspecified launch failure",
            "uncorrectable ECC error encountered",
            "no CUDA-capable device is detected",
            "all CUDA-capable devices are busy or unavailable",
            "CUDA-capable device(s) is/are busy or unavailable",
            "unknown error",
            "initialization error",
            "invalid device ordinal",
            "system not yet initialized",
            "GPU is lost",
        )
    },
    "no GPU": (RuntimeError("No CUDA GPUs are available"), DEVICE_LOST),
    "a CPU's torch": (RuntimeError("Found no NVIDIA driver on your system. Please check"), DEVICE_LOST),
    "a lazy call": (torch.cuda.DeferredCudaCallError("CUDA call failed: invalid device ordinal\n\nat"), DEVICE_LOST),
    **{
        name: (of_cuda(name), None)
        for name in (
            "device-side assert triggered",
            "an illegal memory access was encountered",
            "misaligned address",
            "no kernel image is available for execution on the device",
            "invalid argument",
        )
    },
    "an error of the program": (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
    "words in another error": (ValueError("CUDA out of memory"), None),
    "words in a later line": (RuntimeError("mat1 and mat2 shapes cannot be multiplied\nGPU is lost"), None),
}


@pytest.mark.parametrize("what", STATUSES)
def test_an_error_tells_its_exit_status(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, status = STATUSES[what]
    assert failure_status(error) == status

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["duvae", "systems"])
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if status is None:  # Python itself prints the traceback and exits with status 1
        with pytest.raises(type(error)):
            cli.main()
        return
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: memory ran out" if status == OUT_OF_MEMORY else "error: the GPU was lost")


def test_the_class_of_torch_for_errors_of_a_gpu_counts_by_its_message() -> None:
    """Every error of CUDA has this class, whether the GPU or the program is at fault."""
    try:
        errors = [
            ACCELERATOR(f"CUDA error: {name}{ADVICE}") for name in ("GPU is lost", "device-side assert triggered")
        ]
    except TypeError:
        pytest.skip("this version of torch makes such errors itself")
    assert [failure_status(error) for error in errors] == [DEVICE_LOST, None]


def test_errors_for_the_user_have_statuses() -> None:
    assert [kind("").status for kind in (UserError, TemporaryError, DeviceLostError)] == [2, 69, 75]
    assert len({1, 2, HOST_UNAVAILABLE, OUT_OF_MEMORY, DEVICE_LOST, 130, 137}) == 7


def test_errors_are_told_apart_without_importing_torch() -> None:
    code = (
        "import sys\nfrom duvae.errors import failure_status\n"
        "print(failure_status(RuntimeError('CUDA error: GPU is lost')), failure_status(MemoryError()))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["None", "71", "False"]


@pytest.mark.parametrize(
    ("status", "failure", "may_pass"),
    [
        (None, Failure.FINAL, False),
        (1, Failure.FINAL, False),
        (2, Failure.FINAL, False),
        (-signal.SIGSEGV, Failure.FINAL, False),
        (HOST_UNAVAILABLE, Failure.TEMPORARY, True),
        (OUT_OF_MEMORY, Failure.MEMORY, False),
        (DEVICE_LOST, Failure.DEVICE, True),
        (137, Failure.KILLED, True),
        (-9, Failure.KILLED, True),
    ],
)
def test_an_exit_status_tells_the_kind_of_failure(status: int | None, failure: Failure, may_pass: bool) -> None:
    assert of_exit_status(status) is failure
    assert failure.may_pass == may_pass


# ---------------------------------------------------------------------------------- the workers of a study

WORKER = 'echo "$CUDA_VISIBLE_DEVICES $DUVAE_DEVICE" >> {}/starts; '


def study(folder: Path, command: str, *devices: Device) -> Crew:
    crew = Crew("one", list(devices), None, folder / "params.yaml")
    crew.command = ["bash", "-c", WORKER.format(folder) + command]

    return crew


def starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text(encoding="utf-8").splitlines()


TWO = (Device("GPU 0", "GPU-a"), Device("GPU 1", "GPU-b"))


@pytest.mark.parametrize(
    ("command", "count", "message"),
    [
        ("exit 1", 1, "exit code 1"),
        ("exit 2", 1, "exit code 2"),
        ("exit 69", 4, "exit code 69 .temporary: a host did not answer"),
        ("kill -9 $$", 4, "exit code -9 .it was killed"),
        ("exit 71", 2, "exit code 71 .memory ran out.*, although no other task ran on the CPU. Lower the sizes"),
        ("exit 75", 4, "exit code 75"),
    ],
)
def test_only_some_failures_start_a_worker_again(command: str, count: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        study(tmp_path, command, Device("CPU 1", "")).run()
    assert starts(tmp_path) == [" cpu"] * count


def test_a_study_leaves_a_lost_gpu_and_ends_on_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker of the sound GPU goes on until the other GPU has been lost twice."""
    wait = f"until [ $(grep -c GPU-a {tmp_path}/starts) -ge 2 ]; do sleep 0.05; done"
    study(tmp_path, f"[ $CUDA_VISIBLE_DEVICES = GPU-b ] || exit 75; {wait}", *TWO).run()
    assert sorted(starts(tmp_path))[:2] == ["GPU-a GPU 0", "GPU-a GPU 0"]
    assert starts(tmp_path).count("GPU-a GPU 0") == 2
    assert "GPU 0 was lost 2 times in a row and is no longer used; left: GPU 1" in capsys.readouterr().out


def test_a_study_without_a_gpu_left_is_an_error_and_does_not_use_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no GPU is left"):
        study(tmp_path, "exit 75", *TWO).run()
    assert sorted(starts(tmp_path)) == ["GPU-a GPU 0"] * 2 + ["GPU-b GPU 1"] * 2


def test_a_worker_whose_memory_runs_out_waits_for_the_other_workers_of_its_gpu(tmp_path: Path) -> None:
    """The first worker of each GPU runs out of memory while a second one works there."""
    command = (
        f"if mkdir {tmp_path}/first 2>/dev/null; then until [ -e {tmp_path}/second ]; do sleep 0.05; done; exit 71; fi;"
        f" touch {tmp_path}/second; sleep 0.3; [ ! -e {tmp_path}/busy ] || touch {tmp_path}/shared;"
        f" touch {tmp_path}/busy; sleep 0.3; rm {tmp_path}/busy"
    )
    study(tmp_path, command, Device("GPU 0", "GPU-a"), Device("GPU 0", "GPU-a", 1)).run()
    assert len(starts(tmp_path)) == 3
    assert not (tmp_path / "shared").exists()
