"""Starts MLflow's pages on this machine's loopback address, and prints links that open the runs and their charts.

Command: `python -m pipelines.mlflow_ui [--port N]`. It runs until Ctrl-C.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from duvae import streams
from duvae.errors import UserError
from pipelines import signals, watchdog
from pipelines.arguments import Parser
from pipelines.ports import HOST, number, require_free
from pipelines.servers import PATIENCE, is_healthy, terminate

PORT = 5000
"""Port on which the pages are served, if the user does not choose another one."""

LOG_LINES = 10
"""Number of lines from the end of the server's log that an error shows."""


REGISTERED = "registered models, with their aliases"
"""Heading of the link to the registered models of all data sets."""


def addresses(root: Path, port: int) -> dict[str, dict[str, str]]:
    """Collects links to the runs of each data set, to the charts of these runs, and to the models.

    Args:
        root: Folder of the project, with the store of MLflow.
        port: Port of the server, which the links name.

    Returns:
        The links by name, for each experiment that has runs, in the order of their names; then, under `REGISTERED`,
        the link to the registered models, if there are any.

    Raises:
        UserError: If MLflow's store cannot be opened.
    """
    from duvae.tracking import views
    from duvae.tracking.store import connect, store_errors

    client, found = connect(root), {}
    with store_errors(client.tracking_uri):
        for experiment in sorted(client.search_experiments(), key=lambda each: each.name):
            if client.search_runs([experiment.experiment_id], max_results=1):
                found[experiment.name] = views.addresses(experiment.experiment_id)
        if client.search_registered_models(max_results=1):
            found[REGISTERED] = {"all": f"/models?{views.WORKFLOW}"}

    return {
        group: {name: f"http://{HOST}:{port}/#{address}" for name, address in of_group.items()}
        for group, of_group in found.items()
    }


def links(root: Path, port: int) -> list[str]:
    """Writes the links of `addresses` in lines for the terminal: a heading for each group, then one line for each link.

    Args:
        root: Folder of the project, with the store of MLflow.
        port: Port of the server, which the links name.

    Raises:
        UserError: If MLflow's store cannot be opened.
    """
    lines = []
    for group, of_group in addresses(root, port).items():
        lines += [f"{group}:", *(f"  {name:6}  {address}" for name, address in of_group.items())]

    return lines


def serve(root: Path, port: int) -> int:
    """Starts the server, prints the links once it answers, and waits until it ends.

    Args:
        root: The project's folder.
        port: Port of the server.

    Returns:
        The exit status of the server; after an interruption, 128 + the number of the signal.

    Raises:
        UserError: If the port is taken, if MLflow's store cannot be opened, or if the server does not answer in time.
    """
    require_free(port, "make ui PORT=N")
    lines = links(root, port)
    watchdog.start(mark_children=True)
    program = str(Path(sys.executable).with_name("mlflow"))
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [program, "ui", "--host", HOST, "--port", str(port), "--workers", "1"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            streams.say("MLflow starts ...")
            _wait(port, server, log)
            print("\n".join(lines) or "There are no runs yet; 'make' makes some.")
            print(f"All runs: http://{HOST}:{port}. Ctrl-C ends the server.", flush=True)
            return server.wait()
        except KeyboardInterrupt:
            return signals.exit_status()
        finally:
            terminate(server)


def _wait(port: int, server: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Waits until the server answers, or raises a `UserError` with the end of its log."""
    deadline = time.monotonic() + PATIENCE
    while not is_healthy(f"http://{HOST}:{port}"):
        if server.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            end = "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES:])
            why = "has ended" if server.poll() is not None else f"does not answer within {PATIENCE:.0f} seconds"
            raise UserError(f"MLflow's server {why}. Its last messages:\n{end}\nRun the same command again.")
        time.sleep(0.2)


def main() -> None:
    """Reads the command line, and runs the server."""
    parser = Parser(prog="python -m pipelines.mlflow_ui", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=number, default=PORT, metavar="N", help=f"port of the pages; default: {PORT}")
    signals.install()
    try:
        status = serve(Path.cwd(), parser.parse_args().port)
    except UserError as error:
        streams.print_error(error)
        sys.exit(2)
    except KeyboardInterrupt:
        signals.leave()
    if signals.was_interrupted():
        signals.leave()
    sys.exit(status)


if __name__ == "__main__":
    main()
