"""Runs the services of compose.yaml without containers: their very commands, on a PostgreSQL of its own.

`python docker/check.py` reads commands, environments and health checks from compose.yaml, makes a throwaway PostgreSQL
cluster with the databases of databases.sh, and shows that MLflow, Prefect, Optuna's dashboard and the worker do there
what they are for. Only addresses, ports and the folder of artifacts are put in another place; all is on loopback.
Exit codes: 0 all is well, 1 a check failed, 2 something that is needed is not here.
"""

import argparse
import contextlib
import http.client
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
PATIENCE = 300.0
"""Seconds that a service may take until its health check answers; a machine may be busy."""

VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<how>:?[-?])(?P<word>[^}]*))?\})")


class Missing(Exception):
    """Something that is needed is not here."""


def interpolate(node: Any, values: Mapping[str, str]) -> Any:
    """`node` of a compose file with its variables filled in, as the Compose specification has it.

    Raises:
        Missing: A variable that is asked for by `${NAME:?why}` is not set.
    """

    def fill(found: re.Match[str]) -> str:
        name, how, word = found["name"], found["how"] or "", found["word"] or ""
        if name is None:
            return "$"
        value = values.get(name)
        absent = value is None or (how.startswith(":") and not value)
        if absent and how.endswith("?"):
            raise Missing(f"{name} {word}")

        return word if absent and how.endswith("-") else value or ""

    match node:
        case str():
            return VARIABLE.sub(fill, node)
        case list():
            return [interpolate(item, values) for item in node]
        case dict():
            return {key: interpolate(item, values) for key, item in node.items()}

    return node


def services(values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, filled in."""
    described = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))

    return interpolate(described["services"], values)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and what they say, without comments, each on a line of its own."""
    lines = (HERE / "Dockerfile").read_text(encoding="utf-8").splitlines(keepends=True)
    joined = "".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")

    parted = (line.partition(" ") for line in joined.splitlines())

    return [(word, " ".join(rest.split())) for word, _, rest in parted if word]


def image_environment() -> dict[str, str]:
    """What the images set for whatever runs in them, without what is about their folders."""
    pairs = (pair.partition("=") for word, rest in instructions() if word == "ENV" for pair in shlex.split(rest))

    return {
        name: value for name, _, value in pairs if "/" not in value and not name.startswith(("PREFECT_WORKER", "UV_"))
    }


def port(service: Mapping[str, Any]) -> int:
    """The port in the container on which a service answers."""
    (line,) = service.get("ports") or service["expose"]

    return int(line.rpartition(":")[2])


def named(*, example: Path = HERE / ".env.example") -> list[str]:
    """The passwords that .env.example asks for."""
    return re.findall(r"^(\w+)=$", example.read_text(encoding="utf-8"), flags=re.MULTILINE)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))

        return int(listening.getsockname()[1])


@dataclass
class Place:
    """Where the services are put here, and what of theirs is written differently for it."""

    folder: Path
    described: dict[str, dict[str, Any]]
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in self.described}

    def moved(self, name: str, text: str) -> str:
        """`text` of the service `name` with this machine's addresses, ports and folder of artifacts."""
        for other, described in self.described.items():
            text = re.sub(rf"\b{other}:{port(described)}\b", f"127.0.0.1:{self.ports[other]}", text)
        text = re.sub(rf"\b{port(self.described[name])}\b", str(self.ports[name]), text)

        return text.replace("0.0.0.0", "127.0.0.1").replace("/artifacts", str(self.folder / "artifacts"))  # noqa: S104

    def environment(self, name: str) -> dict[str, str]:
        """What the service sees: what compose.yaml gives, and as little as can be of this shell."""
        keep = {key: os.environ[key] for key in ("LANG", "SSL_CERT_FILE", "TZ") if key in os.environ}
        home = self.folder / name
        home.mkdir(exist_ok=True)
        given = {key: self.moved(name, str(value)) for key, value in self.described[name]["environment"].items()}

        return {
            **keep,
            **image_environment(),
            "HOME": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "page"),
            **given,
        }

    def command(self, name: str) -> list[str]:
        return [self.moved(name, word) for word in self.described[name]["command"]]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def run(self, name: str, code: str, *arguments: str) -> Any:
        """What `code` prints as JSON, run with the environment of the service `name`."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=self.environment(name),
            cwd=self.folder / name,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"as a client of {name}:\n{done.stdout}{done.stderr}")

        return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def service(place: Place, name: str) -> Iterator[None]:
    """The service `name`, from its first healthy answer until the body ends; stopped as a container is."""
    command, log = place.command(name), place.folder / f"{name}.log"
    print(f"\n{name}: {shlex.join(command)}", flush=True)
    began = time.monotonic()
    with log.open("ab") as out:
        running = subprocess.Popen(
            command,
            env=place.environment(name),
            cwd=place.folder / name,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _, *test = (place.moved(name, word) for word in place.described[name]["healthcheck"]["test"])
        while subprocess.run(test, env=place.environment(name), capture_output=True, check=False).returncode:
            if running.poll() is not None or time.monotonic() > began + PATIENCE:
                tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
                raise AssertionError(f"{name} is not healthy (exit code {running.returncode}):\n{tail}")
            time.sleep(0.5)
        print(f"  healthy after {time.monotonic() - began:.0f} s", flush=True)
        yield
    finally:
        stop(running)


def stop(running: "subprocess.Popen[bytes]") -> None:
    """Ends a service and whatever it has started."""
    running.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(timeout=30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def programs(given: Path | None) -> Path:
    """The folder of PostgreSQL's programs."""
    found = [given] if given else [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)]
    if not given and (there := shutil.which("initdb")):
        found.append(Path(there).parent)
    for folder in found:
        if (folder / "initdb").exists():
            return folder

    raise Missing("PostgreSQL is not here: apt install postgresql, or name its folder of programs by --postgres")


def _major(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


@contextlib.contextmanager
def postgresql(place: Place, folder: Path) -> Iterator[dict[str, str]]:
    """A throwaway cluster on loopback with the databases of databases.sh; gives the superuser's environment."""
    described = place.described["postgres"]
    # It refuses to be run by root; its package has an account for it.
    try:
        account = {"user": pwd.getpwnam("postgres").pw_uid} if os.geteuid() == 0 else {}
    except KeyError:
        raise Missing("PostgreSQL does not run as root, and there is no user 'postgres': run this as a user") from None
    data, passwords = place.folder / "cluster", place.folder / "superuser"
    data.mkdir()
    passwords.write_text(described["environment"]["POSTGRES_PASSWORD"] + "\n", encoding="utf-8")
    if account:
        place.folder.chmod(0o711)
        for path in (data, passwords):
            os.chown(path, account["user"], -1)
    arguments = described["environment"]["POSTGRES_INITDB_ARGS"].split()
    arguments += [f"--pwfile={passwords}", "--username=postgres", "--auth-local=reject", "--no-sync"]
    command = [str(folder / "initdb"), "--pgdata", str(data), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **account)
    environment = {
        **place.environment("postgres"),
        "PATH": os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)]),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(place.ports["postgres"]),
        "PGPASSWORD": described["environment"]["POSTGRES_PASSWORD"],
    }
    server = [str(folder / "postgres"), "-D", str(data), "-p", environment["PGPORT"]]
    server += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with (place.folder / "postgres.log").open("ab") as out:
        running = subprocess.Popen(server, stdout=out, stderr=out, cwd="/", start_new_session=True, **account)
    try:
        _, *test = (place.moved("postgres", word) for word in described["healthcheck"]["test"])
        for _ in range(100):
            if not subprocess.run(test, env=environment, check=False).returncode:
                break
            time.sleep(0.2)
        # Twice: run again, it changes nothing and fails at nothing.
        for _ in range(2):
            subprocess.run([str(HERE / "databases.sh")], env=environment, check=True)
        yield environment
    finally:
        running.send_signal(signal.SIGINT)  # which PostgreSQL takes as: stop now, cleanly
        running.wait(timeout=60)


def ask(environment: Mapping[str, str], database: str, query: str) -> str:
    """What `query` gives as the superuser."""
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username=postgres", "-d", database, "-c", query]

    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def get(url: str) -> Any:
    """The JSON that `url` answers with."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  # one of our own servers
        return json.load(answer)


def expect(what: str, seen: object, wanted: object) -> None:
    """Says what is seen; it has to be what is wanted."""
    if seen != wanted:
        raise AssertionError(f"{what}: {wanted!r} expected, {seen!r} found")
    print(f"  {what}: {seen}", flush=True)


LOGS_A_RUN = """
import json, pathlib, mlflow
mlflow.set_experiment("check")
pathlib.Path("note.txt").write_text("kept")
with mlflow.start_run() as run:
    mlflow.log_metric("nll", 33.5)
    mlflow.log_artifact("note.txt")
print(json.dumps(run.info.run_id))
"""
READS_A_RUN = """
import json, pathlib, sys, mlflow
run = mlflow.get_run(sys.argv[1])
note = mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path="note.txt", dst_path="again")
print(json.dumps([run.data.metrics["nll"], pathlib.Path(note).read_text()]))
"""
RUNS_A_STUDY = """
import json, os, optuna
study = optuna.create_study(study_name="check", storage=os.environ["OPTUNA_STORAGE"])
study.optimize(lambda trial: (trial.suggest_float("gamma", 0, 1) - 0.6) ** 2, n_trials=3)
print(json.dumps(len(study.trials)))
"""
FLOW = """
from prefect import flow, task

@task
def double(number: int) -> int:
    return 2 * number

@flow(name="check")
def check(number: int = 21) -> int:
    return double(number)
"""
RUNS_A_FLOW = """
import json, pathlib
pathlib.Path("small.py").write_text({flow!r})
from small import check
print(json.dumps(check()))
"""
HANDS_A_FLOW_TO_THE_WORKER = """
import json, os
from prefect import flow
from prefect.deployments import run_deployment
told = flow.from_source(source=os.getcwd(), entrypoint="small.py:check")
told.deploy(name="check", work_pool_name="duvae", print_next_steps=False)
run = run_deployment("check/check", timeout=120, poll_interval=1)
print(json.dumps([run.state.name, str(run.id)]))
"""


def check_mlflow(place: Place, superuser: Mapping[str, str]) -> None:
    """A run and its artifact are there after a restart."""
    with service(place, "mlflow"):
        run = place.run("worker", LOGS_A_RUN)
    expect("runs in PostgreSQL", ask(superuser, "mlflow", "SELECT run_uuid FROM runs"), run)
    expect("files of artifacts", [path.name for path in (place.folder / "artifacts").rglob("note.txt")], ["note.txt"])
    with service(place, "mlflow"):
        expect("metric and artifact after a restart", place.run("worker", READS_A_RUN, run), [33.5, "kept"])
        search = "/api/2.0/mlflow/experiments/search?max_results=1"
        statuses = {}
        for host in (f"mlflow:{place.ports['mlflow']}", "localhost:5001", "elsewhere.example"):
            asked = http.client.HTTPConnection("127.0.0.1", place.ports["mlflow"], timeout=30)
            with contextlib.closing(asked):
                asked.request("GET", search, headers={"Host": host})
                statuses[host.partition(":")[0]] = asked.getresponse().status
        expect(
            "answers by the host that is asked for",
            statuses,
            {"mlflow": 200, "localhost": 200, "elsewhere.example": 403},
        )


def check_prefect(place: Place, superuser: Mapping[str, str]) -> None:
    """A flow is recorded, and the worker carries out one that is handed to it."""
    with service(place, "prefect"):
        expect("a flow's result", place.run("worker", RUNS_A_FLOW.format(flow=FLOW)), 42)
        query = "SELECT state_type FROM flow_run"
        expect("flow runs in PostgreSQL", ask(superuser, "prefect", query), "COMPLETED")
        query = "SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'"
        for _ in range(20):  # a task is recorded from its events, a little later
            if (seen := ask(superuser, "prefect", query)) == "1":
                break
            time.sleep(0.5)
        expect("task runs in PostgreSQL", seen, "1")
        seen = get(place.url("prefect") + "/ui-settings")["api_url"]
        expect("where the page finds the server", seen, place.url("prefect") + "/api")
        with service(place, "worker"):
            state, run = place.run("worker", HANDS_A_FLOW_TO_THE_WORKER)
            expect("a flow that the worker ran", state, "Completed")
    with service(place, "prefect"):
        seen = get(f"{place.url('prefect')}/api/flow_runs/{run}")["state_name"]
        expect("its state after a restart", seen, "Completed")


def check_optuna(place: Place, superuser: Mapping[str, str]) -> None:
    """A study that a worker writes is on the dashboard."""
    with service(place, "optuna"):
        expect("trials", place.run("worker", RUNS_A_STUDY), 3)
        studies = get(place.url("optuna") + "/api/studies")["study_summaries"]
        expect("studies on the dashboard", [study["study_name"] for study in studies], ["check"])
        expect("trials in PostgreSQL", ask(superuser, "optuna", "SELECT count(*) FROM trials"), "3")


def check_separation(place: Place, superuser: Mapping[str, str]) -> None:
    """Each service gets into its own database and no other, and nobody in with a wrong password."""
    print("\npostgres: roles", flush=True)
    own = {name: place.described[name]["environment"]["PGPASSWORD"] for name in ("mlflow", "prefect", "optuna")}
    command = ["psql", "--no-psqlrc", "--quiet", "-c", "CREATE TABLE t (); DROP TABLE t"]
    opened = []
    for name, password in own.items():
        for database in own:
            for given in (password, password + "."):
                client = {**superuser, "PGUSER": name, "PGDATABASE": database, "PGPASSWORD": given}
                if not subprocess.run(command, env=client, capture_output=True, check=False).returncode:
                    opened.append((name, database, given == password))
    expect("who opens what, by the right password", opened, [(name, name, True) for name in own])


CHECKS = {"separation": check_separation, "mlflow": check_mlflow, "prefect": check_prefect, "optuna": check_optuna}


def main() -> int:
    """All checks, or the one that is asked for; gives the exit code."""
    reads = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    reads.add_argument("--postgres", type=Path, metavar="FOLDER", help="where initdb, postgres and psql lie")
    reads.add_argument("--only", choices=CHECKS, help="one check instead of all")
    reads.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    told = reads.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    try:
        folder = programs(told.postgres)
        secret = {name: secrets.token_urlsafe(24) + "@:/%'" for name in named()}
        place = Place(Path(mkdtemp(prefix="containers-")), services(secret))
        try:
            with postgresql(place, folder) as superuser:
                version = ask(superuser, "postgres", "SHOW server_version")
                print(f"PostgreSQL {version}; logs in {place.folder}", flush=True)
                for check in [CHECKS[told.only]] if told.only else CHECKS.values():
                    check(place, superuser)
        finally:
            if not told.keep:
                shutil.rmtree(place.folder)
    except Missing as error:
        print(f"error: {error}", file=sys.stderr)

        return 2
    except (AssertionError, subprocess.SubprocessError) as error:
        print(f"failed: {error}", file=sys.stderr)

        return 1
    print("\nall services do what they are for")

    return 0


if __name__ == "__main__":
    sys.exit(main())
