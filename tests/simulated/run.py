"""Trains and measures every system on the simulated GPU, in a process of its own, for test_simulated_gpu.py.

Usage: `python -m simulated.run LIBRARY FILE [SYSTEM ...]`. LIBRARY is the compiled `device.cpp`, FILE receives the
results as JSON. Without names of systems, all systems run.

The result of one system, kind of data and precision is a mapping from each phase, such as `step`, to its waits and its
launches, or to an error. A failed check ends the process if it lies inside of PyTorch, so that no test can run here.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulated import gpu

gpu.prepare(sys.argv[1])

import numpy as np  # noqa: E402 (the simulation comes first)
import torch  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

import family  # noqa: E402
from duvae import networks  # noqa: E402
from duvae.config import ImageNetworks, Optimisation  # noqa: E402
from duvae.data.splits import Images, Split  # noqa: E402
from duvae.inference import generation  # noqa: E402
from duvae.inference.model_files import Description  # noqa: E402
from duvae.metrics.decoder_use import decoder_use  # noqa: E402
from duvae.metrics.dimensions import dimension_measures  # noqa: E402
from duvae.metrics.encoding import encode, features  # noqa: E402
from duvae.metrics.geometry import measures  # noqa: E402
from duvae.metrics.likelihood import importance_weighted_nll  # noqa: E402
from duvae.metrics.transformed import estimates, joint_posterior  # noqa: E402
from duvae.training.checkpoints import Snapshot  # noqa: E402
from duvae.training.loop import Training  # noqa: E402
from duvae.vae import VAE  # noqa: E402

GPU = torch.device("cuda", 0)
SIZE = 4
KINDS = ("text", "images")
PRECISIONS = ("float32", "bfloat16")


FEWER = {
    "text": {"sa_vae": {"steps": 2}, "agg_vae": {"max_inner": 2, "window": 1}},
    "images": {"sa_vae": {"steps": 1}, "agg_vae": {"max_inner": 1, "window": 1}},
}
"""Hyperparameters with which a step of these systems has fewer operations."""

WHOLE = {"ae", "vae", "sa_vae", "du_iaf"}
"""Systems of images that run through all phases, also in bfloat16.

The other systems of images only train and measure the validation examples, to save time: texts show the rest.
"""


def described(system: str, kind: str) -> Description:
    """Describes a small model of a system, for texts or for images."""
    text = family.describe(system, dropout_in=0.5, dropout_out=0.3)
    sizes = ImageNetworks(
        size=SIZE, channels=[4], features=8, kernels=[3, 3, 3], width=4, feature_maps=2, latent=family.LATENT
    )
    networks, words = (text.networks, text.words) if kind == "text" else (sizes.model_dump(), 2)

    return Description(system, {**text.hyperparameters, **FEWER[kind].get(system, {})}, text.parts, networks, words)


def examples(kind: str, count: int, seed: int) -> Split:
    if kind == "text":
        return family.documents(count, (4,), seed=seed)
    grey = np.random.default_rng(seed).random((count, SIZE, SIZE), np.float32)

    return Images.of(grey, np.zeros(count), np.zeros(count))


def optimisation(system: str, kind: str, precision: str) -> Optimisation:
    """One epoch, by SGD, or by Adam for those systems of images that run through all phases."""
    base = family.PARAMS.dataset("synthetic").optimisation
    changes = {"batch": 4, "epochs": 1, "warmup": 0, "bfloat16": precision == "bfloat16"}

    return base.changed(
        {**changes, "optimiser": "adam" if kind == "images" and system in WHOLE and precision == "float32" else "sgd"}
    )


Record = Callable[[str, Callable[[], Any]], Any]
"""Function that runs a phase of a given name, and records what the phase did."""


def train(system: str, kind: str, precision: str, record: Record) -> VAE:
    """Builds a model, trains it for two steps, measures it on validation examples, and restores it. Returns the model.

    Args:
        system: Name of the system.
        kind: `text` or `images`.
        precision: `float32` or `bfloat16`. With `bfloat16` only one step is run, since all else is the same.
        record: Function that runs and records a phase.
    """
    model, made = record("build", described(system, kind).build)
    count = 8 if precision == "float32" else 4
    parts = model, made.schedule, made.loop(), examples(kind, count, 1), examples(kind, 4, 2)
    options = optimisation(system, kind, precision), family.PARAMS.evaluation, 1, GPU
    training = record("move", lambda: Training(*parts, *options))
    loop, step = training.loop, training.loop.step
    loop.step = lambda *arguments: record("step", lambda: step(*arguments))
    if precision == "bfloat16":
        model.start()
        training.train_epoch()
    else:
        record("training", training.run)
    if precision == "float32" and (kind == "text" or system in WHOLE):
        snapshot = training.snapshot()
        saved = {name: value.cpu() for name, value in snapshot.tensors.items()}
        values = json.loads(json.dumps(snapshot.values))
        record("restore", lambda: training.restore(Snapshot(saved, values)))
    for parameter in model.parameters():
        assert parameter.is_cuda
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.dtype == torch.float32

    return model


def measure(system: str, kind: str, model: VAE, record: Record) -> None:
    """Measures a model in all ways. What does not depend on the system is run for one system only."""
    split = examples(kind, 2, 3)
    record("features", lambda: features(model, split, GPU))
    if kind == "images" and system not in WHOLE:
        return
    encoded = record("encode", lambda: encode(model, split, GPU, seed=1))
    if encoded.density:
        record("nll", lambda: importance_weighted_nll(model, split, 4, GPU, 1))
    posterior = joint_posterior(model, split, GPU)
    record("measures", lambda: measures(encoded, 0.01))
    record("dimensions", lambda: dimension_measures(model, split, encoded, GPU, 1))
    if posterior.transformed:
        record("transformed", lambda: estimates(posterior, 1, 1))
    if system == "vae":
        record("use", lambda: decoder_use(model, split, encoded, GPU, 1))
        record("sample", lambda: generation.prior(model, 2, family.LATENT, 1, longest=4))


def run(system: str, kind: str, precision: str) -> dict[str, Any]:
    """Runs all phases of one system, and returns the record of each phase, and the first error under `error`."""
    found: dict[str, Any] = {}
    simulation = gpu.simulation()

    def record(phase: str, function: Callable[[], Any]) -> Any:
        """Runs a phase, which may contain steps. The waits of a step count for the step only."""
        before, simulation.waits, simulation.launches = (simulation.waits, simulation.launches), set(), 0
        result = function()
        found[phase] = {"waits": sorted(simulation.waits), "launches": simulation.launches}
        simulation.waits, simulation.launches = before
        return result

    with FakeTensorMode(allow_non_fake_inputs=True), simulation:
        try:
            model = train(system, kind, precision, record)
            if precision == "float32":
                measure(system, kind, model, record)
        except Exception:  # noqa: BLE001 (the test shows the error)
            found["error"] = traceback.format_exc()

    return found


def chosen(kind: str, precision: str) -> list[str]:
    """Returns the names of the systems to run."""
    names = sys.argv[3:] or family.NAMES

    return [name for name in names if name in WHOLE or kind == "text" or precision == "float32"]


def launches_at_full_size() -> dict[str, float]:
    """Counts the kernels that the likelihood of one example starts, at the paper's sizes and with 500 samples."""
    simulation, batch, found = gpu.simulation(), 8, {}
    for dataset, words, shape in (("yahoo", 20_000, (batch, 80)), ("omniglot", 2, (batch, 1, 28, 28))):
        sizes = family.FULL_SIZE.dataset(dataset).networks
        with FakeTensorMode(allow_non_fake_inputs=True), simulation:
            decoder = networks.build(sizes, words, "paper")[1].to(GPU).eval()
            x = torch.zeros(shape, dtype=torch.int64 if dataset == "yahoo" else torch.float32, device=GPU)
            z = torch.zeros(500, batch, sizes.latent, device=GPU)
            simulation.launches = 0
            decoder.log_prob_samples(x, z)
        found[dataset] = simulation.launches / batch

    return found


if __name__ == "__main__":
    results: dict[str, Any] = {
        precision: {
            kind: {system: run(system, kind, precision) for system in chosen(kind, precision)} for kind in KINDS
        }
        for precision in PRECISIONS
    }
    results["full size"] = launches_at_full_size()
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")
