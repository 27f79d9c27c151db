"""Finds the NVIDIA GPUs of this machine, and checks that a process can use the GPU that it was given.

The program `nvidia-smi` of NVIDIA's driver lists the GPUs, because an import of torch would take seconds. A GPU that
`nvidia-smi` cannot read is reported as a problem, and never left out silently.

A GPU in MIG mode is divided into instances. CUDA finds such an instance by its UUID only, not by the index of the GPU.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from duvae import streams
from duvae.errors import OUT_OF_MEMORY, DeviceLostError, failure_status

VARIABLE, CPU = "DUVAE_DEVICE", "cpu"
"""Environment variable with the name of the device that a process was given, and its value for the CPU.

If the variable names a GPU, the stages in `STAGES` fail if they cannot use a GPU (see `check_device`).
"""

STAGES = frozenset({"train", "evaluate", "probe", "samples", "search"})
"""Kinds of stages that compute on a GPU."""

PATIENCE = 30.0
"""Seconds to wait for the answer of `nvidia-smi`. A driver that first has to wake up several GPUs may take over ten."""

DEVICE_FILES, DEVICES = ("nvidia*", "dxg"), Path("/dev")
"""Patterns and folder of the files through which programs reach the GPUs: on Linux, and on Linux inside Windows."""

GPU_FILES = "nvidia[0-9]*"
"""Pattern of the files of single GPUs of NVIDIA in `DEVICES`."""

HIDDEN = ("-1", "NoDevFiles")
"""Values in `CUDA_VISIBLE_DEVICES` at which the list ends. Programs that start others hide all GPUs with them.

CUDA ignores everything from an unknown GPU on. The second value is what older versions of Slurm write.
"""

QUERY = ("--query-gpu=index,uuid,name,memory.total,mig.mode.current", "--format=csv,noheader,nounits")

EXIT_CODES = {
    4: "no permission",
    6: "no GPU was found",
    9: "the driver is not loaded",
    12: "the driver's library NVML was not found",
    14: "the infoROM of a GPU is corrupted",
    15: "a GPU has fallen off the bus or cannot be reached",
}
"""Meanings of the exit codes of `nvidia-smi`, from its manual."""


@dataclass(frozen=True)
class Instance:
    """A part of a GPU in MIG mode.

    Attributes:
        name: Name of the instance, such as `MIG 1g.10gb device 0`.
        uuid: UUID of the instance.
    """

    name: str
    uuid: str


@dataclass(frozen=True)
class GPU:
    """A GPU that `nvidia-smi` can read.

    Attributes:
        index: Index of the GPU in the order of the PCI bus, as text.
        uuid: UUID of the GPU.
        model: Name of the model, such as `NVIDIA H100 80GB HBM3`.
        memory: Size of the memory in MiB, as text.
        mig: Whether the GPU is in MIG mode. CUDA can then use only its instances.
        instances: The instances of the GPU in MIG mode.
    """

    index: str
    uuid: str
    model: str
    memory: str
    mig: bool = False
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """The GPUs of a machine.

    Attributes:
        gpus: The GPUs that `nvidia-smi` can read.
        problems: One sentence for each GPU that cannot be used, and for each other trouble of `nvidia-smi`.
        installed: Whether `nvidia-smi` is on the PATH. If not, nothing is known about the GPUs.
    """

    gpus: tuple[GPU, ...] = ()
    problems: tuple[str, ...] = ()
    installed: bool = True

    @property
    def empty(self) -> bool:
        """Whether the machine has no GPU of NVIDIA: there is neither `nvidia-smi` nor a file of the driver."""
        return not self.installed and not self.problems


def inventory(patience: float = PATIENCE) -> Inventory:
    """Lists the GPUs of this machine.

    Args:
        patience: Seconds to wait for each answer of `nvidia-smi`.
    """
    if shutil.which("nvidia-smi") is None:
        files = [path for pattern in DEVICE_FILES for path in sorted(DEVICES.glob(pattern))]
        problem = f"the file {files[0]} shows a GPU, but the program nvidia-smi is not on the PATH" if files else ""
        return Inventory((), (problem,) if problem else (), installed=False)
    try:
        code, lines, errors = _ask(*QUERY, patience=patience)
        rows, problems = _read(lines)
        if any(gpu.mig for gpu in rows):
            rows = [gpu if not gpu.mig else _with_instances(gpu, patience) for gpu in rows]
    except subprocess.TimeoutExpired:
        return Inventory((), (f"nvidia-smi gave no answer within {patience:g} seconds",))
    except OSError as error:
        return Inventory((), (f"nvidia-smi cannot be started ({error.strerror})",))
    if code:
        meaning = f": {EXIT_CODES[code]}" if code in EXIT_CODES else ""
        problems.append(f"nvidia-smi ended with exit code {code}{meaning}")
    if not rows:
        problems += errors
        problems = problems or ["nvidia-smi listed no GPU"]
    problems += [
        f"GPU {gpu.index} is in MIG mode, but has no MIG instance" for gpu in rows if gpu.mig and not gpu.instances
    ]

    return Inventory(tuple(rows), tuple(dict.fromkeys(problems)))


def _ask(*arguments: str, patience: float) -> tuple[int, list[str], list[str]]:
    """Runs `nvidia-smi`; returns its exit code and the lines of its standard output and standard error.

    Raises:
        OSError: If the program cannot be started.
        subprocess.TimeoutExpired: If the program takes longer than `patience` seconds.
    """
    process = subprocess.Popen(
        ["nvidia-smi", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        output, errors = process.communicate(timeout=patience)
    except BaseException:
        process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)  # a driver that hangs may keep even a killed process
        raise

    return process.returncode, _lines(output), _lines(errors)


def _lines(text: str) -> list[str]:
    """The lines of a text that are not blank, with single spaces between their words."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _read(lines: list[str]) -> tuple[list[GPU], list[str]]:
    """Reads the rows of the answer to `QUERY`.

    A lost GPU has no row, or a row with values such as `[GPU is lost]`, or a sentence in place of its row.

    Returns:
        The GPUs, and the lines that do not describe a usable GPU.
    """
    found, problems = [], []
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        values = [field for field in fields if field not in {"[N/A]", "N/A", "[Not Supported]"}]
        whole = len(fields) == 5 and fields[0].isdecimal() and fields[1].startswith("GPU-")
        if whole and not any(value.startswith("[") for value in values):
            index, uuid, model, memory, mig = fields
            found.append(GPU(index, uuid, model, memory, mig == "Enabled"))
        else:
            problems.append(f"nvidia-smi says: {line}")

    return found, problems


_LISTED = re.compile(
    r"GPU \d+: .*\(UUID: (?P<gpu>GPU-[^)]+)\)|(?P<name>MIG \S+)\s+Device\s+(?P<n>\d+): \(UUID: (?P<mig>MIG-[^)]+)\)"
)
"""A line of `nvidia-smi -L`: a GPU, or an instance of the GPU above it."""


def _with_instances(gpu: GPU, patience: float) -> GPU:
    """Adds the instances of a GPU in MIG mode."""
    owner, instances = "", []
    for line in _ask("-L", patience=patience)[1]:
        if (match := _LISTED.match(line)) and match["gpu"]:
            owner = match["gpu"]
        elif match and owner == gpu.uuid:
            instances.append(Instance(f"{match['name']} device {match['n']}", match["mig"]))

    return GPU(gpu.index, gpu.uuid, gpu.model, gpu.memory, True, tuple(instances))


def torch_without_cuda() -> str:
    """The version of the installed torch if that torch cannot use NVIDIA's GPUs; otherwise an empty text.

    The function reads the file of torch that describes its build, since an import of torch would take seconds.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""

    return version("torch") if re.search(r"^cuda\b.*= None$", text, re.MULTILINE) else ""


def check_device() -> None:
    """Checks that this process can use the GPU that it was given, or that it may use.

    - If `VARIABLE` names a GPU, torch must be able to use it.
    - If `VARIABLE` is the CPU, the function hides all GPUs from this process.
    - Without the variable, a GPU of this machine must be usable, unless `CUDA_VISIBLE_DEVICES` hides it. If torch is
      built without CUDA, one line says that the CPU is used.

    Raises:
        DeviceLostError: If torch cannot use the GPU.
    """
    name = os.environ.get(VARIABLE, "")
    if name == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CUDA reads this variable at its first use, which comes later
        return
    if name:
        for reason in _reasons():
            raise DeviceLostError(
                f"{VARIABLE}={name}: expected a GPU that torch can use, but {reason}. This process does not continue on"
                " the CPU. See what 'nvidia-smi' says about the GPU. To use the CPU, run 'make rebuild"
                f' ARGS="--devices cpu"\', or unset {VARIABLE}.'
            )
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    files = sorted(DEVICES.glob(GPU_FILES))
    if not files or (visible is not None and visible.split(",")[0].strip() in {"", *HIDDEN}):
        return
    if without := torch_without_cuda():
        streams.say(f"device: the CPU, since torch {without} is built without CUDA. {files[0]} shows a GPU")
        return
    for reason in _reasons():
        raise DeviceLostError(
            f"{files[0]} shows a GPU, but {reason}. See what 'nvidia-smi' says about the GPU. To use the CPU, set"
            f" {VARIABLE}={CPU}."
        )


def in_use() -> bool:
    """Whether the stages that this process starts compute on a GPU. The function does not ask the driver."""
    if name := os.environ.get(VARIABLE, ""):
        return name != CPU
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.split(",")[0].strip() in {"", *HIDDEN}

    return not hidden and any(DEVICES.glob(GPU_FILES)) and not torch_without_cuda()


def _reasons() -> Iterator[str]:
    """Yields why torch cannot use the GPU that this process sees; nothing if torch can."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if available:
        try:
            torch.cuda.mem_get_info()  # the first call that reaches the GPU
        except RuntimeError as error:
            if failure_status(error) == OUT_OF_MEMORY:
                raise
            yield f"the GPU gives an error: {str(error).partition(chr(10))[0]}"
    elif torch.version.cuda is None:
        yield f"torch {torch.__version__} is built without CUDA"
    else:
        said = " ".join(" ".join(str(each.message).split()) for each in caught)
        yield f"torch finds none ({said or 'its list of GPUs is empty'})"
