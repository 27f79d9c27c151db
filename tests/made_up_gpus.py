"""A made-up `nvidia-smi` on the PATH, for tests of the GPUs of a machine that has none."""

from pathlib import Path

import pytest

from duvae.project import gpus

UUIDS = (
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "GPU-89aa0000-0000-0000-0000-000000000001",
    "GPU-c0ffee00-0000-0000-0000-000000000002",
    "GPU-d00d0000-0000-0000-0000-000000000003",
)

LOST = "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU"

LISTED = f"""GPU 0: NVIDIA H100 (UUID: {UUIDS[0]})
  MIG 1g.10gb     Device  0: (UUID: MIG-aaaa0000-0000-0000-0000-000000000000)
  MIG 3g.40gb     Device  1: (UUID: MIG-GPU-8932f937/2/0)
GPU 1: NVIDIA H100 (UUID: {UUIDS[1]})
  MIG 7g.80gb     Device  0: (UUID: MIG-bbbb0000-0000-0000-0000-000000000000)"""


def row(index: int, mig: str = "Disabled", memory: str = "81559") -> str:
    """The line in which `nvidia-smi` describes a GPU."""
    return f"{index}, {UUIDS[index]}, NVIDIA H100 80GB HBM3, {memory}, {mig}"


def nvidia_smi(
    patch: pytest.MonkeyPatch,
    folder: Path,
    *lines: str,
    code: int = 0,
    listed: str = "",
    errors: str = "",
    end: str = "",
) -> None:
    """Puts a made-up `nvidia-smi` on the PATH, and a torch that is built for CUDA into the environment.

    Args:
        patch: Fixture that takes the changes back.
        folder: Folder for the program.
        lines: Lines of the answer to the query.
        code: Exit code.
        listed: Answer to the option `-L`.
        errors: Text for standard error.
        end: Shell command that runs before the end.
    """
    program = folder / "nvidia-smi"
    folder.mkdir(parents=True, exist_ok=True)
    answer = "\n".join(lines)
    program.write_text(
        f"#!/bin/sh\nif [ $1 = -L ]; then echo '{listed}'; exit; fi\necho '{answer}'\necho '{errors}' >&2\n{end}\n"
        f"exit {code}\n"
    )
    program.chmod(0o755)
    patch.setenv("PATH", str(folder), prepend=":")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    patch.setattr(gpus, "torch_without_cuda", lambda: "")


def no_driver(patch: pytest.MonkeyPatch, folder: Path, *files: str) -> None:
    """Takes `nvidia-smi` off the PATH. The files in /dev are those with the given names."""
    for name in files:
        (folder / name).touch()
    patch.setenv("PATH", "/nowhere")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    patch.setattr(gpus, "DEVICES", folder)
