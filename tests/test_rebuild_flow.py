"""The Prefect flow of a rebuild, with a Prefect server.

The tests cover tasks, retries, interruptions, schedules, and two machines that share a DVC remote.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import small_project
from duvae.errors import HOST_UNAVAILABLE
from made_up_gpus import LOST, nvidia_smi
from pipelines import flow_runs
from pipelines.owners import owner
from pipelines.workspaces import WORK_FOLDER
from small_project import call, commit, lock

ROOT = Path(__file__).parents[1]

SOURCES = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Starts a Prefect server for these tests; yields the environment variables for commands that use the server."""
    from pipelines.servers import is_healthy

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
        deadline = time.monotonic() + 900
        while not is_healthy(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
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
from pipelines.orchestration import RebuildOptions

flows.DELAY = 0.1

@flow(name="flaky")
def flaky():
    return orchestration.run(Path.cwd(), RebuildOptions(devices="cpu", keep_going=True), 1, flows.submit_here)[0]

progress = flaky()
print(sorted(progress.done), sorted(progress.failed))
"""

TASK_RUNS = """
import json
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import TaskRunSort

with get_client(sync_client=True) as client:
    runs = client.read_task_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[NAME])))
    print(json.dumps(sorted([run.name, run.state.name, run.run_count] for run in runs)))
"""


def test_only_transient_failures_are_retried(server: dict[str, str], tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    script = f"""echo $1 >> {attempts}
case $1 in
  a) [ $(grep -c a {attempts}) -gt 1 ] || exit {HOST_UNAVAILABLE};;
  b) exit 2;;
esac
{small_project.EACH.format("$1")}"""
    folder = small_project.create(tmp_path / "project", script)
    output = python(FLAKY, folder, server)
    assert output.strip() == "['after', 'base', 'each@a', 'each@c'] ['each@b']"
    assert sorted(attempts.read_text().split()) == ["a", "a", "b", "c"]
    assert set(lock(folder)) == {"after", "base", "each@a", "each@c"}

    runs = yaml.safe_load(python(f"NAME = 'flaky'\n{TASK_RUNS}", folder, server))
    assert [run[0] for run in runs] == ["after", "base", "each a", "each b", "each c"]
    assert {name: count for name, _, count in runs} == {"after": 1, "base": 1, "each a": 2, "each b": 1, "each c": 1}
    assert {name for name, state, _ in runs if state == "Failed"} == {"each b"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_rebuild_leaves_nothing_running(number: signal.Signals, tmp_path: Path) -> None:
    """After a signal, no process of the rebuild is left, and Prefect's temporary server has ended too."""
    started_file = tmp_path / "started"
    folder = small_project.create(tmp_path / "project", f"touch {started_file}; sleep 100")
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    # Prefect waits 20 seconds for its server. `pipelines.rebuild` raises this limit, but the program imports Prefect
    # earlier.
    # The environment therefore raises the limit.
    environment |= {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PYTHONPATH": SOURCES,
    }
    command = [sys.executable, "-c", small_project.LONG_REBUILD]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not started_file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("uvicorn" in part for child in children for part in child.cmdline())

    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "\ninterrupted: " in errors
    assert not psutil.wait_procs(children, timeout=60)[1]


def ask(server: dict[str, str], path: str, **content: object) -> Any:
    """Sends a request to the Prefect server; returns its answer.

    A server whose database is locked for the moment answers 503. Prefect's own client then asks again, too.
    """
    request = urllib.request.Request(  # noqa: S310 (the test's own server)
        f"{server['PREFECT_API_URL']}/{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            return json.load(urllib.request.urlopen(request))  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def test_the_next_rebuild_ends_the_run_of_a_killed_one(server: dict[str, str], tmp_path: Path) -> None:
    """The next rebuild fails early, since there is no params.yaml. A run stays whose process lives: this test."""
    flow = ask(server, "flows/", name="rebuild")["id"]
    mine = {"flow_id": flow, "state": {"type": "RUNNING"}, "labels": {flow_runs.LABEL: owner()}}
    living = ask(server, "flow_runs/", **mine)["id"]
    folder = small_project.create(tmp_path / "project", "touch ../started; sleep 300")
    command = [sys.executable, "-c", small_project.LONG_REBUILD]
    process = subprocess.Popen(command, cwd=folder, env=server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("project/.dvc/tmp/rebuild/workspaces/*/started")):
        assert process.poll() is None
        time.sleep(0.2)
    process.kill()
    process.wait()
    running = [run for run in ask(server, "flow_runs/filter") if run["state_name"] == "Running"]
    (killed,) = [run for run in running if run["id"] != living]
    assert killed["name"] == "rebuild: 5 tasks"

    command = [sys.executable, "-m", "pipelines.rebuild"]
    done = subprocess.run(command, cwd=tmp_path, env=server, capture_output=True, text=True, check=False)
    assert (done.returncode, "params.yaml" in done.stderr) == (2, True), done.stderr
    states = {run["id"]: run["state_name"] for run in ask(server, "flow_runs/filter")}
    assert (states[killed["id"]], states[living]) == ("Crashed", "Running")
    tasks = ask(server, "task_runs/filter", flow_runs={"id": {"any_": [killed["id"]]}})
    assert {task["state_name"] for task in tasks if task["name"] != "base"} == {"Crashed"}


def test_the_nightly_deployment_is_scheduled(server: dict[str, str]) -> None:
    """After `prefect deploy`, the server schedules the rebuild that prefect.yaml describes for 02:00 UTC each day."""
    for arguments in (
        ["work-pool", "create", "duvae", "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all"],
    ):
        subprocess.run(["prefect", *arguments], cwd=ROOT, env=server, check=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (runs := ask(server, "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})):
        assert time.monotonic() < deadline, "no run was scheduled"
        time.sleep(0.2)
    assert {run["expected_start_time"][11:16] for run in runs} == {"02:00"}


# ---------------------------------------------------------------------------------- several machines

CLUSTER = """
import sys
from pathlib import Path
from prefect import flow
from prefect_dask.task_runners import DaskTaskRunner
from pipelines import flow as flows
from pipelines import orchestration
from pipelines.rebuild import workers
from pipelines.orchestration import Cluster, RebuildOptions

address, remote = sys.argv[1:]
slots = workers(address)
assert slots == 2, slots

@flow(name="machines", task_runner=DaskTaskRunner(address=address))
def machines():
    return orchestration.run(Path.cwd(), RebuildOptions(cluster=Cluster(slots, remote)), 1, flows.submit_to_cluster)[0]

progress = machines()
assert not progress.failed, progress.failed
print(sorted(progress.done))
"""


NO_FILE = {
    f"DASK_DISTRIBUTED__COMM__TLS__{name}": "/no/such.pem" for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")
}


@pytest.mark.parametrize(
    ("address", "variables", "message"),
    [
        ("tls://127.0.0.1:1", {}, "expected a certificate and a key for TLS; found none"),
        ("tls://127.0.0.1:1", NO_FILE, "cannot be read"),
        ("tcp://127.0.0.1:1", None, "expected tls://HOST:PORT"),
    ],
)
def test_a_wrong_setting_for_encryption_is_said(
    address: str, variables: dict[str, str] | None, message: str, tmp_path: Path
) -> None:
    """None as variables: those of docs/machines.md, of which each connection needs all."""
    if variables is None:
        variables = encryption(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", f"from pipelines.rebuild import workers\nworkers({address!r})"],
        env={**os.environ, "PYTHONPATH": SOURCES, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stderr.splitlines()[-1].startswith(f"duvae.errors.UserError: --scheduler {address}: ")
    assert message in done.stderr


PAGE = (ROOT / "docs/machines.md").read_text(encoding="utf-8")

REFUSED = """
import sys
from distributed import Client
from distributed.security import Security

port, ca, cert, key, *other = sys.argv[1:]
for protocol, files in (("tcp", []), ("tls", other), ("tls", [ca, *other[1:]])):
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    try:
        Client(f"{protocol}://127.0.0.1:{port}", timeout=5, security=Security(**dict(zip(names, files))))
    except OSError:
        continue
    sys.exit(f"accepted: {protocol} {files}")
"""


def encryption(home: Path) -> dict[str, str]:
    """Makes a certificate and a key with the commands of docs/machines.md; returns the variables for Dask."""
    home.mkdir()
    certificate, variables = (
        block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if block.startswith(("mkdir", "export DASK"))
    )
    script = re.sub(r"^scp .*", "", certificate, flags=re.MULTILINE) + variables + "env -0"
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True)
    assert [(path.stat().st_mode & 0o77) for path in (home / "duvae-tls", home / "duvae-tls/key.pem")] == [0, 0]
    pairs = (entry.partition("=") for entry in done.stdout.split("\0"))

    return {name: value for name, _, value in pairs if name.startswith("DASK_")}


def test_a_program_with_the_settings_of_the_page_opens_no_port_without_encryption(tmp_path: Path) -> None:
    """A configuration of Dask may name another protocol. Without a name, Dask then chooses TLS."""
    environment = {**os.environ, **encryption(tmp_path / "home")}
    command = "dask scheduler --protocol tcp --host 127.0.0.1 --port 0 --dashboard-address 127.0.0.1:0"
    done = subprocess.run(command.split(), env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode != 0
    assert "encryption required by Dask configuration, refusing communication from/to 'tcp://" in done.stderr


WORKER = """
from pipelines.failures import Failure, TaskFailedError
from pipelines.flow import device_of_worker

try:
    print(device_of_worker("train").name)
except TaskFailedError as error:
    assert error.failure is Failure.DEVICE
    print(error)
"""


def test_a_worker_whose_gpus_cannot_be_read_does_not_use_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(monkeypatch, tmp_path, LOST, code=15)
    host, environment = socket.gethostname(), {"PYTHONPATH": SOURCES}
    output = python(WORKER, tmp_path, {**os.environ, **environment})
    assert output.startswith(f"train: on {host}: GPUs: expected GPUs that can be used, but nvidia-smi says: Unable")
    hidden = {**os.environ, **environment, "CUDA_VISIBLE_DEVICES": "-1"}
    assert python(WORKER, tmp_path, hidden) == f"{host}: CPU\n"


def test_two_machines_with_caches_of_their_own(server: dict[str, str], tmp_path: Path) -> None:
    main = small_project.create(tmp_path / "main", f"sleep 1; {small_project.EACH.format('$1')}")
    storage = tmp_path / "storage"
    call(main, "dvc", "remote", "add", "storage", str(storage))
    commit(main)
    call(main, "dvc", "repro", "base")  # the machines get the output of `base` from the remote
    machines = [tmp_path / name for name in ("one", "two")]
    for machine in machines:
        call(tmp_path, "git", "clone", "--quiet", str(main), str(machine))
    small_project.change(main, c=30)  # the clones of the machines lack this change
    commit(main)  # and this commit
    small_project.change(main, b=20)  # and this uncommitted change

    secured, other = encryption(tmp_path / "home"), encryption(tmp_path / "other")
    port = free_port()
    address = f"tls://127.0.0.1:{port}"
    processes = []
    try:
        for folder, start in ((main, "dask scheduler "), *((machine, "dask worker ") for machine in machines)):
            (command,) = re.findall(rf"^(?:CUDA\S+ )?({start}.*)", PAGE, re.MULTILINE)
            command = command.replace("eth0", "lo").replace("first", "127.0.0.1").replace("8786", str(port))
            processes.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {command}"],
                    cwd=folder,
                    env=server | secured,
                    stderr=subprocess.DEVNULL,
                )
            )
        waiting = f"""
from distributed import Client
with Client("{address}", timeout=120) as client: client.wait_for_workers(2, timeout=120)
"""
        python(waiting, main, server | secured)
        for process in processes:
            sockets = psutil.Process(process.pid).net_connections("inet")
            assert {socket_.laddr.ip for socket_ in sockets if socket_.status == "LISTEN"} == {"127.0.0.1"}
        files = [settings[name] for settings in (secured, other) for name in NO_FILE]
        python(REFUSED, main, server, str(port), *files)
        output = python(CLUSTER, main, server | secured, address, "storage")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert output.strip() == "['after', 'each@a', 'each@b', 'each@c']"
    assert "up to date" in call(main, "dvc", "status").stdout
    log = (main / WORK_FOLDER / "logs" / "recording.log").read_text(encoding="utf-8")
    assert re.findall("Running stage '(.+)'", log) == ["all"]  # no stage runs again that a machine has run
    assert (main / "each/b.txt").read_text() == "some words b\n"
    assert lock(main)["each@b"]["params"]["params.yaml"] == {"b": 20}
    for machine in machines:
        assert list((machine / ".dvc/cache/runs").iterdir()), f"{machine.name} ran no stage"
        assert not (machine / "dvc.lock").exists()
        assert call(machine, "git", "status", "--short").stdout == ""
