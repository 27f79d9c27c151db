"""The process that runs one stage in its workspace.

The command is `python -m pipelines.stage_process STAGE OUTCOME [--remote NAME] [--watch DESCRIPTOR]`.

A process of its own, the first of its session. It checks out what the stage depends on, runs the stage through DVC,
which fills the run cache, and writes what came of it to OUTCOME. When whoever started it is gone, it ends itself and
all that it had started.
"""

import argparse
import logging
import os
import re
import signal
import threading
import traceback
from pathlib import Path
from typing import Any

from duvae.project.files import write_json


class Heard(logging.Handler):
    """Hears from DVC whether it ran the stage's command."""

    ran = False

    def emit(self, record: logging.LogRecord) -> None:
        self.ran = self.ran or record.getMessage().startswith("Running stage")


def run(name: str, remote: str | None) -> dict[str, Any]:
    """Runs the stage in the present folder.

    Returns:
        `entry`: the stage in dvc.lock; `ran`: whether its command was run, or all found in the cache. Where it failed:
        `code`: its command's exit status, if that is what failed, and `reason`.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.serialize import to_single_stage_lockfile

    heard = Heard()
    log = logging.getLogger("dvc")
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    with Repo() as repo:
        try:
            (stage,) = repo.stage.collect(name)
            bring(repo, stage, remote)
            repo.reproduce(name, single_item=True)
            if remote is not None:
                repo.push(targets=[name], remote=remote or None, run_cache=True)
                # Of the outputs that git keeps (`cache: false`) that leaves out the copies that the run cache has.
                (stage,) = repo.stage.collect(name)
                if objects := kept_by_git(stage.outs):
                    repo.cloud.push(objects, remote=remote or None)
        except DvcException as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            status = re.search(r"exited with (-?\d+)$", str(cause))
            if status is None:
                traceback.print_exception(cause)
            return {"code": status and int(status[1]), "reason": " ".join(str(cause).split()), "ran": heard.ran}
        (stage,) = repo.stage.collect(name)

        return {"entry": to_single_stage_lockfile(stage), "ran": heard.ran}


def bring(repo: Any, stage: Any, remote: str | None) -> None:
    """Checks out the outputs that the stage depends on; `remote`: after getting those that are not in the cache."""
    from pipelines.lockfile import copy_out

    needed = {dep.fs_path for dep in stage.deps}
    outs = [
        out
        for other in repo.index.stages
        for out in other.outs
        if out.hash_info  # not files of parameters, which the workspace has already
        and any(path == out.fs_path or Path(out.fs_path) in Path(path).parents for path in needed)
    ]
    cached = [out.fs_path for out in outs if out.use_cache]
    if cached and remote is not None:
        repo.pull(targets=cached, remote=remote or None)
    elif cached:
        repo.checkout(targets=cached, force=True)
    if remote is not None and (objects := kept_by_git(outs)):
        repo.cloud.pull(objects, remote=remote or None)
    copy_out(repo, outs)


def kept_by_git(outs: list[Any]) -> set[Any]:
    """What identifies those outputs in a cache that git has in the project."""
    return {out.hash_info for out in outs if not out.use_cache}


def watch(descriptor: int) -> None:
    """Ends the whole session once the other end of the pipe is closed: its holder was killed."""

    def wait() -> None:
        os.read(descriptor, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Does what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("outcome", type=Path)
    parser.add_argument("--remote")
    parser.add_argument("--watch", type=int)
    arguments = parser.parse_args()
    if arguments.watch is not None:
        watch(arguments.watch)
    write_json(arguments.outcome, run(arguments.stage, arguments.remote))


if __name__ == "__main__":
    main()
