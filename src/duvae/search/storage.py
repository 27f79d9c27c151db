"""Stores studies and their trials, and recovers trials whose worker has died.

A study is a search for hyperparameters, and a trial is one training of the study. A worker is a process that runs
trials. An Optuna storage holds the studies: a journal file or a database.

Each worker has its own lock file, and keeps the file locked until the worker ends. The kernel frees the lock when the
worker dies, whatever the cause. Processes on the same machine therefore see at once that the worker is dead. For
processes on other machines, each worker writes heartbeats: it writes the current time into its trial again and again.
When the heartbeats of a worker have stopped for some time, the worker counts as dead.
"""

import contextlib
import os
import re
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from duvae.errors import UserError

FOLDER = Path("studies")
"""Folder of the journal and of the lock files, below the project's folder."""

JOURNAL = FOLDER / "journal.log"
"""Journal file of the studies, below the project's folder; not used if the studies are in a database."""

WORKER, HOST, HEARTBEAT, ATTEMPTS = "worker", "host", "beat", "attempts"
"""Names of attributes of a trial: its worker, the worker's machine, the time of the last heartbeat in seconds since
1970, and the number of attempts since the last finished epoch. An attempt begins when a worker takes the trial."""

HEARTBEAT_SECONDS = 60
"""Seconds between two heartbeats."""

SILENCE_SECONDS = 900
"""Seconds without a heartbeat after which a worker on another machine counts as dead."""

MAX_ATTEMPTS = 5
"""Number of attempts in a row without a finished epoch, after which a trial counts as failed."""


def study_root(root: Path = Path()) -> Path:
    """Returns the project folder whose subfolder `studies` holds the studies.

    `root` may be a workspace: a clone of the project, in which a rebuild of the project runs a stage. In a workspace,
    the folder `studies` is a link to the folder `studies` of the project. The result is then the folder of the project,
    not the folder of the workspace.

    Args:
        root: Folder of the project or of a workspace.
    """
    return (root / FOLDER).resolve().parent


def file_lock(path: Path) -> FileLock:
    """Creates a lock that the kernel frees when the process that holds the lock dies.

    Args:
        path: Path of the lock file.
    """
    return FileLock(path, poll_interval=0.01)


class JournalLock:
    """The lock of the journal file. Taking the lock also removes a line that a killed process left unfinished.

    This class replaces Optuna's locks. If a process is killed while it writes, an Optuna lock leaves its lock file
    behind, and does not repair the journal.

    Args:
        journal: Path of the file that holds all studies.
    """

    def __init__(self, journal: Path) -> None:
        self.journal, self.lock = journal, file_lock(journal.with_suffix(".lock"))

    def acquire(self) -> bool:
        """Takes the lock and repairs the journal; returns True, as Optuna expects."""
        self.lock.acquire()
        if self.journal.exists():
            _remove_unfinished_line(self.journal)

        return True

    def release(self) -> None:
        """Frees the lock."""
        self.lock.release()


def _remove_unfinished_line(journal: Path) -> None:
    """Removes everything after the last line break of the journal."""
    with journal.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def open_storage(url: str | None, root: Path = Path()) -> BaseStorage:
    """Opens the storage of the studies: the journal below `root`, or a database.

    Args:
        url: URL of a database in SQLAlchemy's form, such as `postgresql://user@host/studies`; None: the journal.
        root: Folder of the project.

    Raises:
        UserError: If the journal or the database cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _create_folder(root / FOLDER)
    if url is None:
        return _open_journal(root / JOURNAL)
    try:
        return RDBStorage(with_driver(url))
    except ImportError as error:
        raise UserError(
            f'--storage {url}: its driver is not installed ({error}). Run "pip install'
            " 'duvae[postgres]'\" for PostgreSQL. Without --storage, studies are kept in studies/journal.log."
        ) from error
    except Exception as error:  # each database driver raises exceptions of its own
        reason = " ".join(str(error).split("\n(Background", maxsplit=1)[0].split())
        raise UserError(
            f"--storage {url}: cannot be used ({reason}). Expected a database that can be opened and"
            " written to, such as postgresql://user:password@host/name."
        ) from error


def _create_folder(path: Path) -> None:
    """Creates the folder of the studies, if it is missing.

    Raises:
        UserError: If it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: expected a folder for studies, or a place where one can be created ({error.strerror}). Move away"
            " what is there, or correct its permissions."
        ) from error


def _open_journal(path: Path) -> BaseStorage:
    lock = JournalLock(path)
    try:
        lock.acquire()  # removes an unfinished line, which Optuna could not read
        lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock))  # type: ignore[arg-type]  # `lock` has the methods that Optuna calls
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # Optuna checks the lines of a journal by assertions only. A line of another meaning ends in any of these.
        raise UserError(
            f"{path}: expected the journal of studies, but it cannot be read ({error!r}). Move the file away: all"
            " studies then start again."
        ) from error


def with_driver(url: str) -> str:
    """Adds the driver psycopg to a PostgreSQL URL that has no driver; returns any other URL unchanged."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


class Worker:
    """A process that runs the trials of studies.

    Args:
        root: Folder of the project.

    Attributes:
        name: Random name of the worker, which is also in the name of its lock file.
        guard: Lock that all workers of a project share. Only the process that holds this lock may assign trials to
            workers, or put trials back into the queue.
    """

    def __init__(self, root: Path = Path()) -> None:
        self.folder = root / FOLDER
        _create_folder(self.folder)
        self.name = uuid.uuid4().hex
        self.guard = file_lock(self.folder / "guard.lock")
        self.own_lock = file_lock(self._lock_path(self.name))

    def _lock_path(self, name: str) -> Path:
        return self.folder / f"worker-{name}.lock"

    def __enter__(self) -> Self:
        with self.guard:  # else another worker could see the new lock file before it is locked, and remove it as free
            self.own_lock.acquire()

        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock_path(self.name).unlink(missing_ok=True)
        self.own_lock.release()

    # ------------------------------------------------------------------ trials of this worker

    def claim(self, trial: Trial) -> None:
        """Records this worker as the owner of a trial that it has just taken. The caller must hold `guard`."""
        trial.set_user_attr(WORKER, self.name)
        trial.set_user_attr(HOST, os.uname().nodename)
        trial.set_user_attr(ATTEMPTS, trial.user_attrs.get(ATTEMPTS, 0) + 1)
        self.heartbeat(trial)

    def heartbeat(self, trial: Trial) -> None:
        """Records the current time in a trial, as a sign that this worker is alive."""
        trial.set_user_attr(HEARTBEAT, int(time.time()))

    def owns(self, study: Study, trial: Trial) -> bool:
        """Returns whether a trial still belongs to this worker.

        Another worker may have taken the trial over because this worker seemed dead.
        """
        current = study.get_trials(deepcopy=False)[trial.number]

        return current.state == TrialState.RUNNING and current.user_attrs.get(WORKER) == self.name

    def release(self, storage: BaseStorage, study: Study, trial: Trial) -> None:
        """Puts an unfinished trial of this worker back into the queue. The ended attempt does not count.

        Args:
            storage: Storage of the study.
            study: Study of the trial.
            trial: The trial to put back, whose training this worker has not finished.
        """
        with self.guard:
            if self.owns(study, trial):
                trial.set_user_attr(ATTEMPTS, max(0, trial.user_attrs.get(ATTEMPTS, 1) - 1))
                requeue(storage, study, trial.number)

    # ------------------------------------------------------------------ trials of other workers

    def is_alive(self, trial: FrozenTrial) -> bool:
        """Returns whether the worker of a running trial is alive."""
        name = str(trial.user_attrs.get(WORKER))
        if name == self.name:
            return True
        if self._lock_path(name).exists():
            return not _is_free(self._lock_path(name))

        # The trial's worker has no lock file. If it ran on this machine, it has ended. If it runs on another machine,
        # only its heartbeats tell whether it is alive.
        here = trial.user_attrs.get(HOST) == os.uname().nodename

        return not here and time.time() - trial.user_attrs.get(HEARTBEAT, 0) < SILENCE_SECONDS

    def recover(self, storage: BaseStorage, study: Study) -> list[int]:
        """Puts the trials of dead workers back into the queue; each trial keeps its number.

        A trial that has used all its attempts fails instead. The caller must hold `guard`. The method also removes the
        lock files of dead workers.

        Args:
            storage: Storage of the study.
            study: Study whose trials are checked.

        Returns:
            Numbers of all trials whose worker was dead.
        """
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        lost = [trial for trial in running if not self.is_alive(trial)]
        for trial in lost:
            if trial.user_attrs.get(ATTEMPTS, 0) >= MAX_ATTEMPTS:
                fail(storage, study, trial.number, f"given up after {MAX_ATTEMPTS} attempts without an epoch")
            else:
                requeue(storage, study, trial.number)
        for path in self.folder.glob("worker-*.lock"):
            if path != self._lock_path(self.name) and _is_free(path):
                path.unlink(missing_ok=True)

        return [trial.number for trial in lost]


def _is_free(path: Path) -> bool:
    """Returns whether no process holds the lock of an existing lock file."""
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def requeue(storage: BaseStorage, study: Study, number: int) -> None:
    """Puts a running trial back into the queue. The trial keeps its hyperparameters and the losses that it reported.

    Args:
        storage: Storage of the study.
        study: Study of the trial.
        number: Number of the trial.
    """
    storage.set_trial_state_values(_trial_id(storage, study, number), TrialState.WAITING)


def fail(storage: BaseStorage, study: Study, number: int, reason: str) -> None:
    """Ends a trial as failed, without an NLL.

    Args:
        storage: Storage of the study.
        study: Study of the trial.
        number: Number of the trial.
        reason: Reason for the failure, in words.
    """
    storage.set_trial_user_attr(_trial_id(storage, study, number), "why", reason)
    study.tell(number, state=TrialState.FAIL)


def _trial_id(storage: BaseStorage, study: Study, number: int) -> int:
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study.study_name), number)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silences Optuna's warnings about experimental functions inside the `with` block, but not those about old ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
