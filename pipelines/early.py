"""Says what a rebuild of Figure 1 will do before DVC is imported and its graph is read, which take some seconds.

Which results exist already is known only afterwards. So the time is that of a rebuild from nothing.
"""

from pathlib import Path

from duvae.config import FIGURE1_DATASET, Params
from duvae.errors import UserError
from duvae.report.names import label


def intention(params: Params) -> str:
    """Says what the command does: the systems, the data and the greatest number of epochs.

    Args:
        params: All parameters of params.yaml.

    Raises:
        UserError: If params.yaml leaves Figure 1 out.
    """
    if params.figure1 is None:
        raise UserError(
            "params.yaml: figure1: expected a seed for Figure 1; found null. Write 'figure1: {seed: 1}', or run 'make"
            " rebuild' for the other results."
        )
    jobs = params.figure1_jobs()
    *systems, last = [label(params.setting(job.setting).system) for job in jobs]
    epochs = sorted({params.optimisation(job.setting, job.dataset).epochs for job in jobs})
    most = f"{epochs[0]:,}" if len(epochs) == 1 else f"{epochs[0]:,} to {epochs[-1]:,}"

    return f"Figure 1: {', '.join(systems)} and {last} on {FIGURE1_DATASET}, at most {most} epochs each"


def first_forecast(params: Params, slots: int | None = None, devices: str | None = None, root: Path = Path()) -> str:
    """Says how many models have to be trained and measured if no result exists yet, and how long this takes.

    The time is that of the longest training with its evaluation, or that of all of them on all devices if it is longer.
    It comes from the records of earlier runs or, for stages without one, from `default_durations.yaml`.

    Args:
        params: All parameters of params.yaml.
        slots: Number of tasks at a time on each GPU, or on the CPU; None: as many as fit.
        devices: `cpu`, or GPUs separated by commas; None: all GPUs, or the CPU if there is no GPU.
        root: Folder of the project.

    Raises:
        UserError: If `slots` or `devices` has a wrong value, or if the GPUs cannot be used.
    """
    from pipelines.devices import choose
    from pipelines.durations import default_durations, duration, recorded_seconds
    from pipelines.gpu_times import card

    jobs, chosen = params.figure1_jobs(), choose(params.threads, slots, devices, tell=False)
    known = default_durations(params, card(chosen[0].model) if chosen[0].cuda else None)
    for job in jobs:
        known |= recorded_seconds(job, chosen[0].cuda, root)
    each = [sum(known.get(f"{kind}@{job.name}", 0.0) for kind in ("train", "evaluate")) for job in jobs]
    seconds = max(*each, sum(each) / len(chosen))
    time = f"about {duration(seconds)}" if seconds else "of unknown duration"
    at_once = f", {len(chosen)} at a time" if len(chosen) > 1 else ", one after the other"

    return f"{len(jobs)} models to train and to measure{at_once}: {time}, less if some results exist. Looking for them"
