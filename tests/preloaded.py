"""A virtual environment for tests whose commands `duvae` start at once.

A server imports the package and its libraries once. The program `duvae` of the environment sends each command line to
the server, which forks a process for it. So a command spends no time on imports, and otherwise does the same.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

CLIENT = """\
#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = [sys.argv[1:], os.getcwd(), dict(os.environ)]
    socket.send_fds(server, [b"c"], [0, 1, 2])
    server.sendall(json.dumps(call).encode())
    server.shutdown(socket.SHUT_WR)
    status = server.recv(1)
sys.exit(status[0] if status else 'error: the process that ran this command was killed')
"""
"""The program `duvae`: it sends its files, arguments, folder and environment to the server, and gets an exit status."""

UNUSED = ("duvae.__main__", "duvae.commands.track", "duvae.tracking", "duvae.search")
"""Modules and packages that take seconds to import, and that few commands need."""


@contextlib.contextmanager
def environment(folder: Path, variables: Mapping[str, str]) -> Iterator[Path]:
    """Creates a virtual environment, and runs its server until the end of the `with` block.

    Args:
        folder: The folder of the environment, such as `.venv` in a project; it must not exist.
        variables: Environment variables of the server.

    Yields:
        The folder `bin` of the environment. It has the programs `python` and `duvae` and the script `activate`.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    python = programs / "python"
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has at most 107 bytes
        address = Path(short) / "server"
        _write_programs(programs, python, address)
        command = [sys.executable, "-W", "ignore", __file__, str(address), str(python)]
        with subprocess.Popen(command, env=dict(variables), stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"ready\n", "the server of the commands did not start"
                yield programs
            finally:
                server.kill()


def _write_programs(programs: Path, python: Path, address: Path) -> None:
    files = {
        "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        "duvae": CLIENT.format(python=python, address=str(address)),
        "activate": f'export PATH="{programs}:$PATH"\n',
    }
    for name, text in files.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)


def serve(address: str, python: str) -> None:
    """Runs commands in forked processes, without end.

    Args:
        address: Path of the socket to listen on.
        python: Path of the program `python` that the commands start.
    """
    import duvae

    for module in pkgutil.walk_packages(duvae.__path__, "duvae."):
        if not module.name.startswith(UNUSED):
            importlib.import_module(module.name)
    for library in ("great_expectations", "matplotlib.pyplot", "sklearn.linear_model"):
        importlib.import_module(library)
    sys.executable = python
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            client, _ = listening.accept()
            with client:
                if os.fork() == 0:
                    listening.close()
                    answer(client)


def answer(client: socket.socket) -> None:
    """Runs the command of one client in this process, which ends here."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, descriptors, _, _ = socket.recv_fds(client, 1, 3)
        arguments, folder, variables = json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
        for stream, descriptor in enumerate(descriptors):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = ["duvae", *arguments]
        from duvae import cli

        cli.main()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 (a forked process must never go on as its parent)
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        client.sendall(bytes([status % 256]))
    os._exit(status)


if __name__ == "__main__":
    serve(*sys.argv[1:])
