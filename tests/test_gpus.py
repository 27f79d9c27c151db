"""The GPUs of a machine: every answer of `nvidia-smi`, the choice of devices, and no silent use of the CPU."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import small_project
import tiny
from duvae.cli import dispatch
from duvae.errors import DEVICE_LOST, OUT_OF_MEMORY, DeviceLostError, UserError
from duvae.project import gpus
from duvae.project.fingerprint import Fingerprints
from made_up_gpus import LISTED, LOST, UUIDS, no_driver, nvidia_smi, row
from pipelines import devices, display, record
from pipelines.devices import Device, choose
from traced import PACKAGE

ROOT = Path(__file__).parents[1]

# ---------------------------------------------------------------------------------- answers of nvidia-smi

UNUSABLE: dict[str, tuple[dict[str, object], str]] = {
    "a lost GPU in place of its row": ({"lines": [LOST], "code": 15}, "GPU is lost. Reboot"),
    "a row of values that were lost": (
        {"lines": [f"0, {UUIDS[0]}, NVIDIA H100, [GPU is lost], [GPU is lost]"]},
        r"\[GPU is lost\]",
    ),
    "a row of errors": ({"lines": ["[Unknown Error], [Unknown Error]"]}, "Unknown Error"),
    "one line": ({"lines": ["[GPU is lost]"]}, r"nvidia-smi says: \[GPU is lost\]"),
    "no GPU, exit code 0": ({"lines": ["No devices were found"]}, "No devices were found"),
    "no GPU, exit code 6": ({"lines": ["No devices were found"], "code": 6}, "exit code 6: no GPU was found"),
    "no answer": ({}, "nvidia-smi listed no GPU"),
    "no driver": (
        {"lines": ["NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."], "code": 9},
        "could not communicate .* exit code 9: the driver is not loaded",
    ),
    "no library": ({"errors": "Failed to initialize NVML", "code": 12}, "exit code 12: .*NVML.*Failed to initialize"),
    "off the bus": ({"code": 15}, "exit code 15: a GPU has fallen off the bus"),
    "an unknown exit code": ({"code": 255}, "exit code 255"),
    "a driver that hangs": ({"end": "exec sleep 100"}, "gave no answer within 0.2 seconds"),
    "a GPU in MIG mode without an instance": ({"lines": [row(0, "Enabled")]}, "GPU 0 is in MIG mode, "),
}


def install(patch: pytest.MonkeyPatch, folder: Path, lines: object = (), **options: object) -> None:
    nvidia_smi(patch, folder, *lines, **options)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("what", UNUSABLE)
def test_gpus_that_cannot_be_used_are_an_error_and_never_the_cpu(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, message = UNUSABLE[what]
    install(monkeypatch, tmp_path / "bin", **answer)
    if "hangs" in what:
        monkeypatch.setattr(gpus.inventory, "__defaults__", (0.2,))

    with pytest.raises(UserError, match=f"expected GPUs that can be used, but .*{message}.*--devices cpu"):
        choose(1)
    with pytest.raises(UserError, match=message):
        choose(1, None, "0")
    assert not any(device.cuda for device in choose(1, None, "cpu"))


def test_a_hanging_driver_that_cannot_be_killed_does_not_hang_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a broken driver ignores even SIGKILL."""
    nvidia_smi(monkeypatch, tmp_path / "bin", end="exec sleep 100")
    left: list[subprocess.Popen[str]] = []
    kill = subprocess.Popen.kill

    def ignore(process: subprocess.Popen[str]) -> None:
        left.append(process)

    monkeypatch.setattr(subprocess.Popen, "kill", ignore)
    try:
        assert "no answer" in gpus.inventory(0.2).problems[0]
        (process,) = left
        assert process.poll() is None
    finally:
        for process in left:
            kill(process)
            process.wait()


def test_the_gpus_beside_a_lost_one_are_used_and_the_lost_one_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0), LOST, row(2), code=15)
    assert [device.name for device in choose(1)] == ["GPU 0", "GPU 2"]
    assert "GPU 0000:3B:00.0: GPU is lost" in capsys.readouterr().err
    with pytest.raises(
        UserError, match=r"'1' fits no GPU .* index or a UUID of: GPU 0 .*; GPU 2 .* Not usable: .*lost"
    ):
        choose(1, None, "1")


def test_sound_gpus_give_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory that the GPU shares with the machine, and a model without MIG, have no value of their own."""
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0, "[N/A]", "[N/A]"), row(1, "[N/A]"), errors="ld.so: a warning")
    assert [device.visible for device in choose(1)] == list(UUIDS[:2])
    assert not capsys.readouterr().err


def test_a_gpu_in_mig_mode_is_used_by_its_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0, "Enabled"), row(1), listed=LISTED)
    found = choose(1)
    assert [device.name for device in found] == ["GPU 0 MIG 1g.10gb device 0", "GPU 0 MIG 3g.40gb device 1", "GPU 1"]
    assert [device.visible[:9] for device in found] == ["MIG-aaaa0", "MIG-GPU-8", "GPU-89aa0"]
    assert choose(1, None, "MIG-aaaa,1") == [found[0], found[2]]
    for name in ("0", UUIDS[0], "gpu-8932"):
        with pytest.raises(UserError, match=r"GPU 0 is in MIG mode, .* Expected one of them: MIG-aaaa.*, MIG-GPU-8932"):
            choose(1, None, name)


# ---------------------------------------------------------------------------------- the choice of devices


def test_a_machine_without_a_driver_uses_the_cpu_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_driver(monkeypatch, tmp_path)
    assert not any(device.cuda for device in choose(1))
    assert capsys.readouterr().err.splitlines() == [
        "devices: no NVIDIA driver here (no nvidia-smi on the PATH, no /dev/nvidia*), so the CPU is used"
    ]
    with pytest.raises(UserError, match=r"--devices '0': .*it has no NVIDIA driver"):
        choose(1, None, "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match=r"CUDA_VISIBLE_DEVICES='0': .*it has no NVIDIA driver"):
        choose(1)


def test_a_driver_without_nvidia_smi_is_an_error_unless_the_user_names_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_driver(monkeypatch, tmp_path, "nvidia0", "nvidiactl")
    monkeypatch.setattr(gpus, "torch_without_cuda", lambda: "")
    with pytest.raises(UserError, match=r"nvidia0 shows a GPU, but the program nvidia-smi is not on the PATH"):
        choose(1)
    assert [device.visible for device in choose(1, None, "0,GPU-77")] == ["0", "GPU-77"]
    assert "--devices '0,GPU-77' cannot be checked" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", " ", "-1", "-1,0", "NoDevFiles"])
def test_hidden_gpus_mean_the_cpu_and_a_line_says_so(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", LOST, code=15)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert not any(device.cuda for device in choose(1))
    assert capsys.readouterr().err == f"devices: CUDA_VISIBLE_DEVICES={value!r} hides all GPUs, so the CPU is used\n"


def test_gpus_have_indices_uuids_and_beginnings_of_uuids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", *map(row, range(4)))
    assert [device.name for device in choose(1)] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert [device.name for device in choose(1, None, f"3,GPU-893,{UUIDS[2].upper()}")] == ["GPU 3", "GPU 0", "GPU 2"]
    assert [device.slot for device in choose(1, 2, "0,1")] == [0, 0, 1, 1]
    assert len(set(choose(1, 2, "0,1"))) == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,-1,1")  # CUDA itself stops at -1
    assert [device.visible for device in choose(1)] == [UUIDS[2], UUIDS[0]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("4", r"'4' fits no GPU of this machine. Expected an index or a UUID of: GPU 0 \(GPU-8932"),
        ("0,-1", "'-1' fits no GPU"),
        ("GPU-89", "'GPU-89' fits 2 GPUs"),
        ("GPU-00", "'GPU-00' fits no GPU"),
        ("MIG-00", "'MIG-00' fits no GPU"),
        ("zero", "'zero' fits no GPU"),
        ("0,0", "names GPU 0 twice. .* --slots 2"),
        ("0,GPU-893", "names GPU 0 twice"),
        ("0,cpu", "expected 'cpu', or GPUs separated by commas"),
        (" , ", "expected 'cpu', or GPUs separated by commas"),
    ],
)
def test_a_wrong_list_is_an_error(value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", *map(row, range(3)))
    with pytest.raises(UserError, match=message):
        choose(1, None, value)


def test_a_plan_may_be_for_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_driver(monkeypatch, tmp_path)
    assert [device.name for device in choose(1, None, "0,7", check=False)] == ["GPU 0", "GPU 7"]
    with pytest.raises(UserError, match="names GPU 0 twice"):
        choose(1, None, "0,0", check=False)


def test_a_torch_without_cuda_is_an_error_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0))
    monkeypatch.setattr(gpus, "torch_without_cuda", lambda: "2.13.0+cpu")
    with pytest.raises(UserError, match=r"GPU 0: .* torch 2\.13\.0\+cpu is built without CUDA\. .* --devices cpu"):
        choose(1)


@pytest.mark.parametrize(
    ("cuda", "expected"), [("cuda: Optional[str] = None", "2.13.0"), ("cuda: Optional[str] = '13.0'", ""), (None, "")]
)
def test_the_build_of_torch_is_read_from_its_file(
    cuda: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cuda is not None:
        (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{cuda}\nhip: Optional[str] = None\n")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setattr(gpus, "version", lambda _: "2.13.0")
    assert gpus.torch_without_cuda() == expected


def test_the_build_of_the_installed_torch() -> None:
    assert gpus.torch_without_cuda() == ("" if torch.version.cuda else torch.__version__)


def test_a_task_sees_only_its_device() -> None:
    assert Device("GPU 1", UUIDS[1]).environment() == {
        "CUDA_VISIBLE_DEVICES": UUIDS[1],
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "DUVAE_DEVICE": "GPU 1",
    }
    hidden = Device("CPU 1", "").environment()
    assert (hidden["CUDA_VISIBLE_DEVICES"], hidden["DUVAE_DEVICE"]) == ("", "cpu")


def test_the_worker_of_a_cluster_has_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0), row(1))
    assert devices.of_worker().name == "GPU 0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.of_worker().visible == UUIDS[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not devices.of_worker().cuda


@pytest.mark.parametrize("device", [None, Device("CPU 1", ""), Device("GPU 1", UUIDS[1])])
def test_the_final_repro_of_a_rebuild_uses_its_device(
    device: Device | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs stages whose outputs the cache has lost. With `--devices cpu`, these too run on the CPU."""
    environments: list[dict[str, str]] = []

    def run(command: Sequence[str], **options: Any) -> SimpleNamespace:
        environments.append(options["env"])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(record.subprocess, "run", run)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    record.record(tmp_path, {}, [], device)
    (environment,) = environments
    assert environment["CUDA_VISIBLE_DEVICES"] == ("7" if device is None else device.visible)
    assert environment.get("DUVAE_DEVICE") == (None if device is None else "GPU 1" if device.cuda else "cpu")


# ---------------------------------------------------------------------------------- a stage that was given a GPU


def lost() -> None:
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered\nmore")


def full() -> None:
    raise RuntimeError("CUDA error: out of memory\nmore")


@pytest.mark.parametrize(
    ("available", "probe", "build", "message"),
    [
        (False, None, None, "is built without CUDA"),
        (False, None, "13.0", r"torch finds none \(driver trouble\)"),
        (True, lost, "13.0", "gives an error: CUDA error: uncorrectable ECC error encountered. This"),
    ],
)
def test_a_stage_that_cannot_use_its_gpu_fails(
    available: bool, probe: Callable[[], None], build: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_available() -> bool:
        warnings.warn("driver trouble", stacklevel=1)
        return available

    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "mem_get_info", probe)
    monkeypatch.setenv("DUVAE_DEVICE", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    gpus.check_device()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "the GPUs are hidden from the process"
    monkeypatch.setenv("DUVAE_DEVICE", "GPU 1")
    with pytest.raises(DeviceLostError, match=f"DUVAE_DEVICE=GPU 1: expected a GPU that torch can use, .*{message}"):
        gpus.check_device()


def test_a_stage_that_can_use_its_gpu_goes_on_and_a_full_gpu_is_no_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUVAE_DEVICE", "GPU 1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 2))
    gpus.check_device()
    monkeypatch.setattr(torch.cuda, "mem_get_info", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        gpus.check_device()


def test_a_stage_that_was_given_nothing_uses_the_gpu_of_the_machine_or_the_user_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine with a GPU, a stage never turns to the CPU without a word."""
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpus, "torch_without_cuda", lambda: "")
    for name in ("DUVAE_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "nvidiactl").touch()
    gpus.check_device()  # the driver without a GPU
    (tmp_path / "nvidia0").touch()
    with pytest.raises(DeviceLostError, match=r"nvidia0 shows a GPU, but torch finds none .*, set DUVAE_DEVICE=cpu"):
        gpus.check_device()
    for value in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        gpus.check_device()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(DeviceLostError):
        gpus.check_device()
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(gpus, "torch_without_cuda", lambda: "2.13.0+cpu")
    gpus.check_device()
    assert capsys.readouterr().err == (
        f"device: the CPU, since torch 2.13.0+cpu is built without CUDA. {tmp_path / 'nvidia0'} shows a GPU\n"
    )


def test_exactly_the_stages_that_choose_a_device_check_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = Fingerprints(PACKAGE)
    choosing = {
        kind
        for kind in dispatch.STAGES
        if ("duvae.inference.model_files", "device") in fingerprints.closure(kind).reached
    }
    assert choosing == gpus.STAGES

    checked: list[str] = []
    ran = SimpleNamespace(run=lambda: None)
    monkeypatch.setattr(gpus, "check_device", lambda: checked.append("checked"))
    monkeypatch.setattr(dispatch.importlib, "import_module", lambda _: ran)
    monkeypatch.chdir("/")
    for command in ("train", "fetch", "systems"):
        dispatch.run(command)
        assert len(checked) == 1


def test_a_training_that_was_given_a_gpu_does_not_run_on_the_cpu(tmp_path: Path) -> None:
    tiny.write(tmp_path / "params.yaml")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **Device("GPU 0", UUIDS[0]).environment()}
    command = ["train", "--dataset", "synthetic", "--setting", "vae", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "duvae", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == DEVICE_LOST, done.stderr
    assert "error: DUVAE_DEVICE=GPU 0: expected a GPU that torch can use" in done.stderr


# ---------------------------------------------------------------------------------- rebuilds on made-up GPUs

COUNTED = """echo "$1 $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER $DUVAE_DEVICE" >> {log}
if [ $1 != c ] && [ $(grep -c "^$1" {log}) -le {failures} ]; then exit {code}; fi
{script}"""
"""The script of a stage. The stages `a` and `b` fail several times, before they succeed."""


def counted(folder: Path, log: Path, failures: int, code: int) -> Path:
    script = COUNTED.format(log=log, failures=failures, code=code, script=small_project.EACH.format("$1"))

    return small_project.create(folder, script)


def test_a_task_whose_memory_runs_out_runs_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0))
    folder = counted(tmp_path / "project", tmp_path / "log", 1, OUT_OF_MEMORY)
    progress = small_project.rebuild(folder, "each@a", "each@c", devices="0", slots=2)

    assert not progress.failed
    assert set(progress.done) == {"base", "each@a", "each@c"}
    assert {result.device for result in progress.done.values()} == {"GPU 0"}
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == [f"{name} {UUIDS[0]} PCI_BUS_ID GPU 0" for name in ("a", "a", "c")]
    said = capfd.readouterr().err
    assert "each@a: memory ran out on GPU 0. The task runs again, alone on GPU 0" in said
    assert "slots: 2 at a time on GPU 0: --slots\n" in said


def test_a_rebuild_ends_when_the_last_gpu_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It starts nothing more on the lost GPU or on the CPU, and keeps what is finished.

    The stages of this project are of a kind that does not compute on a GPU, so the rebuild chooses one slot.
    """
    nvidia_smi(monkeypatch, tmp_path / "bin", row(0))
    folder = counted(tmp_path / "project", tmp_path / "log", 9, DEVICE_LOST)
    progress = small_project.rebuild(folder, devices="0", slots=None, keep_going=True)

    assert "slots: 1 at a time on GPU 0: no task waits for a GPU\n" in capfd.readouterr().err
    assert set(progress.done) == {"base"}
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == ["a", "b"]
    assert set(progress.failed) == {"each@a", "each@b"}
    assert {"each@c", "after"} <= {*progress.skipped}
    last = display.failures(progress).splitlines()[-1]
    assert last.startswith("no GPU is left. GPU 0 was lost 2 times in a row and is no longer used; left: none. See ")
    assert set(small_project.lock(folder)) == {"base"}
