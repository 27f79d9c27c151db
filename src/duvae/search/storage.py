"""Where studies are kept, who works on them, and what becomes of the trials of a worker that is gone.

A worker holds a lock on a file of its own while it lives; the kernel frees it when the worker dies, however it dies.
So a trial that nobody works on is known at once on this machine, and on others by a sign of life that stays out.
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
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from duvae.errors import UserError

FOLDER = Path("studies")
"""Holds the journal, and the locks."""

JOURNAL = FOLDER / "journal.log"

WORKER, HOST, BEAT, ATTEMPTS = "worker", "host", "beat", "attempts"
"""Attributes of a trial: who has it, where, the last sign of life, how often it was begun without an epoch."""

BEAT_SECONDS = 60
"""Between two signs of life."""

GONE_SECONDS = 900
"""Without a sign of life from another machine for so long, a worker is taken for dead."""

MOST_ATTEMPTS = 5
"""So often a trial is begun without coming to the end of an epoch before it is given up."""


def home(root: Path = Path()) -> Path:
    """The project whose studies a folder works on: another one, where its own `studies` is a link to that one's."""
    return (root / FOLDER).resolve().parent


def lock(path: Path) -> FileLock:
    """A lock that the kernel frees when its holder dies.

    Args:
        path: The file of the lock.
    """
    return FileLock(path, poll_interval=0.01)


class JournalLock:
    """The journal's lock; a line that a killed writer left unfinished is cut off before the next line is written.

    Own code, because Optuna's locks are files that outlive a killed writer, and no lock of Optuna repairs the journal.

    Args:
        journal: The file of the journal.
    """

    def __init__(self, journal: Path) -> None:
        self.journal, self.lock = journal, lock(journal.with_suffix(".lock"))

    def acquire(self) -> bool:
        self.lock.acquire()
        if self.journal.exists():
            _mend(self.journal)

        return True

    def release(self) -> None:
        self.lock.release()


def _mend(journal: Path) -> None:
    """Cuts off what stands behind the last end of a line."""
    with journal.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)


def storage(url: str | None, root: Path = Path()) -> BaseStorage:
    """The journal in `root`, or the database that `url` names.

    Args:
        url: As SQLAlchemy writes it, `postgresql://user@host/studies`; None: the journal.
        root: The project's folder.

    Raises:
        UserError: Where it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    if url is None:
        path = root / JOURNAL
        guarded = JournalLock(path)
        try:
            guarded.acquire()  # mends the journal before Optuna reads it
            guarded.release()
            return JournalStorage(JournalFileBackend(str(path), guarded))  # type: ignore[arg-type]  # it acts like one
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: expected the journal of studies, but it cannot be read ({error}). Move it away: studies"
                " begin anew."
            ) from error
    try:
        return RDBStorage(driven(url))
    except ImportError as error:
        raise UserError(
            f"--storage {_shown(url)}: its driver is not installed ({error}). \"pip install 'duvae[postgres]'\" has"
            " PostgreSQL's; without --storage studies are kept in studies/journal.log."
        ) from error
    except Exception as error:  # each driver has exceptions of its own
        why = " ".join(str(error).split("\n(Background", maxsplit=1)[0].split())
        raise UserError(
            f"--storage {_shown(url)}: cannot be used ({why}). Expected a database that can be opened and written to,"
            " such as postgresql://user:password@host/name."
        ) from error


def driven(url: str) -> str:
    """A PostgreSQL URL that names no driver, with the one that the project installs; any other as it is."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def _shown(url: str) -> str:
    """The URL without its password."""
    before, at, after = url.rpartition("@")
    scheme, slashes, user = before.partition("://")

    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{after}"


class Worker:
    """One process that works on studies.

    Args:
        root: The project's folder.
    """

    def __init__(self, root: Path = Path()) -> None:
        self.folder = root / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = uuid.uuid4().hex
        self.guard = lock(self.folder / "guard.lock")
        self.alive = lock(self._file(self.name))

    def _file(self, name: str) -> Path:
        return self.folder / f"worker-{name}.lock"

    def __enter__(self) -> Self:
        with self.guard:  # between its making and its locking, it would look like a dead worker's
            self.alive.acquire()

        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file(self.name).unlink(missing_ok=True)
        self.alive.release()

    # ------------------------------------------------------------------ trials of this worker

    def claim(self, trial: Trial) -> None:
        """Makes a trial that was just taken this worker's; to be called under the guard."""
        trial.set_user_attr(WORKER, self.name)
        trial.set_user_attr(HOST, os.uname().nodename)
        trial.set_user_attr(ATTEMPTS, trial.user_attrs.get(ATTEMPTS, 0) + 1)
        self.beat(trial)

    def beat(self, trial: Trial) -> None:
        """A sign of life."""
        trial.set_user_attr(BEAT, int(time.time()))

    def has(self, study: Study, trial: Trial) -> bool:
        """Whether it is still this worker's: one that seemed dead may have lost it."""
        now = study.get_trials(deepcopy=False)[trial.number]

        return now.state == TrialState.RUNNING and now.user_attrs.get(WORKER) == self.name

    def release(self, store: BaseStorage, study: Study, trial: Trial) -> None:
        """Puts a trial that was not brought to its end back into the queue."""
        with self.guard:
            if self.has(study, trial):
                trial.set_user_attr(ATTEMPTS, max(0, trial.user_attrs.get(ATTEMPTS, 1) - 1))
                requeue(store, study, trial.number)

    # ------------------------------------------------------------------ trials of others

    def lives(self, trial: FrozenTrial) -> bool:
        """Whether somebody works on a running trial."""
        name = str(trial.user_attrs.get(WORKER))
        if name == self.name:
            return True
        if self._file(name).exists():
            return not _free(self._file(name))

        here = trial.user_attrs.get(HOST) == os.uname().nodename  # a worker without a file has ended

        return not here and time.time() - trial.user_attrs.get(BEAT, 0) < GONE_SECONDS

    def recover(self, store: BaseStorage, study: Study) -> list[int]:
        """Queues the trials whose worker is gone again, each under its number; to be called under the guard.

        Returns:
            Their numbers.
        """
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        lost = [trial for trial in running if not self.lives(trial)]
        for trial in lost:
            if trial.user_attrs.get(ATTEMPTS, 0) >= MOST_ATTEMPTS:
                fail(store, study, trial.number, f"given up after {MOST_ATTEMPTS} attempts without an epoch")
            else:
                requeue(store, study, trial.number)
        for path in self.folder.glob("worker-*.lock"):
            if path != self._file(self.name) and _free(path):
                path.unlink(missing_ok=True)

        return [trial.number for trial in lost]


def _free(path: Path) -> bool:
    """Whether no process holds the lock of an existing file."""
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def requeue(store: BaseStorage, study: Study, number: int) -> None:
    """A running trial waits again, with its parameters and all that it has reported."""
    store.set_trial_state_values(_id(store, study, number), TrialState.WAITING)


def fail(store: BaseStorage, study: Study, number: int, why: str) -> None:
    """Ends a trial without a value."""
    store.set_trial_user_attr(_id(store, study, number), "why", why)
    study.tell(number, state=TrialState.FAIL)


def _id(store: BaseStorage, study: Study, number: int) -> int:
    return store.get_trial_id_from_study_id_trial_number(store.get_study_id_from_name(study.study_name), number)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings of what is new in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
