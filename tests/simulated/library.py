"""Compiles the simulated device: `device.cpp`, which tells PyTorch that a GPU exists."""

import importlib.util
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")
COMPILER = os.environ.get("CXX", "g++")


def compiled(folder: Path) -> Path:
    """Compiles the device into a folder, and returns the path of the library. PyTorch is not imported."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch, library = Path(spec.origin).parent, folder / "device.so"
    command = [COMPILER, "-std=c++20", "-O0", "-shared", "-fPIC", str(SOURCE), f"-I{torch / 'include'}"]
    command += [f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr

    return library
