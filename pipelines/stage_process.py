"""The process that runs one stage in its workspace, a throwaway clone of the project.

The command is `python -m pipelines.stage_process STAGE RESULT [--remote NAME] [--watch DESCRIPTOR]`.

`launcher.py` starts the process in a session of its own. The process checks out the stage's inputs and runs the stage
through DVC, which fills the run cache. Then it writes the outcome as JSON to the file RESULT. The process kills itself
and its whole session if its parent process dies.
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


class RanHandler(logging.Handler):
    """Log handler that notes whether DVC ran the stage's command. DVC's API does not report this.

    Attributes:
        ran: Whether the command ran.
    """

    ran = False

    def emit(self, record: logging.LogRecord) -> None:
        self.ran = self.ran or record.getMessage().startswith("Running stage")


def run(name: str, remote: str | None) -> dict[str, Any]:
    """Runs a stage in the current folder through DVC.

    Args:
        name: Name of the stage.
        remote: Name of the DVC remote that carries results between machines; empty: DVC's default remote; None: no
            remote.

    Returns:
        Dictionary with `entry`, the stage's entry in dvc.lock, and `ran`, whether the stage's command ran. If `ran` is
        False, the run cache had the outputs. After a failure, `reason` and `code` replace `entry`. `reason` is the
        message of the error. `code` is the exit status of the command, or None if something else failed.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.serialize import to_single_stage_lockfile

    handler = RanHandler()
    logger = logging.getLogger("dvc")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with Repo() as repo:
        try:
            (stage,) = repo.stage.collect(name)
            check_out_inputs(repo, stage, remote)
            repo.reproduce(name, single_item=True)
            if remote is not None:
                repo.push(targets=[name], remote=remote or None, run_cache=True)
                # `push` skips outputs that git keeps (`cache: false`). Other machines need these outputs too.
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
            return {"code": status and int(status[1]), "reason": " ".join(str(cause).split()), "ran": handler.ran}
        (stage,) = repo.stage.collect(name)

        return {"entry": to_single_stage_lockfile(stage), "ran": handler.ran}


def check_out_inputs(repo: Any, stage: Any, remote: str | None) -> None:
    """Checks out those inputs of a stage that other stages write.

    Args:
        repo: The project as DVC's Repo object, opened in the folder of the project.
        stage: DVC's object of the stage.
        remote: Name of the DVC remote from which missing outputs are downloaded; empty: DVC's default remote; None: no
            remote, since the cache holds all outputs.
    """
    from pipelines.lockfile import copy_git_outputs

    paths = {dependency.fs_path for dependency in stage.deps}
    outs = [
        out
        for other in repo.index.stages
        for out in other.outs
        if out.hash_info  # files of parameters have no hash here, and are in the workspace already
        and any(path == out.fs_path or Path(out.fs_path) in Path(path).parents for path in paths)
    ]
    cached = [out.fs_path for out in outs if out.use_cache]
    if cached and remote is not None:
        repo.pull(targets=cached, remote=remote or None)
    elif cached:
        repo.checkout(targets=cached, force=True)
    if remote is not None and (objects := kept_by_git(outs)):
        repo.cloud.pull(objects, remote=remote or None)
    copy_git_outputs(repo, outs)


def kept_by_git(outs: list[Any]) -> set[Any]:
    """The hashes of the outputs that git keeps, because dvc.yaml marks them with `cache: false`."""
    return {out.hash_info for out in outs if not out.use_cache}


def watch(descriptor: int) -> None:
    """Kills this process's whole session once the other end of a pipe closes.

    The other end closes when the process that started this one dies.

    Args:
        descriptor: File descriptor of this process's end of the pipe.
    """

    def wait() -> None:
        os.read(descriptor, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Runs the stage that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("result", type=Path)
    parser.add_argument("--remote")
    parser.add_argument("--watch", type=int)
    arguments = parser.parse_args()
    if arguments.watch is not None:
        watch(arguments.watch)
    write_json(arguments.result, run(arguments.stage, arguments.remote))


if __name__ == "__main__":
    main()
