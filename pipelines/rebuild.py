"""`python -m pipelines.rebuild`: the command that rebuilds the stages that are out of date, several at a time."""

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from duvae import streams
from duvae.cli import TELEMETRY_OFF
from duvae.cli.usage import program
from duvae.errors import UserError, as_user_error
from pipelines import prefect_api, prefect_home, signals, watchdog

# Prefect reads these variables when it is imported. Prefect's log on the console would disturb the live table, so the
# console shows only critical messages. Prefect's page shows the whole log.
os.environ.update(TELEMETRY_OFF)
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")

SlotsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Number of tasks at a time per GPU, or on the CPU. Default: as many as fit, see docs/rebuild.md.",
    ),
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", help="'cpu', or a list of GPUs such as 0,1. Default: all GPUs, or the CPU if there is none."
    ),
]


def plan(targets: list[str], slots: int | None, devices: str | None, verbose: bool = False) -> str:
    """The text of `--plan`: which stages would run, and for how long.

    Args:
        targets: Stages to rebuild; empty: all stages.
        slots: Number of tasks at a time on each GPU, or on the CPU. A task runs one stage. None: `pipelines.slots`
            chooses it for each GPU; without a GPU, as many tasks as the number of cores divided by the number of
            threads of a task.
        devices: `cpu`, or GPUs separated by commas; None: all GPUs, or the CPU if there is no GPU.
        verbose: Whether the text also lists the stages one by one.
    """
    from duvae import config
    from duvae.project import job_list, parameters
    from pipelines import display
    from pipelines.devices import choose
    from pipelines.forecast import forecast
    from pipelines.stage_graph import StageGraph

    root = Path.cwd()
    params = config.load(root / "params.yaml")
    job_list.check(params, root / job_list.JOBS)
    parameters.write(params, root)
    chosen = choose(params.threads, slots, devices, check=False)
    with closing(StageGraph(root, targets)) as graph:
        return display.plan(graph, forecast(graph, params, chosen, params.threads, slots), verbose)


def workers(scheduler: str) -> int:
    """The number of tasks that the workers of a Dask cluster can run at a time.

    Args:
        scheduler: Address of the Dask scheduler.

    Raises:
        UserError: If no scheduler answers, if the certificates for TLS cannot be used, or if no worker has the resource
            GPU.
    """
    from distributed import Client
    from distributed.security import Security

    try:
        context = Security().get_connection_args("client")["ssl_context"]  # type: ignore[no-untyped-call]
    except OSError as error:  # this includes errors of the library ssl
        raise UserError(
            f"--scheduler {scheduler}: the certificate or the key for TLS cannot be read ({error}). Correct the"
            " variables DASK_DISTRIBUTED__COMM__TLS__..., which docs/machines.md describes."
        ) from error
    encrypted = scheduler.startswith("tls://")
    if encrypted and context is None:
        raise UserError(
            f"--scheduler {scheduler}: expected a certificate and a key for TLS; found none. Set the variables"
            " DASK_DISTRIBUTED__COMM__TLS__..., which docs/machines.md describes."
        )
    if context is not None and not encrypted:
        raise UserError(
            f"--scheduler {scheduler}: expected tls://HOST:PORT, since Dask's settings name a certificate for TLS."
        )
    try:
        with Client(scheduler, timeout=30) as client:  # type: ignore[no-untyped-call]
            found = client.scheduler_info(n_workers=-1)["workers"].values()
    except OSError as error:
        raise UserError(
            f"--scheduler {scheduler}: no Dask scheduler answers there ({error}). Start one, or correct the address."
        ) from error
    slots = sum(int(worker["resources"].get("GPU", 0)) for worker in found)
    if not slots:
        raise UserError(
            f"--scheduler {scheduler}: expected workers with the resource GPU; none of its {len(found)} workers has it."
            " docs/machines.md has the command that starts a worker."
        )

    return slots


def command(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="STAGE", help="Stages to rebuild. Default: all.")
    ] = None,
    slots: SlotsOption = None,
    devices: DevicesOption = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure, run all stages that do not need the failed one.")
    ] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Print how many stages would run and for how long, and run nothing.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="With --plan: list all stages, too.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=1, help="Time limit of each task.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address of a Dask scheduler whose workers run the tasks.")
    ] = None,
    remote: Annotated[
        str,
        typer.Option(metavar="NAME", help="With --scheduler: DVC remote through which the machines exchange results."),
    ] = "",
) -> None:
    """Rebuild all stages that are out of date, several at a time, and record the results as 'dvc repro' does.

    The results are the same, bit for bit, as those of 'dvc repro'. A task runs one stage. After an interruption, run
    the same command again: it keeps all finished stages.
    """
    if verbose and not only_plan:
        raise UserError("--verbose: expected --plan beside it. Add --plan, or leave out --verbose.")
    try:
        streams.say("Reading params.yaml and the graph of the stages ...")
        if only_plan:
            print(plan(targets or [], slots, devices, verbose))
        else:
            run_flow(targets or [], slots, devices, keep_going, timeout, scheduler, remote)
    except KeyboardInterrupt:
        stop()


def run_flow(
    targets: list[str],
    slots: int | None = None,
    devices: str | None = None,
    keep_going: bool = False,
    timeout: float | None = None,
    scheduler: str | None = None,
    remote: str = "",
) -> None:
    """Runs the rebuild as a flow of Prefect. The arguments are those of `command`.

    Raises:
        UserError: If the rebuild cannot run. After a failed task, the process ends with the exit status 1.
    """
    prefect_home.use(Path.cwd())
    watchdog.start(mark_children=True)  # before Prefect starts its temporary server
    if url := prefect_api.chosen():
        prefect_api.require(url)
    import httpx

    from pipelines import flow

    rebuild = flow.rebuild
    options: dict[str, Any] = {"targets": targets, "keep_going": keep_going, "timeout": timeout}
    if scheduler is None:
        options |= {"slots": slots, "devices": devices}
    else:
        from prefect_dask.task_runners import DaskTaskRunner

        rebuild = rebuild.with_options(task_runner=DaskTaskRunner(address=scheduler))  # type: ignore[arg-type]
        options["cluster"] = {"slots": slots or workers(scheduler), "remote": remote}
    try:
        rebuild(**options)
    except flow.RebuildFailedError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if "ephemeral Prefect API server" not in str(error):  # Prefect has no exception of its own for this
            raise
        raise UserError(
            f"the temporary Prefect server did not start ({error}). Expected a disk with free space, and"
            " folders that you may write to. Correct this, then run the same command again."
        ) from error
    except httpx.HTTPError as error:
        raise UserError(
            f"{url or 'the temporary Prefect server'}: the server has stopped answering ({error}). Finished stages are"
            " kept; run the same command again to continue."
        ) from error


def stop() -> NoReturn:
    """Ends the command after an interruption."""
    streams.say("interrupted: finished stages are kept; run the same command again to continue")
    signals.leave()


def main() -> None:
    """Runs the command."""
    serve(command, "python -m pipelines.rebuild")


def serve(function: Callable[..., None], name: str) -> None:
    """Runs a function as a command with the options that its arguments declare.

    The exit status is 2 after a `UserError`, 1 after a failed task, and 128 + the signal's number after an
    interruption.

    Args:
        function: The function.
        name: Name of the command in its help.
    """
    # By default, SIGTERM and SIGHUP leave Prefect's temporary server running.
    signals.install()
    try:
        program(function)(prog_name=name)
    except UserError as error:
        _refuse(error)
    except OSError as error:
        if signals.was_interrupted():  # the write to a terminal that is gone
            stop()
        if refusal := as_user_error(error):
            _refuse(refusal)
        raise


def _refuse(error: UserError) -> NoReturn:
    """Ends the command after an error that the user can correct."""
    streams.print_error(error)
    sys.exit(2)


if __name__ == "__main__":
    main()
