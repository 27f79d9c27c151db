"""Finds out whether torch can use the GPU, and which versions of which libraries it uses."""

import os
import platform
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from duvae import devices
from duvae.project.provenance import processor


def described(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields a description of the device, whose key `problem` says why it cannot be used; empty if it can.

    Args:
        device: The GPU; or the CPU, which can always be used.
    """
    why = problem() if device.type == "cuda" else ""
    found: dict[str, Any] = {
        "problem": why,
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda" and not why:
        memory = torch.cuda.get_device_properties(device).total_memory
        found["gpu"] = {**(devices.versions(device) or {}), "memory_gib": round(memory / 2**30, 1)}
    yield found


def problem() -> str:
    """Why torch can use no GPU; an empty text if it can use one."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        reason = " ".join(" ".join(str(each.message).split()) for each in caught)
        return f"torch {torch.__version__} for CUDA {torch.version.cuda} finds none ({reason or 'its list is empty'})"
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        return f"the GPU gives an error: {str(error).partition(chr(10))[0]}"

    return ""
