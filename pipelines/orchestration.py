"""A rebuild from beginning to end: what is out of date, jobs beside each other, the recording."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from duvae.errors import UserError
from pipelines import launcher
from pipelines.devices import Pool, choose
from pipelines.display import Board
from pipelines.estimates import estimates
from pipelines.graph import Graph
from pipelines.launcher import Place
from pipelines.record import mend, record
from pipelines.scheduler import Engine, Progress, Submit
from pipelines.workspaces import WORK, Snapshot, clean


@dataclass(frozen=True)
class Cluster:
    """Other machines.

    Attributes:
        slots: Jobs at a time on all of them.
        remote: The DVC remote through which results come and go; empty: the default one.
        folder: The project's folder on each machine; empty: the one that its worker was started in.
    """

    slots: int
    remote: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Wish:
    """What is asked of a rebuild.

    Attributes:
        targets: Stages of the graph; none: all.
        slots: Jobs at a time on each GPU, or on the CPU; None: one a GPU, or what the cores give.
        devices: `cpu`, or GPUs separated by commas; None: all GPUs that are found, or else the CPU.
        keep_going: After a failure, still run all that does not need what failed.
        timeout: Seconds that one job may take.
        cluster: Where else jobs run; None: here.
        own: The user's own files that stages read, by their paths in the project.
    """

    targets: tuple[str, ...] = ()
    slots: int | None = None
    devices: str | None = None
    keep_going: bool = False
    timeout: float | None = None
    cluster: Cluster | None = None
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hands:
    """What a job is run with.

    Attributes:
        graph: The stages.
        place: Where.
        snapshot: The project.
        pool: What hands devices out; None: each machine has its own.
        placed: Where to note which device a stage has.
    """

    graph: Graph
    place: Place
    snapshot: Snapshot
    pool: Pool | None
    placed: dict[str, str]


def rebuild(
    root: Path,
    wish: Wish,
    threads: int,
    with_: Callable[[Hands], Submit],
    priors: Callable[[bool], Mapping[str, float]] = lambda cuda: {},
) -> tuple[Progress, float]:
    """Rebuilds what is out of date and records it.

    Args:
        root: The project's folder.
        wish: What is asked.
        threads: CPU threads of one job.
        with_: Gives what starts a job.
        priors: Gives the seconds of stages before anything like them has run, on GPUs or not.

    Returns:
        What came of it, and the seconds it took.

    Raises:
        UserError: Where the project is not as it should be, or changed meanwhile.
    """
    started = time.monotonic()
    cluster = wish.cluster
    pool = None if cluster else Pool(choose(threads, wish.slots, wish.devices))
    with alone(root), contextlib.closing(Graph(root, wish.targets)) as graph:
        snapshot = _snapshot(root, graph, wish)
        cuda = bool(pool and pool.devices[0].cuda)
        known = estimates(graph, cuda, priors(cuda))
        engine = Engine(graph, known, wish.keep_going)
        place = Place(root, graph.cache, None, wish.timeout)
        if cluster:
            place = Place(Path(cluster.folder), graph.cache, cluster.remote, wish.timeout)

        def capacity() -> int:
            return len(pool) if pool else cluster.slots if cluster else 1

        with Board(known, capacity()) as board, _ending():
            hands = Hands(graph, place, snapshot, pool, board.places)
            engine.run(with_(hands), capacity, board.look)
            _record(root, wish, engine, snapshot)

    return engine.progress, time.monotonic() - started


def _snapshot(root: Path, graph: Graph, wish: Wish) -> Snapshot:
    """The project as it is now, the parameters that its stages write included."""
    return Snapshot.take(root, graph.written, wish.own, graph.generated.values())


def _record(root: Path, wish: Wish, engine: Engine, snapshot: Snapshot) -> None:
    progress, graph = engine.progress, engine.graph
    if len(progress.fresh) == progress.total and not graph.behind:
        return
    if _snapshot(root, graph, wish) != snapshot:
        raise UserError(
            f"{root}: changed while the rebuild ran. What was made is in the run cache: start again,"
            " and what the change has not touched is found there."
        )
    if wish.cluster:
        graph.fetch(wish.cluster.remote)
    made = {name: graph.known[name] for name in graph.stages if name in graph.known and name not in graph.fresh}
    # What is missing, whatever became of it, `dvc repro` makes here.
    here = {name: entry for name, entry in made.items() if all(graph.holds(out["md5"]) for out in entry["outs"])}
    record(root, here, None if progress.failed else wish.targets)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Holds what one rebuild at a time can hold, and clears up after those that were killed.

    Raises:
        UserError: Where another rebuild of the same project runs.
    """
    (root / WORK).mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / WORK / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{root}: another rebuild runs here. Let it end, or stop it.") from error
    try:
        clean(root)
        mend(root)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """Ends all jobs of this process when the body is left: none outlives what asked for it."""
    try:
        yield
    finally:
        launcher.end_all()
