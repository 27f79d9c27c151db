"""A web server on this machine that answers what a test tells it to."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What it answers, and what it was asked for."""

    url: str
    answers: dict[str, tuple[int, bytes, float, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def give(self, path: str, content: bytes, status: int = 200, delay: float = 0.0, missing: int = 0) -> None:
        """Answers `path` with `content`, after `delay` seconds; `missing` bytes more are promised than come."""
        self.answers[f"/{path}"] = status, content, delay, missing


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """A server on a free port, until the body ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            status, content, delay, missing = told.answers.get(self.path, (404, b"<html>not here</html>", 0.0, 0))
            time.sleep(delay)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # who asked has gone away already
            pass

    listening = Quiet(("127.0.0.1", 0), Handler)
    told = Server(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
