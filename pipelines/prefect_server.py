"""`make serve` runs a Prefect server on 127.0.0.1, creates the deployments of prefect.yaml, and runs a worker.

A deployment lets the server start rebuilds, on request or every night. The worker runs them. Ctrl-C, SIGTERM or SIGHUP
ends the server and the worker. If the environment variable PREFECT_API_URL names a server, the command uses that server
and starts no server of its own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from duvae import streams
from duvae.cli import TELEMETRY_OFF
from duvae.errors import UserError, as_user_error
from pipelines import owners, ports, prefect_api, prefect_home, signals, watchdog
from pipelines.arguments import Parser
from pipelines.servers import PATIENCE, is_healthy, terminate

POOL = "duvae"
"""Name of the Prefect work pool from which the worker takes flow runs."""

FLOW = "rebuild"
"""Name of the flow of a rebuild."""


def serve(port: int) -> int:
    """Starts a server if needed, creates the deployments, and runs a worker until an interruption.

    Args:
        port: Port of the server, if this function starts one.

    Returns:
        The exit status of the worker; after an interruption, 128 + the number of the signal.

    Raises:
        UserError: If no server answers, or a deployment fails.
    """
    root = Path.cwd()
    owners.end_left_over()
    prefect_home.use(root)
    watchdog.start(mark_children=True)
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **TELEMETRY_OFF,
        "DUVAE_PROJECT": str(root),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    server, worker = None, None
    url = prefect_api.chosen()
    try:
        if url is not None:
            prefect_api.require(url)
        else:
            url = f"http://{ports.HOST}:{port}/api"
            if is_healthy(url):
                raise UserError(
                    f"port {port} is taken: a Prefect server runs there. Set PREFECT_API_URL={url} to use it, or choose"
                    " another with --port."
                )
            ports.require_free(port, "--port")
            command = ["prefect", "server", "start", "--host", ports.HOST, "--port", str(port)]
            environment["PREFECT_SERVER_UI_API_URL"] = url  # otherwise Prefect's page calls port 4200
            server = subprocess.Popen(command, env=environment, start_new_session=True)
            _wait(url, server)
        environment["PREFECT_API_URL"] = url
        _end_killed(url)
        for arguments in (
            ["work-pool", "create", POOL, "--type", "process", "--overwrite"],
            ["--no-prompt", "deploy", "--all"],
        ):
            if subprocess.run(["prefect", *arguments], env=environment, check=False).returncode:
                raise UserError(f"'prefect {' '.join(arguments)}' failed at {url}; its messages are above.")
        print(
            f"The page: {url.removesuffix('/api')}, 'Deployments', 'rebuild'. Ctrl-C ends server and worker.",
            flush=True,
        )
        command = ["prefect", "worker", "start", "--pool", POOL, "--limit", "1", "--install-policy", "never"]
        worker = subprocess.Popen(command, env=environment, start_new_session=True)
        return worker.wait()
    except KeyboardInterrupt:
        return signals.exit_status()
    finally:
        for process in (worker, server):
            if process is not None:
                terminate(process)


def _end_killed(url: str) -> None:
    """Ends the runs of killed rebuilds on a server. A run that seems to go on would keep the next one from its start.

    Args:
        url: Address of the server's API.

    Raises:
        UserError: If the server does not answer.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pipelines import flow_runs

    with temporary_settings({PREFECT_API_URL: url}):
        try:
            flow_runs.end_killed(FLOW)
        except httpx.HTTPError as error:
            raise UserError(f"{url}: the server has stopped answering ({error}). Run the command again.") from error


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    """Waits until our server is healthy, or raises a `UserError` if it has ended or does not answer in time."""
    deadline = time.monotonic() + PATIENCE
    while not is_healthy(url):
        if server.poll() is not None:
            raise UserError(
                f"{url}: the server ended with exit status {server.returncode}; its messages are above. If its port is"
                " taken, choose another with --port."
            )
        if time.monotonic() > deadline:
            raise UserError(f"{url}: the server does not answer within {PATIENCE:.0f} seconds. Run the command again.")
        time.sleep(0.2)


def main() -> None:
    """Reads the command line, and runs the server and the worker."""
    parser = Parser(prog="python -m pipelines.prefect_server", description=__doc__)
    parser.add_argument(
        "--port", type=ports.number, default=4200, metavar="N", help="port of the server; default: 4200"
    )
    signals.install()
    try:
        status = serve(parser.parse_args().port)
        if signals.was_interrupted():
            signals.leave()
        sys.exit(status)
    except UserError as error:
        streams.print_error(error)
        sys.exit(2)
    except OSError as error:
        if signals.was_interrupted():  # the write to a terminal that is gone
            signals.leave()
        if not (refusal := as_user_error(error)):
            raise
        streams.print_error(refusal)
        sys.exit(2)


if __name__ == "__main__":
    main()
