"""Keeps the NLL of each validation example under the model of each trial, so that trials are compared in pairs.

All trials of a study are measured on the same examples, with the same seeds. The differences between two trials vary
much less from example to example than the NLL itself.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, Trial, TrialState

from duvae.data.splits import Array
from duvae.errors import UserError
from duvae.metrics.paired import interval, not_worse_than_best
from duvae.project import array_files

ATTRIBUTE = "nll_of_examples"
"""Name of the attribute of a trial with the NLL of each validation example: one text per seed (see `packed`)."""

FILE = "nll.json"
"""Name of the file, beside study.json, with the NLL of each validation example under each complete trial."""


def packed(nll: Array) -> str:
    """Packs values into a text that the storage of a study can hold: single precision, compressed, in base64.

    Args:
        nll: NLL of each validation example in nats, shape (examples,).
    """
    return base64.b64encode(zlib.compress(np.asarray(nll, "<f4").tobytes())).decode()


def unpacked(text: str) -> Array:
    """Returns the values that `packed` packed, shape (examples,)."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4").astype(np.float64)


def of_study(study: optuna.Study) -> dict[int, list[Array]]:
    """Collects the NLL of each validation example from a study.

    Args:
        study: Study to read.

    Returns:
        The NLL in nats, one array of shape (examples,) per seed, by number of the trial. Only complete trials count.
    """
    return {trial.number: of_trial(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}


def of_trial(trial: Trial | FrozenTrial) -> list[Array]:
    """Reads the NLL of each validation example in nats under the models of a trial: one array per finished seed."""
    return [unpacked(text) for text in trial.user_attrs.get(ATTRIBUTE, [])]


def write(path: Path, study: str, nll: Mapping[int, Sequence[Array]]) -> None:
    """Writes the NLL of each validation example under each trial.

    Args:
        path: File to write.
        study: Name of the study.
        nll: NLL in nats, one array of shape (examples,) per seed, by number of the trial.
    """
    trials = np.array(sorted(nll), np.int32)
    values = np.stack([np.stack(nll[int(trial)]) for trial in trials]) if len(trials) else np.zeros((0, 0, 0))
    array_files.write(path, {"study": study}, {"trial": trials, "nll": values.astype(np.float32)})


def read(path: Path, command: str) -> dict[int, list[Array]]:
    """Reads the file that `write` wrote; without the file, as in results of earlier versions, the result is empty.

    A file of an earlier version has one seed, and no axis for the seeds.

    Args:
        path: File to read.
        command: Command that writes the file, for the message.

    Raises:
        UserError: If the file is broken.
    """
    if not path.exists():
        return {}
    _, arrays = array_files.read(path, command)
    trials, nll = arrays.get("trial"), arrays.get("nll")
    if trials is None or nll is None or trials.ndim != 1 or nll.ndim not in (2, 3) or len(trials) != len(nll):
        raise UserError(f"{path}: expected the NLL of each example and trial. Run '{command}' again.")
    if not np.issubdtype(trials.dtype, np.integer) or not np.issubdtype(nll.dtype, np.floating):
        raise UserError(f"{path}: expected numbers of trials and their NLL. Run '{command}' again.")
    if not np.isfinite(nll).all():
        raise UserError(f"{path}: expected finite numbers. Run '{command}' again.")

    by_seed = nll if nll.ndim == 3 else nll[:, None]

    return {int(trial): list(values.astype(np.float64)) for trial, values in zip(trials, by_seed, strict=True)}


def maybe_best(frame: pd.DataFrame, nll: Mapping[int, Sequence[Array]], feasible_only: bool = True) -> list[int] | None:
    """Finds the complete trials that cannot be distinguished from the one with the lowest NLL.

    The comparisons are paired, with a confidence of 95 % for all of them together. If the trials have one seed, the
    result does not cover the choice of the seed.

    Args:
        frame: Table of trials, as `duvae.search.summary.trials` returns it.
        nll: NLL of each validation example in nats, one array per seed, by number of the trial.
        feasible_only: Whether to leave out trials whose MI does not lie above the bound of the study.

    Returns:
        Numbers of the trials; None if there are none, or if the NLL of the examples is not known for all of them.
    """
    candidates = frame[frame["state"] == "complete"]
    if feasible_only:
        candidates = candidates[candidates["feasible"].astype(bool)]
    numbers = [int(number) for number in candidates["trial"]]
    if not numbers or not set(numbers) <= set(nll) or len({_shape(nll[number]) for number in numbers}) > 1:
        return None

    return [int(key) for key in not_worse_than_best({str(number): nll[number] for number in numbers})]


def _shape(nll: Sequence[Array]) -> tuple[int, ...]:
    return tuple(len(of_seed) for of_seed in nll)


def difference(first: Sequence[Array] | None, second: Sequence[Array] | None) -> dict[str, float] | None:
    """Computes the paired difference in NLL of two trials, with its 95 % interval.

    Args:
        first: NLL of each validation example under the first trial, in nats, one array per seed; None: it is not known.
        second: NLL of the same examples under the second trial with the same seeds; None: it is not known.

    Returns:
        `mean`, `low` and `high` of the first NLL minus the second in nats, and the number of `seeds`; None where the
        two cannot be compared.
    """
    if not first or not second or _shape(first) != _shape(second) or len(first[0]) < 2:
        return None
    found = interval(first, second)

    return {"mean": found.difference, "low": found.low, "high": found.high, "seeds": found.seeds}
