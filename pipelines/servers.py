"""Asks whether a server answers, and ends it: what the commands that start a server of Prefect or MLflow share."""

import contextlib
import http.client
import subprocess
import urllib.request

import psutil

PATIENCE = 180.0
"""Largest number of seconds to wait until the server is healthy."""

GRACE = 15.0
"""Seconds between SIGTERM and SIGKILL. A process may end by itself in this time."""


def is_healthy(url: str) -> bool:
    """Whether a server of Prefect or MLflow answers and is healthy.

    Args:
        url: Address of the API of a Prefect server, or of an MLflow server.
    """
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:  # noqa: S310 (the user's own server)
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Terminates a process and all its children.

    If only the worker received the signal, it would wait for the end of the flow that it runs, for hours.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(family, GRACE)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()
