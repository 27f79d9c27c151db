"""What a GPU needs that a CPU does not: the precision of its products, deterministic operations, and its versions.

Every function of this module does nothing for a CPU, so that no result of a CPU depends on this module.
"""

import os
import subprocess
from collections.abc import Mapping
from typing import Any, Literal

import torch

Products = Literal["tf32", "ieee"]
"""Precision of products and convolutions of float32 numbers on a GPU.

- `ieee`: all 24 bits of float32.
- `tf32`: the factors are rounded to 11 bits, and the sums keep 24 bits (TensorFloat-32). Several times as fast.
"""

SECONDS = 10.0
"""Seconds to wait for the answer of `nvidia-smi`, which knows the version of the driver."""

WORKSPACE = ":4096:8"
"""Memory that cuBLAS needs to give the same bits in each run: eight buffers of 4,096 KiB (see `prepare`)."""


def chosen() -> torch.device:
    """Returns the GPU if the process can use one, and otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(device: torch.device, precision: Products = "ieee") -> torch.device:
    """Makes a GPU compute the same bits in each run, and sets the precision of its products. Returns the device.

    PyTorch then takes the deterministic form of each operation, and warns if an operation has none. Call this function
    before the first computation on the GPU, because cuBLAS reads its settings only once.

    Args:
        device: Device of the computations. For a CPU, the function does nothing.
        precision: Precision of products and convolutions of float32 numbers.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling new memory would cost time, and no code reads new memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False  # with it, each run may choose other algorithms
        set_products(device, precision)

    return device


def set_products(device: torch.device, precision: Products) -> None:
    """Sets the precision of all products and convolutions of float32 numbers on a GPU.

    Args:
        device: Device of the computations. For a CPU, the function does nothing.
        precision: The precision.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def used(device: torch.device, precision: Products) -> Products:
    """Returns the precision that a result was computed with, for its record. A CPU always computes in IEEE float32.

    Args:
        device: Device of the computations.
        precision: The precision that params.yaml asks for.
    """
    return precision if device.type == "cuda" else "ieee"


def versions(device: torch.device) -> dict[str, Any] | None:
    """Collects what determines the last bits of a GPU's results, besides the code.

    Returns:
        The card's name, the number of its multiprocessors, and the versions of driver, CUDA and cuDNN. None for a CPU.
    """
    if device.type != "cuda":
        return None
    card = torch.cuda.get_device_properties(device)

    return {
        "card": card.name,
        "multiprocessors": card.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def determinants(device: torch.device, precision: Mapping[str, Any]) -> dict[str, Any]:
    """Collects the values that determine the bits of a result only on a GPU: its `versions`, and the precision.

    Args:
        device: Device of the computations.
        precision: Precision of products in training and in evaluation, as in params.yaml.

    Returns:
        The values under the names `gpu` and `precision`. For a CPU the result is empty.
    """
    found = versions(device)

    return {} if found is None else {"gpu": found, "precision": dict(precision)}


def driver() -> str | None:
    """Returns the version of the GPUs' driver; None if `nvidia-smi` does not answer."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None

    return next(iter(done.stdout.split()), None)
