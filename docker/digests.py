"""Pins the base images of docker/ by their digests, which the images' registries say.

`python docker/digests.py` finds the images in the Dockerfile and in compose.yaml. It asks the registry of each image
for the manifest of its tag, and writes the SHA-256 digest of the manifest behind the tag: `name:tag@sha256:...`. A
later run writes the digests anew. If one of the images fails, no file changes.

Exit status: 0 after success, 2 after an error.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import requests
import yaml

from duvae.errors import UserError
from duvae.project.files import write_text

HERE = Path(__file__).resolve().parent
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Kinds of manifests, those for several platforms first."""

LARGEST = 4 * 2**20
"""Bytes of the largest manifest that a registry has to store, by the OCI distribution specification."""

PATIENCE = 30.0
"""Seconds to wait for a connection, and for each part of an answer."""

LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")
"""Registries that may be reached without encryption, as Docker does it too."""


class Image(NamedTuple):
    """The name of an image.

    Attributes:
        registry: Host of the registry, with its port if it has one.
        repository: Path of the image in the registry.
        tag: Tag of the image.
        name: Name and tag as written in the file, without a digest.
    """

    registry: str
    repository: str
    tag: str
    name: str


def parse(text: str) -> Image:
    """Splits the name of an image by Docker's rules; a digest at its end is dropped.

    Raises:
        UserError: If the name has no tag, or a part that is not allowed.
    """
    name = text.partition("@")[0]
    found = re.fullmatch(r"(?:([\w.-]+(?::\d+)?)/)?([a-z0-9._/-]+):([\w][\w.-]{0,127})", name, flags=re.ASCII)
    if found is None:
        raise UserError(f"image {text!r}: expected a name with a tag, such as python:3.11.14-slim-bookworm")
    host, path, tag = found.groups()
    if host and not re.search(r"[.:]|^localhost$", host):  # the first part of a path, not a host
        host, path = None, f"{host}/{path}"
    if host in {None, "docker.io"}:
        return Image("registry-1.docker.io", path if "/" in path else f"library/{path}", tag, name)

    return Image(host, path, tag, name)


def digest(image: Image) -> str:
    """Asks the image's registry for the manifest of its tag; returns the digest of the manifest.

    Raises:
        UserError: If the registry cannot be reached, refuses, or says another digest than that of what it sends.
    """
    scheme = "http" if LOOPBACK.fullmatch(image.registry) else "https"
    url = f"{scheme}://{image.registry}/v2/{image.repository}/manifests/{image.tag}"
    headers = {"Accept": ", ".join(KINDS)}
    try:
        with requests.Session() as session:
            response = session.get(url, headers=headers, timeout=PATIENCE, stream=True)
            if response.status_code == 401:
                headers["Authorization"] = f"Bearer {_token(session, image, response)}"
                response = session.get(url, headers=headers, timeout=PATIENCE, stream=True)
            response.raise_for_status()
            content = b"".join(_limited(response))
    except (requests.RequestException, ValueError) as error:
        raise UserError(
            f"image {image.name}: no digest from {url} ({error}). Check the network and the image's name. No file"
            " has changed."
        ) from error
    computed = f"sha256:{hashlib.sha256(content).hexdigest()}"
    told = response.headers.get("Docker-Content-Digest", computed)
    if told != computed or response.headers.get("Content-Type", "").partition(";")[0] not in KINDS:
        raise UserError(
            f"image {image.name}: expected a manifest with the digest {told} from {url}; found"
            f" {response.headers.get('Content-Type')} with the digest {computed}. No file has changed."
        )

    return computed


def _token(session: requests.Session, image: Image, response: requests.Response) -> str:
    """Gets a token for reading an image, from the address that the registry's refusal names.

    Raises:
        ValueError: If the refusal names no encrypted address, or the answer from there has no token.
    """
    challenge = response.headers.get("WWW-Authenticate", "")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.get("realm", "")
    if not challenge.lower().startswith("bearer ") or not re.match(rf"https://|http://{LOOPBACK.pattern}/", realm):
        raise ValueError(f"the registry asks for a log-in of another kind: {challenge!r}")
    wanted = {"service": fields.get("service", ""), "scope": f"repository:{image.repository}:pull"}
    answer = session.get(realm, params=wanted, timeout=PATIENCE)
    answer.raise_for_status()
    content = answer.json()
    token = isinstance(content, dict) and (content.get("token") or content.get("access_token"))
    if not isinstance(token, str):
        raise ValueError(f"{realm} gave no token")

    return token


def _limited(response: requests.Response) -> Iterator[bytes]:
    """The parts of an answer.

    Raises:
        ValueError: If the answer is larger than a manifest may be.
    """
    size = 0
    for part in response.iter_content(65536):
        size += len(part)
        if size > LARGEST:
            raise ValueError(f"the answer has more than {LARGEST} bytes")
        yield part


def images(folder: Path) -> dict[Path, list[str]]:
    """The base images that the Dockerfile and compose.yaml name, by file; those that compose builds are left out.

    Raises:
        UserError: If a file names none, which a change of its form may cause.
    """
    dockerfile, compose = folder / "Dockerfile", folder / "compose.yaml"
    services = yaml.safe_load(compose.read_text(encoding="utf-8"))["services"].values()
    found = {
        dockerfile: re.findall(r"^ARG \w+_IMAGE=(\S+)$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE),
        compose: [service["image"] for service in services if "image" in service and "build" not in service],
    }
    for path, names in found.items():
        if not names:
            raise UserError(f"{path}: expected at least one base image; found none")

    return found


def pin(folder: Path) -> list[str]:
    """Writes the digests of all base images into the files of a folder; returns the pinned names.

    Raises:
        UserError: If an image has no digest; then no file has changed.
    """
    pinned = {}
    found = images(folder)
    for name in (name for names in found.values() for name in names):
        image = parse(name)
        pinned[name] = f"{image.name}@{digest(image)}"
    for path, names in found.items():
        text = path.read_text(encoding="utf-8")
        for name in names:
            text = re.sub(rf"(?<=[=\s]){re.escape(name)}$", pinned[name], text, flags=re.MULTILINE)
        write_text(path, text)

    return list(pinned.values())


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=HERE, help="folder of Dockerfile and compose.yaml")
    options = parser.parse_args()
    try:
        for name in pin(options.folder):
            print(name)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)

        return 2

    return 0


if __name__ == "__main__":
    sys.exit(main())
