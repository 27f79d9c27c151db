"""Checks that a server can listen on a port of this machine's loopback address.

Command: `python -m pipelines.ports PORT OPTION` ends with exit status 2 if it cannot; the message names the option.
"""

import argparse
import errno
import socket
import sys

from duvae.errors import UserError
from pipelines.arguments import Parser

HOST = "127.0.0.1"
"""The address on which all servers of this project listen. Other machines cannot reach it."""


def number(text: str) -> int:
    """Reads the number of a port from a command line.

    Raises:
        argparse.ArgumentTypeError: If the text is not the number of a port.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"expected the number of a port, from 1 to 65535; found {text[:40]!r}")

    return int(text)


def require_free(port: int, option: str) -> None:
    """Checks that a server can listen on a port.

    Args:
        port: Number of the port.
        option: The option with which the user chooses another port, such as `--port`.

    Raises:
        UserError: If another program listens on the port, or the system refuses the port to this user.
    """
    try:
        with socket.socket() as attempt:
            # As servers do. Without it, a port would count as taken for a minute after its server has ended.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((HOST, port))
            attempt.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is taken by another program; choose another with {option}.") from error
        why = "only root may use it" if error.errno in {errno.EACCES, errno.EPERM} else error.strerror
        raise UserError(f"port {port} cannot be used ({why}); choose another with {option}.") from error
    # On some systems, a server on all interfaces does not keep another one from the loopback address.
    with socket.socket() as client:
        client.settimeout(1.0)
        if client.connect_ex((HOST, port)) == 0:
            raise UserError(f"port {port} is taken by another program; choose another with {option}.")


def main() -> None:
    """Checks the port that the command line names."""
    parser = Parser(prog="python -m pipelines.ports", description=__doc__)
    parser.add_argument("port")
    parser.add_argument("option", help="what the message names, such as 'make dashboard PORT=N'")
    arguments = parser.parse_args()
    try:
        require_free(number(arguments.port), arguments.option)
    except (argparse.ArgumentTypeError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
