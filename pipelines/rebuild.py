"""`python -m pipelines.rebuild`: what is out of date, side by side."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from duvae.cli import TELEMETRY_OFF
from duvae.errors import UserError

# Prefect reads these when it is imported. Its own lines would be drawn over the table; its page has them all.
os.environ.update(TELEMETRY_OFF)
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def plan(targets: list[str], slots: int | None, devices: str | None) -> str:
    """What would run, and for how long."""
    import duvae.project.job_list
    from duvae import config
    from duvae.project import parameters
    from pipelines import default_durations, estimates
    from pipelines.devices import choose
    from pipelines.graph import Graph
    from pipelines.scheduler import Engine

    root = Path.cwd()
    params = config.load(root / "params.yaml")
    duvae.project.job_list.check(params, root / duvae.project.job_list.JOBS)
    parameters.write(params, root)
    chosen = choose(params.threads, slots, devices)
    graph = Graph(root, targets)
    cuda = chosen[0].cuda
    known = estimates.estimates(graph, cuda, default_durations.priors(params, cuda))
    engine = Engine(graph, known)
    engine.resolve()
    said = estimates.plan(graph, engine.progress.waiting, engine.progress.left, known, chosen)
    graph.close()

    return said


def workers(scheduler: str) -> int:
    """The jobs that the workers of a Dask scheduler can run at a time.

    Raises:
        UserError: Where it has no worker with GPU among its resources.
    """
    from distributed import Client

    try:
        with Client(scheduler, timeout=30) as client:  # type: ignore[no-untyped-call]
            found = client.scheduler_info(n_workers=-1)["workers"].values()
    except OSError as error:
        raise UserError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error}).") from error
    slots = sum(int(worker["resources"].get("GPU", 0)) for worker in found)
    if not slots:
        raise UserError(
            f"--scheduler {scheduler}: none of its {len(found)} workers has GPU among its resources."
            " Expected workers started with 'dask worker ADDRESS --nthreads 1 --resources GPU=1'."
        )

    return slots


def rebuild(
    targets: Annotated[list[str] | None, typer.Argument(metavar="[TARGET]...", help="Stages; none: all.")] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Jobs at a time on each GPU, or on the CPU. On the CPU: cores / threads."
        ),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="LIST", help="'cpu', or GPUs like 0,1. Otherwise all GPUs that are found.")
    ] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Run what does not need what failed.")] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what would run and for how long; run nothing.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=1, help="What one job may take.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler: its workers run the jobs.")
    ] = None,
    remote: Annotated[
        str, typer.Option(metavar="NAME", help="With --scheduler: the DVC remote between the machines.")
    ] = "",
) -> None:
    """Rebuild what is out of date, side by side, and record it: the same bits as 'dvc repro'.

    Killed at any point and started again, it goes on with what had not ended.
    """
    if only_plan:
        print(plan(targets or [], slots, devices))
        return
    from pipelines.flow import RebuildFailedError
    from pipelines.flow import rebuild as flow

    chosen: dict[str, Any] = {"targets": targets or [], "keep_going": keep_going, "timeout": timeout}
    if scheduler is None:
        chosen |= {"slots": slots, "devices": devices}
    else:
        from prefect_dask.task_runners import DaskTaskRunner

        flow = flow.with_options(task_runner=DaskTaskRunner(address=scheduler))  # type: ignore[arg-type]
        chosen["cluster"] = {"slots": slots or workers(scheduler), "remote": remote}
    try:
        flow(**chosen)
    except RebuildFailedError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: what had ended is kept; the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def main() -> None:
    """A user's mistake ends with a message and 2, a failed job with 1, an interruption with 130."""
    # Killed at once it would leave the throwaway server running; and a shell's job in the background ignores Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=HELP
    )
    app.command()(rebuild)
    try:
        app(prog_name="python -m pipelines.rebuild")
    except UserError as error:
        first, *more = str(error).splitlines()
        print("\n       ".join([f"error: {first}", *more]), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
