"""The folder of a demonstration: which folders the command may use, and what it may remove in them."""

import contextlib
import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from duvae.config import Params
from duvae.errors import UserError
from duvae.project import leftovers
from duvae.project.files import read_json, require_writable, write_json, write_text
from duvae.project.fingerprint import of_this_process

MARK = "demo.json"
"""Name of the file that marks the folder of a demonstration. It says which code and parameters the folder is of."""

LOCK = ".lock"
"""Name of the file that is locked while a demonstration runs."""

PARAMS = "params.yaml"
"""Name of the copy of the parameters."""

PICTURE, PAGE = "latent_spaces.png", "index.html"
"""Names of the picture and of the page with all results."""

WRITTEN = (
    *(PARAMS, PICTURE, PAGE, ".gitignore"),
    *("data", "models", "results", "generated", "reports", "checkpoints"),
    *(LOCK, MARK),
)
"""Names of all that a demonstration writes into its folder. The mark is the last, so that it is removed last."""

DEFAULT = Path("demo")
"""The folder if the user names no other."""


def command(output: Path, again: bool = False) -> str:
    """The command line of a demonstration.

    Args:
        output: Folder of the demonstration.
        again: Whether the command makes the folder anew.
    """
    place = [] if output == DEFAULT else ["--output", shlex.quote(str(output))]

    return " ".join(["duvae demo", *place, *(["--again"] if again else [])])


@contextlib.contextmanager
def opened(params: Params, source: Path, output: Path, again: bool) -> Iterator[str]:
    """Creates the folder, or takes up an earlier demonstration, and locks the folder during the `with` block.

    Args:
        params: All parameters of the file `source`.
        source: File of parameters. A new folder gets a copy of the file.
        output: Folder of the demonstration.
        again: Whether to remove what an earlier demonstration has written, and to begin anew.

    Yields:
        What the command does with the folder, for a message: `new`, `continues` or `anew`.

    Raises:
        UserError: If the folder has other files than those of a demonstration, is of other code or parameters, cannot
            be written, or if another demonstration runs in it.
    """
    identity = {"parameters": hashlib.sha256(source.read_bytes()).hexdigest(), "code": code(params)}
    _require_own(output)
    require_writable(output / MARK)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{output}: the folder cannot be created ({error.strerror}). Choose another: --output PATH."
        ) from error
    lock = FileLock(output / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{output}: another demonstration runs in this folder. Wait for its end, or choose another folder:"
            " --output PATH."
        ) from error
    try:
        yield _taken_up(output, source, identity, again)
    finally:
        lock.release()


def code(params: Params) -> dict[str, str]:
    """The fingerprints of all stages of a demonstration: hashes of the code that its results depend on."""
    systems = dict.fromkeys(params.setting(job.setting).system for job in params.run_jobs())
    fingerprints = {kind: of_this_process(kind) for kind in ("prepare", "validate")}
    for kind in ("train", "evaluate", "samples"):
        fingerprints |= {f"{kind} {system}": of_this_process(kind, system) for system in systems}

    return fingerprints


def _require_own(output: Path) -> None:
    """Checks that the folder is missing, empty, or of a demonstration.

    Raises:
        UserError: If the folder has other files.
    """
    if not output.exists() or (output / MARK).is_file():
        return
    others = sorted(path.name for path in output.iterdir() if path.name != LOCK)
    if others:
        raise UserError(
            f"{output}: expected a new or empty folder, or one that 'duvae demo' has written; found {others[0]!a}"
            f"{' and other files' if len(others) > 1 else ''}. Choose another folder: --output PATH."
        )


def _taken_up(output: Path, source: Path, identity: Mapping[str, object], again: bool) -> str:
    """Brings the folder into the state in which the steps can begin or continue.

    Returns:
        What the command does with the folder, for a message.

    Raises:
        UserError: If the folder is of other code or parameters.
    """
    mark, copied = output / MARK, output / PARAMS
    known = mark.is_file()
    if known and again:
        remove(output)
    elif known:
        _require_same(output, identity)
        leftovers.remove_unfinished(output)
        if copied.exists():
            return "shows its results again" if (output / PAGE).exists() else "continues an earlier demonstration"
    write_json(mark, identity)
    write_text(output / ".gitignore", "# Git keeps nothing of a demonstration.\n*\n")
    write_text(copied, source.read_text(encoding="utf-8"))

    return "made anew" if known else "new"


def _require_same(output: Path, identity: Mapping[str, object]) -> None:
    """Checks that a folder is of the present code and parameters.

    Raises:
        UserError: If it is not.
    """
    found = read_json(output / MARK, command(output, again=True))
    copied = output / PARAMS
    changed = copied.exists() and hashlib.sha256(copied.read_bytes()).hexdigest() != identity["parameters"]
    if json.dumps(found, sort_keys=True) != json.dumps(identity, sort_keys=True) or changed:
        raise UserError(
            f"{output}: expected a demonstration of today's code and parameters; found one of others. Run"
            f" '{command(output, again=True)}', which makes it anew, or choose another folder: --output PATH."
        )


def remove(output: Path) -> None:
    """Removes what a demonstration has written into its folder. All other files of the user stay.

    Args:
        output: Folder of the demonstration.

    Raises:
        UserError: If something cannot be removed.
    """
    for name in WRITTEN:
        path = output / name
        if name in {LOCK, MARK}:  # the lock is in use; the new mark replaces the old one
            continue
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be removed ({error.strerror}). Remove the folder {output}, or choose another:"
                " --output PATH."
            ) from error
