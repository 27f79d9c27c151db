"""Computes compiled and plain losses and trainings in a process of its own, and saves them for test_compiled.py.

Usage: `compiling.py KIND FILE`. KIND is `losses`, `drops`, `trainings` or `shapes`. FILE is the path of the
results.

In the tests, conftest.py makes the functions of duvae check the shapes of their arguments at each call. PyTorch cannot
compile such functions. This process does not load conftest.py, so its functions check no shapes.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import family
import test_image_systems as images
from duvae.errors import Interrupted
from duvae.networks.fast.elementwise import dropout
from duvae.training import compilation
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.state import NoProgress
from duvae.vae import VAE

Tensors = dict[str, Tensor]
OPTIMISATION: dict[str, Any] = {"compiled": True, "learning_rate": 0.1, "epochs": 2, "warmup": 1}


def gradients(model: VAE, loss: Any, x: Tensor | None = None) -> Tensors:
    """Computes the loss of each example of a batch, and the gradient of the mean loss.

    The model's parameters and buffers have their old values afterwards.
    """
    before = family.state(model)
    model.zero_grad()
    torch.manual_seed(3)
    x, weight = (family.batch(length=3), torch.tensor(0.7, dtype=torch.float64)) if x is None else (x, 0.7)
    total = loss(x, weight).total
    total.mean().backward()
    found = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    model.load_state_dict(before)

    return {"total": total.detach(), **found}


def losses() -> dict[str, tuple[Tensors, Tensors]]:
    """Computes the losses and gradients of each system twice: plain and compiled, in double precision.

    The backend `aot_eager` traces a loss as for machine code, but then runs the trace with PyTorch's own operations.
    This takes less time than generating machine code.
    """
    torch._dynamo.config.allow_rnn = True
    results = {}
    for name in family.NAMES:
        torch._dynamo.reset()
        model = family.lively(family.build(name)[0]).double()
        model.start()
        # SA-VAE's gradient steps on z are not compiled, so its compiled loss consists of several graphs, not one.
        compiled = torch.compile(model.loss, backend="aot_eager", dynamic=False, fullgraph=name != "sa_vae")
        results[name] = gradients(model, model.loss), gradients(model, compiled)

    return results


def drops() -> list[Tensor]:
    """Applies compiled dropout with probability 0.25 to a vector of ones, twice, and returns both results."""
    torch.manual_seed(1)
    compiled = torch.compile(lambda x: dropout(x, 0.25, True), backend="aot_eager", fullgraph=True)

    return [compiled(torch.ones(100_000)) for _ in range(2)]


class StopAt(NoProgress):
    """Progress display that shows nothing, and stops the training after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        self.left -= 1
        return self.left == 0


def trainings(state: Path) -> dict[str, Tensors]:
    """Trains the VAE four times, and returns the weights after each training.

    The trainings `plain` and `compiled` have no dropout. The trainings `whole` and `resumed` are compiled and have
    dropout. `resumed` is interrupted after three steps and continues from its checkpoint.

    Args:
        state: Path of the checkpoint.
    """
    torch.set_num_threads(1)
    documents: dict[str, Any] = {
        "train": family.documents(16, (4,), seed=2),
        "valid": family.documents(8, (4,), seed=3),
        **OPTIMISATION,
    }

    def run(training: Training) -> Tensors:
        training.run()
        return family.state(training.model)

    results = {
        "plain": run(family.training("vae", dropout=0.0, **documents | {"compiled": False})),
        "compiled": run(family.training("vae", dropout=0.0, **documents)),
        "whole": run(family.training("vae", **documents)),
    }
    interrupted = family.training("vae", **documents, progress=StopAt(3))
    interrupted.checkpoint = Checkpoint(state, 1e9)
    try:
        interrupted.run()
    except Interrupted:
        resumed = family.training("vae", **documents)
        resumed.checkpoint = interrupted.checkpoint
        results["resumed"] = run(resumed)

    return results


Compared = tuple[int, list[tuple[Tensors, Tensors]]]
"""The number of compiled graphs, and the plain and the compiled loss of each batch, with their gradients."""


def compared(system: str, batches: list[Tensor], build: Any, compiled: Any) -> Compared:
    """Computes the losses of batches of several shapes, plain and compiled.

    Args:
        system: Name of the system.
        batches: The batches.
        build: Function from the name of a system to a model of it and the system.
        compiled: Function that compiles the loss of a model with a backend, and returns the compiled loss.
    """
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    plain, model = (build(system)[0].double() for _ in range(2))
    plain.start()
    model.start()
    loss = compiled(model, counter)

    found = [(gradients(plain, plain.loss, x), gradients(model, loss, x)) for x in batches]

    return counter.frame_count, found


def with_parts(model: VAE, backend: Any) -> Any:
    compilation.compile_parts(model, backend)

    return model.loss


def shapes() -> dict[str, Compared]:
    """Compiles losses for batches of many shapes.

    The parts that a GPU compiles read six lengths of sentences, and batches of odd sizes down to 1. The whole loss is
    compiled for the most frequent of ten shapes, of which eight occur twice.
    """
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # otherwise a ninth shape would silently run uncompiled
    lengths = (3, 4, 5, 6, 8, 9, 4)
    texts = [family.batch(count, length) for count, length in zip((8, 7, 5, 3, 2, 1, 8), lengths, strict=True)]
    pictures = [images.batch(count).double() for count in (8, 7, 5, 3, 2, 1, 6)]
    short = [family.batch(count, length) for count in range(2, 7) for length in (3, 4)]
    frequent = [tuple(x.shape) for x in (*short[:8], *short)]

    return {
        "parts of texts": compared("vae", texts, family.build, with_parts),
        "parts of images": compared("du_vae", pictures, images.build, with_parts),
        "whole": compared(
            "vae",
            short,
            family.build,
            lambda model, backend: compilation.compile_whole(model, frequent, backend=backend),
        ),
    }


if __name__ == "__main__":
    kind, file = sys.argv[1], Path(sys.argv[2])
    kinds = {
        "losses": losses,
        "drops": drops,
        "trainings": lambda: trainings(file.with_suffix(".state")),
        "shapes": shapes,
    }
    torch.save(kinds[kind](), file)
