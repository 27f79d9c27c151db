"""`make serve`: a Prefect server on the loopback, the deployments of prefect.yaml, and a worker that runs them here.

Ctrl-C or SIGTERM ends all three.

Where PREFECT_API_URL names a server, that one is used and none is started.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from duvae.cli import TELEMETRY_OFF
from duvae.errors import UserError

POOL = "duvae"
PATIENCE = 180.0
"""Seconds until a server must answer."""

GRACE = 15.0
"""Seconds that a process has to end by itself."""


def answers(url: str) -> bool:
    """Whether a server says that it is well."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:  # noqa: S310 (the user's own server)
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def serve(port: int) -> int:
    """Serves until it is interrupted; returns the worker's exit status.

    Args:
        port: Of the server, where one is started.

    Raises:
        UserError: Where no server answers, or a deployment fails.
    """
    root = Path.cwd()
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **TELEMETRY_OFF,
        "DUVAE_PROJECT": str(root),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    server, started = None, None
    url = os.environ.get("PREFECT_API_URL")
    try:
        if url is None:
            url = f"http://127.0.0.1:{port}/api"
            if answers(url):
                raise UserError(
                    f"{url}: a server answers there already. Set PREFECT_API_URL to it, or give another --port."
                )
            command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
            environment["PREFECT_SERVER_UI_API_URL"] = url  # what the page asks; it would take port 4200 for granted
            server = subprocess.Popen(command, env=environment, start_new_session=True)
        environment["PREFECT_API_URL"] = url
        _await(url, server)
        for arguments in (
            ["work-pool", "create", POOL, "--type", "process", "--overwrite"],
            ["--no-prompt", "deploy", "--all"],
        ):
            if subprocess.run(["prefect", *arguments], env=environment, check=False).returncode:
                raise UserError(f"'prefect {' '.join(arguments)}' failed at {url}; what it said stands above.")
        print(f"The page: {url.removesuffix('/api')}, 'Deployments', 'rebuild'. Ctrl-C ends all of it.", flush=True)
        worker = ["prefect", "worker", "start", "--pool", POOL, "--limit", "1", "--install-policy", "never"]
        started = subprocess.Popen(worker, env=environment, start_new_session=True)
        return started.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        for process in (started, server):
            if process is not None:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it has started: a worker alone would wait for its flow, for hours."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        family = [*first.children(recursive=True), first]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(family, GRACE)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def _await(url: str, server: subprocess.Popen[bytes] | None) -> None:
    ends = time.monotonic() + PATIENCE
    while not answers(url):
        if time.monotonic() > ends or (server is not None and server.poll() is not None):
            raise UserError(f"{url}: no Prefect server answers. Start it, or unset PREFECT_API_URL: one is started.")
        time.sleep(0.2)


def main() -> None:
    """Reads the port, and serves."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m pipelines.server", description=__doc__)
    parser.add_argument("--port", type=int, default=4200)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(serve(parser.parse_args().port))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
