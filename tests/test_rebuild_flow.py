"""The flow with a Prefect server: its tasks, its table, tries again, and two machines with a remote between them."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

import small_project
from duvae.errors import PASSING
from pipelines.workspaces import WORK
from small_project import call, commit, lock

ROOT = Path(__file__).parents[1]

SOURCES = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server of its own; gives the environment that leads to it."""
    from pipelines.server import answers

    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": url,
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PYTHONPATH": SOURCES,
    }
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 180
        while not answers(url):
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.1)
        yield environment
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def python(code: str, folder: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    return done.stdout


FLAKY = """
import sys
from pathlib import Path
import small_project
from prefect import flow
from pipelines import flow as flows
from pipelines import orchestration
from pipelines.orchestration import Wish

flows.DELAY = 0.1

@flow(name="flaky")
def flaky():
    return rebuilding.rebuild(Path.cwd(), Wish(devices="cpu", keep_going=True), 1, flows.here)[0]

progress = flaky()
print(sorted(progress.done), sorted(progress.failed))
"""

ASKED = """
import json
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import TaskRunSort

with get_client(sync_client=True) as client:
    runs = client.read_task_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[NAME])))
    print(json.dumps(sorted([run.name, run.state.name, run.run_count] for run in runs)))
"""


def test_what_can_pass_is_tried_again_and_what_cannot_is_not(server: dict[str, str], tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    script = f"""echo $1 >> {tried}
case $1 in
  a) [ $(grep -c a {tried}) -gt 1 ] || exit {PASSING};;
  b) exit 2;;
esac
{small_project.EACH.format("$1")}"""
    folder = small_project.create(tmp_path / "project", script)
    said = python(FLAKY, folder, server)
    assert said.strip() == "['after', 'base', 'each@a', 'each@c'] ['each@b']"
    assert sorted(tried.read_text().split()) == ["a", "a", "b", "c"]
    assert set(lock(folder)) == {"after", "base", "each@a", "each@c"}

    runs = yaml.safe_load(python(f"NAME = 'flaky'\n{ASKED}", folder, server))
    assert [run[0] for run in runs] == ["after", "base", "each@a", "each@b", "each@c"]
    assert {name: count for name, _, count in runs} == {"after": 1, "base": 1, "each@a": 2, "each@b": 1, "each@c": 1}
    assert {name for name, state, _ in runs if state == "Failed"} == {"each@b"}


LONG = """
import sys
from pathlib import Path
from prefect import flow
from pipelines import flow as flows, rebuild
from pipelines import orchestration
from pipelines.orchestration import Wish

@flow(name="long")
def long(**chosen):
    rebuilding.rebuild(Path.cwd(), Wish(devices="cpu"), 1, flows.here)

flows.rebuild = long
del sys.argv[1:]
rebuild.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_rebuild_leaves_nothing_running(number: signal.Signals, tmp_path: Path) -> None:
    """Not even the server that it had started for itself."""
    begun = tmp_path / "begun"
    folder = small_project.create(tmp_path / "project", f"touch {begun}; sleep 100")
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": SOURCES}
    command, hidden, seen = [sys.executable, "-c", LONG], subprocess.DEVNULL, subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=hidden, stderr=seen, text=True)
    deadline = time.monotonic() + 240
    while not begun.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("uvicorn" in part for child in started for part in child.cmdline())

    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "\ninterrupted: " in said
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_what_is_to_run_each_night_is_scheduled(server: dict[str, str]) -> None:
    """By the server itself, from the project's own prefect.yaml."""
    for arguments in (
        ["work-pool", "create", "duvae", "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all"],
    ):
        subprocess.run(["prefect", *arguments], cwd=ROOT, env=server, check=True, stdout=subprocess.DEVNULL)
    asked = urllib.request.Request(  # noqa: S310 (the test's own server)
        f"{server['PREFECT_API_URL']}/flow_runs/filter",
        b'{"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}',
        {"Content-Type": "application/json"},
    )
    ends = time.monotonic() + 120
    while not (found := json.load(urllib.request.urlopen(asked))):  # noqa: S310
        assert time.monotonic() < ends, "no run was scheduled"
        time.sleep(0.2)
    assert {run["expected_start_time"][11:16] for run in found} == {"02:00"}


# ---------------------------------------------------------------------------------- machines

CLUSTER = """
import sys
from pathlib import Path
from prefect import flow
from prefect_dask.task_runners import DaskTaskRunner
from pipelines import flow as flows
from pipelines import orchestration
from pipelines.rebuild import workers
from pipelines.orchestration import Cluster, Wish

address, remote = sys.argv[1:]
slots = workers(address)
assert slots == 2, slots

@flow(name="machines", task_runner=DaskTaskRunner(address=address))
def machines():
    return rebuilding.rebuild(Path.cwd(), Wish(cluster=Cluster(slots, remote)), 1, flows.on_a_cluster)[0]

progress = machines()
assert not progress.failed, progress.failed
print(sorted(progress.done))
"""


def test_two_machines_with_caches_of_their_own(server: dict[str, str], tmp_path: Path) -> None:
    main = small_project.create(tmp_path / "main", f"sleep 1; {small_project.EACH.format('$1')}")
    storage = tmp_path / "storage"
    call(main, "dvc", "remote", "add", "storage", str(storage))
    commit(main)
    call(main, "dvc", "repro", "base")  # what the project has already, the machines get from the remote
    machines = [tmp_path / name for name in ("one", "two")]
    for machine in machines:
        call(tmp_path, "git", "clone", "--quiet", str(main), str(machine))
    small_project.change(main, c=30)  # a change that no machine has
    commit(main)  # nor this commit
    small_project.change(main, b=20)  # nor what is not committed

    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "distributed.cli.dask_worker"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"],
            env=server,
            stderr=subprocess.DEVNULL,
        )
    ]
    try:
        for machine in machines:
            options = ["--nthreads", "1", "--resources", "GPU=1", "--no-nanny", "--no-dashboard"]
            started.append(
                subprocess.Popen([*dask, address, *options], cwd=machine, env=server, stderr=subprocess.DEVNULL)
            )
        waiting = f"""
from distributed import Client
with Client("{address}", timeout=120) as client: client.wait_for_workers(2, timeout=120)
"""
        python(waiting, main, server)
        said = python(CLUSTER, main, server, address, "storage")
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert said.strip() == "['after', 'each@a', 'each@b', 'each@c']"
    assert "up to date" in call(main, "dvc", "status").stdout
    said = (main / WORK / "logs" / "recording.log").read_text(encoding="utf-8")
    assert re.findall("Running stage '(.+)'", said) == ["all"]  # nothing that a machine has made is made again
    assert (main / "each/b.txt").read_text() == "some words b\n"
    assert lock(main)["each@b"]["params"]["params.yaml"] == {"b": 20}
    for machine in machines:
        assert list((machine / ".dvc/cache/runs").iterdir()), f"{machine.name} did nothing"
        assert not (machine / "dvc.lock").exists()
        assert call(machine, "git", "status", "--short").stdout == ""
