"""A local web server with answers that a test sets."""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """A running server.

    Attributes:
        url: Address of the server.
        answers: The answer to each path: status, content, delay in seconds and number of missing bytes, as in `give`.
            The answer to any other path is 404.
        asked: Paths of all requests so far, in order.
    """

    url: str
    answers: dict[str, tuple[int, bytes, float, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def give(self, path: str, content: bytes, status: int = 200, delay: float = 0.0, missing: int = 0) -> None:
        """Sets the server's answer to requests for a path.

        Args:
            path: Path below the server's address.
            content: Content of the answer.
            status: HTTP status.
            delay: Seconds that the server waits before it answers.
            missing: Number of bytes by which the announced length exceeds the content.
        """
        self.answers[f"/{path}"] = status, content, delay, missing


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serves the files of a folder on a free port of this machine until the `with` block ends; yields the address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Runs a server on a free port of this machine until the `with` block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            status, content, delay, missing = server.answers.get(self.path, (404, b"<html>not here</html>", 0.0, 0))
            time.sleep(delay)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # an impatient client closes the connection, which is no error
            pass

    http_server = Quiet(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http_server.server_port}")
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http_server.shutdown()
        http_server.server_close()
        thread.join()
