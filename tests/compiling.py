"""A process that compares compiled with plain losses and trainings, for test_compiled.py: compiling.py KIND FILE.

PyTorch cannot compile functions that check the shapes of their arguments at each call, as they do in the tests. This
process checks none.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import family
from duvae.errors import Interrupted
from duvae.networks.fast.elementwise import dropout
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import NoProgress, Training
from duvae.vae import VAE

Tensors = dict[str, Tensor]
OPTIMISATION: dict[str, Any] = {"compiled": True, "learning_rate": 0.1, "epochs": 2, "warmup": 1}


def gradients(model: VAE, loss: Any) -> Tensors:
    """The loss of each sentence and the gradient of their mean. Parameters and buffers stay as they are."""
    before = family.state(model)
    model.zero_grad()
    torch.manual_seed(3)
    total = loss(family.batch(length=3), torch.tensor(0.7, dtype=torch.float64)).total
    total.mean().backward()
    found = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    model.load_state_dict(before)

    return {"total": total.detach(), **found}


def losses() -> dict[str, tuple[Tensors, Tensors]]:
    """Plain and compiled losses and gradients of each system, in double precision.

    PyTorch traces them as for machine code, and then runs the traces with its own operations, which takes less time.
    """
    torch._dynamo.config.allow_rnn = True
    results = {}
    for name in family.NAMES:
        torch._dynamo.reset()
        model = family.lively(family.build(name)[0]).double()
        model.start()
        # The steps of SA-VAE are not compiled, so its loss consists of several parts.
        compiled = torch.compile(model.loss, backend="aot_eager", dynamic=False, fullgraph=name != "sa_vae")
        results[name] = gradients(model, model.loss), gradients(model, compiled)

    return results


def drops() -> list[Tensor]:
    """Ones after dropout of a quarter of them, twice."""
    torch.manual_seed(1)
    compiled = torch.compile(lambda x: dropout(x, 0.25, True), backend="aot_eager", fullgraph=True)

    return [compiled(torch.ones(100_000)) for _ in range(2)]


class StopAt(NoProgress):
    """Stops the training after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        self.left -= 1
        return self.left == 0


def trainings(state: Path) -> dict[str, Tensors]:
    """Weights after trainings of the VAE: plain and compiled without dropout, whole and resumed with dropout."""
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


if __name__ == "__main__":
    kind, file = sys.argv[1], Path(sys.argv[2])
    kinds = {"losses": losses, "drops": drops, "trainings": lambda: trainings(file.with_suffix(".state"))}
    torch.save(kinds[kind](), file)
