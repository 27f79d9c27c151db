"""The precision of products, deterministic operations, versions and sizes of blocks on a GPU. No GPU is needed here."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import family
from duvae import devices
from duvae.config import Precision
from duvae.networks.fast import blocks
from duvae.project import provenance
from duvae.training import loop
from duvae.training.checkpoints import training_determinants

GPU = torch.device("cuda", 0)


def settings() -> tuple[Any, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, ...]]:
    """The settings before a test, which are set again after it."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before, filled = settings(), torch.utils.deterministic.fill_uninitialized_memory
    yield before
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:3]
    torch.use_deterministic_algorithms(before[3])
    torch.utils.deterministic.fill_uninitialized_memory = filled
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_a_cpu_has_its_settings_as_they_were(restored: tuple[Any, ...]) -> None:
    assert devices.prepare(family.CPU, "tf32") is family.CPU
    devices.set_products(family.CPU, "ieee")
    assert settings() == restored
    assert devices.used(family.CPU, "tf32") == "ieee"
    assert devices.versions(family.CPU) is None


def test_a_gpu_is_deterministic_and_has_the_precision_that_was_asked_for(restored: tuple[Any, ...]) -> None:
    devices.prepare(GPU)
    assert settings() == ("highest", False, False, True, ":4096:8")
    devices.set_products(GPU, "tf32")
    assert settings() == ("high", True, False, True, ":4096:8")
    devices.set_products(GPU, "ieee")
    assert settings()[:2] == ("highest", False)
    assert devices.used(GPU, "tf32") == "tf32"


def test_a_training_measures_in_the_precision_of_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(devices, "set_products", lambda device, precision: calls.append(precision))
    encode = loop.encode
    monkeypatch.setattr(loop, "encode", lambda *a, **b: (calls.append("measured"), encode(*a, **b))[1])
    training = family.training("vae", epochs=2, warmup=0)
    step = training.loop.step
    training.loop.step = lambda *arguments: (calls.append("step"), step(*arguments))[1]  # type: ignore[method-assign]
    training.run()

    assert list(dict.fromkeys(calls)) == ["tf32", "step", "ieee", "measured"]
    assert [call for call in calls if call != "step"] == 2 * ["tf32", "ieee", "measured"]


def nvidia_smi(folder: Path, version: str) -> None:
    """Writes a program `nvidia-smi` that prints the version of a driver, once for each of two cards."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho {version}\necho {version}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_card_driver_and_libraries_are_in_the_key_and_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimpleNamespace(name="a card", multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    nvidia_smi(tmp_path, "580.65.06")

    def determinants(device: torch.device, precision: Precision) -> dict[str, Any]:
        return training_determinants({"system": "vae"}, {}, 0.01, 1, 1, device, precision)

    expected = {"card": "a card", "multiprocessors": 132, "driver": "580.65.06", "cuda": torch.version.cuda}
    assert devices.versions(GPU) == {**expected, "cudnn": 91002}
    assert provenance.machine()["gpu"] == devices.versions(GPU)
    one = determinants(GPU, Precision())
    assert one["gpu"] == devices.versions(GPU)
    assert determinants(GPU, Precision(training="ieee")) != one
    nvidia_smi(tmp_path, "590.0.1")
    assert determinants(GPU, Precision()) != one
    (tmp_path / "nvidia-smi").unlink()
    assert determinants(family.CPU, Precision()) == determinants(family.CPU, Precision(training="ieee"))


def test_a_gpu_computes_large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With enough free memory the size does not depend on it, and with little it is the smallest one."""
    with FakeTensorMode():
        on_gpu = torch.empty(1, device=GPU)
    assert blocks.block_size(torch.empty(1), 125, blocks.ROWS, 16 * 1024) == 125
    assert blocks.logits_at_once(torch.empty(1), 7) == 7
    assert blocks.logits_at_once(on_gpu, 7) == blocks.ELEMENTS
    for free, times in ((2**36, 4), (2**35, 4), (2**32, 2), (2**20, 1)):
        monkeypatch.setattr(blocks, "free_memory", lambda device, free=free: free)
        assert blocks.block_size(on_gpu, 125, blocks.ROWS, 16 * 1024) == times * blocks.ROWS
    assert (blocks.ROWS, blocks.IMAGES) == (4096, 512)
