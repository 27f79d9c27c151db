"""The command behind `make`: rebuilds Figure 1 of the paper on all cores or GPUs, and prints its results.

Command: `python -m pipelines.figure1`. It runs the stages of Figure 1 that are out of date, as `pipelines.rebuild`
does. The results are the same, bit for bit, as those of `dvc repro figure1`.
"""

from collections import Counter
from contextlib import closing
from pathlib import Path

from duvae import config, streams
from duvae.config import FIGURE1_DATASET, Params
from pipelines import early, rebuild
from pipelines.rebuild import DevicesOption, SlotsOption

TARGET = "figure1"
"""The stage that draws Figure 1."""

SECTION = "4.3"
"""The section of the paper whose claims are about Figure 1."""


def command(slots: SlotsOption = None, devices: DevicesOption = None) -> None:
    """Rebuild Figure 1: train the five systems on the synthetic data, several at a time, and print the results.

    After an interruption, run the same command again: it keeps all finished stages, and a training continues.
    """
    try:
        root = Path.cwd()
        params = config.load(root / "params.yaml")
        streams.say(early.intention(params))
        streams.say(early.first_forecast(params, slots, devices))
        streams.say(forecast(params, root, slots, devices))
        rebuild.run_flow([TARGET], slots, devices)
        conclude(params, root)
    except KeyboardInterrupt:
        rebuild.stop()


def forecast(params: Params, root: Path, slots: int | None, devices: str | None) -> str:
    """Says which stages have to run, and how long they take, in one line.

    Args:
        params: All parameters of params.yaml.
        root: The project's folder.
        slots: Number of tasks at a time on each GPU, or on the CPU; None: as many as fit.
        devices: `cpu`, or GPUs separated by commas; None: all GPUs, or the CPU if there is no GPU.
    """
    from duvae.project import job_list, parameters
    from pipelines.devices import choose
    from pipelines.durations import duration
    from pipelines.forecast import forecast as foresee
    from pipelines.stage_graph import StageGraph

    job_list.check(params, root / job_list.JOBS)
    parameters.write(params, root)
    with closing(StageGraph(root, [TARGET])) as graph:
        ahead = foresee(graph, params, choose(params.threads, slots, devices, tell=False), params.threads, slots)
        waiting = ahead.scheduler.progress.waiting
        kinds = Counter(graph.stages[name].kind for name in waiting)
    if not waiting:
        return "Nothing to train: all results are there, or in DVC's cache"
    parts = [f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items()]
    places = len(ahead.sharing.devices)
    at_once = f"{places} at a time" if places > 1 else "one after the other"
    unknown = sum(name not in ahead.seconds for name in waiting)
    time = f"about {duration(ahead.makespan)}" if unknown < len(waiting) else "of unknown duration"
    more = f", and {unknown} of unknown duration" if 0 < unknown < len(waiting) else ""

    return f"{len(waiting)} tasks to run, {at_once}: {', '.join(parts)}; {time}{more}"


def conclude(params: Params, root: Path) -> None:
    """Prints the results, the claims of the paper about them, and where to look next.

    Args:
        params: All parameters of params.yaml.
        root: The project's folder.
    """
    from duvae.commands import results as command_results
    from duvae.report import claims, results

    jobs = params.figure1_jobs()
    print()
    command_results.show(params, jobs, root=root)
    print("\nWhat the paper says about them, and whether these results support it:")
    for line in claims.read_lines(params, {FIGURE1_DATASET: results.read(params, jobs, root)}, root):
        if line.claim.section == SECTION:
            print(f"- {line.finding.verdict}: {line.claim.text}")
    print(f"\nThe page:  {(root / 'reports' / 'figure1.html').as_uri()}")
    print("The runs:  make ui")


if __name__ == "__main__":
    rebuild.serve(command, "python -m pipelines.figure1")
