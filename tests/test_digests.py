"""docker/digests.py pins images by the digests that a registry says. A local server takes the registry's place."""

import hashlib
import json
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from duvae.errors import UserError

DOCKER = Path(__file__).parents[1] / "docker"
MANIFEST = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Registry:
    """A registry that wants a token, as public registries do.

    Attributes:
        host: Address of the registry.
        status: Status of the answer to a request with a token.
        content: The manifest of each image.
        kind: Content type of the manifests.
        told: The digest that the registry says; empty: none.
        realm: Address that gives tokens; empty: the registry itself.
        token: Answer of that address.
        asked: Paths of the manifests that were asked for.
    """

    host: str = ""
    status: int = 200
    content: bytes = MANIFEST
    kind: str = INDEX
    told: str = DIGEST
    realm: str = ""
    token: object = field(default_factory=lambda: {"token": "secret"})
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def registry() -> Iterator[Registry]:
    state = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path == "/token":
                (scope,), (service,) = query["scope"], query["service"]
                right = re.fullmatch(r"repository:[\w/]+:pull", scope) and service == "registry"
                self.answer(200 if right else 403, json.dumps(state.token).encode(), {})
            elif self.headers.get("Authorization") != "Bearer secret":
                realm = state.realm or f"http://{state.host}/token"
                self.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry"'})
            else:
                state.asked.append(path)
                told = {"Docker-Content-Digest": state.told} if state.told else {}
                kind = state.kind if INDEX in self.headers["Accept"] else "application/octet-stream"
                self.answer(state.status, state.content, {"Content-Type": kind, **told})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def folder(registry: Registry, tmp_path: Path) -> Path:
    """The project's own files, with images of the local registry."""
    for name in ("Dockerfile", "compose.yaml"):
        text = (DOCKER / name).read_text(encoding="utf-8")
        text = re.sub(r"(?<=IMAGE=)(python:\S+)|(?<=image: )(postgres:\S+)", rf"{registry.host}/my/\1\2", text)
        (tmp_path / name).write_text(re.sub(r"@sha256:[0-9a-f]{64}", "", text), encoding="utf-8")

    return tmp_path


def pin(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DOCKER / "digests.py"), "--folder", str(folder)]

    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_the_digests_are_written_behind_the_tags_and_nothing_else_changes(registry: Registry, folder: Path) -> None:
    before = texts(folder)
    done = pin(folder)
    after = texts(folder)

    assert done.returncode == 0, done.stderr
    (python,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", after["Dockerfile"], re.MULTILINE)
    postgres = yaml.safe_load(after["compose.yaml"])["services"]["postgres"]["image"]
    assert done.stdout.split() == [python, postgres]
    for image, name in ((python, "python"), (postgres, "postgres")):
        assert re.fullmatch(rf"{registry.host}/my/{name}:[\w.-]+@{DIGEST}", image)
    assert {name: text.replace(f"@{DIGEST}", "") for name, text in after.items()} == before
    assert [path.rpartition("/")[0] for path in registry.asked] == [
        "/v2/my/python/manifests",
        "/v2/my/postgres/manifests",
    ]

    # A later run writes the digest that the tag has then.
    registry.content, registry.told = MANIFEST + b" ", ""
    assert pin(folder).returncode == 0
    new = f"sha256:{hashlib.sha256(registry.content).hexdigest()}"
    assert texts(folder) == {name: text.replace(DIGEST, new) for name, text in after.items()}


WRONG = {
    "an unknown image": ({"status": 404}, "404"),
    "another digest than that of the content": ({"told": f"sha256:{'0' * 64}"}, f"sha256:{'0' * 64}"),
    "no manifest": ({"kind": "text/html"}, "text/html"),
    "a manifest without end": ({"content": b" " * (5 * 2**20)}, "more than 4194304 bytes"),
    "no token": ({"token": {}}, "gave no token"),
    "a token that is no text": ({"token": []}, "gave no token"),
    "a token without encryption": ({"realm": "http://example.org/token"}, "another kind"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_an_error_and_changes_no_file(registry: Registry, folder: Path, name: str) -> None:
    changes, message = WRONG[name]
    for attribute, value in changes.items():
        setattr(registry, attribute, value)
    before = texts(folder)
    done = pin(folder)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: image {registry.host}/my/python:")
    assert message in done.stderr
    assert "No file has changed." in done.stderr
    assert "Traceback" not in done.stderr
    assert texts(folder) == before


def test_without_a_network_no_file_changes(registry: Registry, folder: Path) -> None:
    """The image of the Dockerfile has a digest, but the registry of the other one cannot be reached."""
    path = folder / "compose.yaml"
    path.write_text(path.read_text().replace(f"image: {registry.host}/my/", "image: 127.0.0.1:1/my/"), encoding="utf-8")
    before = texts(folder)
    done = pin(folder)

    assert done.returncode == 2
    assert len(registry.asked) == 1
    assert "Check the network" in done.stderr
    assert done.stderr.count("\n") == 1
    assert texts(folder) == before


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("python:3.11.14-slim-bookworm", ("registry-1.docker.io", "library/python", "3.11.14-slim-bookworm")),
        (f"docker.io/a/b:1@{DIGEST}", ("registry-1.docker.io", "a/b", "1")),
        ("a/b:1", ("registry-1.docker.io", "a/b", "1")),
        ("quay.example.org/a/b/c:1", ("quay.example.org", "a/b/c", "1")),
        ("localhost:5000/a:1", ("localhost:5000", "a", "1")),
        ("python", None),
        (f"python@{DIGEST}", None),
        ("a:1/../b?x=", None),
    ],
)
def test_names_of_images_are_split_as_docker_does(name: str, parts: tuple[str, str, str] | None) -> None:
    parse = runpy.run_path(str(DOCKER / "digests.py"))["parse"]
    if parts is None:
        with pytest.raises(UserError, match="expected a name with a tag"):
            parse(name)
    else:
        assert parse(name)[:3] == parts
