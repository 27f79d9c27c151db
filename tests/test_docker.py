"""Checks of docker/ that need neither a container engine nor PostgreSQL; `make containers` checks more."""

import importlib.util
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from duvae.cli import TELEMETRY_OFF
from test_environment import entries, locked

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
OURS = ["mlflow", "prefect", "optuna", "worker"]
DRIVERS = {"postgresql+psycopg": ["psycopg", "psycopg-binary"], "postgresql+asyncpg": ["asyncpg"]}
"""The package of each driver of PostgreSQL."""

DIGEST = "@sha256:[0-9a-f]{64}"
"""The end of an image's name after `make digests`."""

SECRETS = {"POSTGRES_PASSWORD": "a", "MLFLOW_DB_PASSWORD": "b", "PREFECT_DB_PASSWORD": "c", "OPTUNA_DB_PASSWORD": "d"}


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """docker/check.py as a module. It cannot be imported by name, since `docker` is the name of a library."""
    spec = importlib.util.spec_from_file_location("docker_check", DOCKER / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)

    return module


@pytest.fixture(scope="module")
def described() -> dict:
    """The content of compose.yaml, in which the variables are not replaced."""
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dockerfile(check: ModuleType) -> list[tuple[str, str]]:
    return check.instructions()


def arguments_of(dockerfile: list[tuple[str, str]], word: str) -> list[str]:
    """The arguments of all instructions with a keyword."""
    return [rest for instruction, rest in dockerfile if instruction == word]


@pytest.mark.parametrize(
    ("text", "values", "filled"),
    [
        ("${A}-${B}", {"A": "1"}, "1-"),
        ("${A:-x}${B-y}", {"A": "", "B": ""}, "x"),
        ("$$HOME and 5$", {}, "$HOME and 5$"),
        ("127.0.0.1:${PORT:-5000}:5000", {"PORT": "6000"}, "127.0.0.1:6000:5000"),
        (["${A:?why}", {"b": "${A?why}"}, 3, None], {"A": "1"}, ["1", {"b": "1"}, 3, None]),
    ],
)
def test_variables_are_filled_in_as_compose_does(check: ModuleType, text: object, values: dict, filled: object) -> None:
    assert check.interpolate(text, values) == filled


@pytest.mark.parametrize(("text", "values"), [("${A:?is not set}", {"A": ""}), ("${A?is not set}", {})])
def test_a_variable_that_is_asked_for_has_to_be_set(check: ModuleType, text: str, values: dict) -> None:
    with pytest.raises(check.Missing, match="A is not set"):
        check.interpolate(text, values)


@pytest.mark.parametrize("name", SECRETS)
def test_without_a_password_nothing_starts_and_the_reason_is_said(check: ModuleType, name: str) -> None:
    with pytest.raises(check.Missing, match=rf"^{name} is not set\. 'make passwords' writes docker/\.env$"):
        check.services({**SECRETS, name: ""})


def test_the_example_asks_for_the_passwords_that_are_needed_and_has_none(check: ModuleType) -> None:
    assert sorted(check.password_names()) == sorted(SECRETS)
    assert re.findall(r"^\w*PASSWORD\w*=.", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE) == []


def test_no_password_is_written_in_what_is_committed(described: dict) -> None:
    for name, service in described["services"].items():
        for variable, value in service["environment"].items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{\w+_PASSWORD:\?[^}]+\}", value), f"{name}: {variable}"
    for path in DOCKER.iterdir():
        if path.is_file() and path.name != ".env":
            assert not re.search(r"://\w+:[^/@\s]+@", path.read_text(encoding="utf-8")), f"a password in a URL: {path}"


def test_the_file_of_passwords_is_kept_out_of_git_and_of_the_images(check: ModuleType) -> None:
    kept = subprocess.run(["git", "check-ignore", "-q", "docker/.env"], cwd=ROOT, check=False)
    assert kept.returncode == 0

    let_through = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in let_through if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [line for line in rules if line.startswith("!docker")]


def test_passwords_are_made_once_each_its_own_and_for_the_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(DOCKER / ".env.example", tmp_path / "docker")
    command = ["make", "-f", str(ROOT / "Makefile"), "passwords"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    made = tmp_path / "docker" / ".env"
    text = made.read_text(encoding="utf-8")
    passwords = dict(re.findall(r"^(\w+_PASSWORD)=([0-9a-f]{48})$", text, re.MULTILINE))

    assert sorted(passwords) == sorted(SECRETS)
    assert len(set(passwords.values())) == len(SECRETS)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert {path.name for path in made.parent.iterdir()} == {".env.example", ".env"}

    again = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert again.returncode == 2
    assert "was not changed" in again.stderr
    assert made.read_text(encoding="utf-8") == text


def test_ports_are_on_loopback_and_the_database_has_none(described: dict) -> None:
    published = {name: service.get("ports", []) for name, service in described["services"].items()}

    assert {name for name, ports in published.items() if ports} == {"mlflow", "prefect", "optuna"}
    for ports in published.values():
        for line in ports:
            assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PORT:-(\d+)\}:\1", line)


def test_every_service_tells_its_health_restarts_and_can_do_little(described: dict) -> None:
    for name, service in described["services"].items():
        assert {"test", "interval", "timeout", "start_period", "retries"} <= service["healthcheck"].keys(), name
        assert service["restart"] == "unless-stopped", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_a_service_waits_until_what_it_needs_is_healthy(described: dict) -> None:
    services = described["services"]
    for name in OURS:
        addressed = {
            other
            for other in services
            for word in [*services[name]["command"], *services[name]["environment"].values()]
            if other != name and re.search(rf"\b{other}:\d", str(word))
        }
        needed = services[name]["depends_on"]

        assert addressed
        assert addressed <= needed.keys(), name
        assert all(how == {"condition": "service_healthy"} for how in needed.values()), name


def test_what_has_to_last_lies_in_volumes(described: dict) -> None:
    assert described["services"]["postgres"]["volumes"][0] == "postgres:/var/lib/postgresql/data"
    assert described["services"]["mlflow"]["volumes"] == ["artifacts:/artifacts"]
    assert described["services"]["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"] == "/artifacts"
    assert described["volumes"].keys() == {"postgres", "artifacts"}


def test_images_have_exact_versions(described: dict, dockerfile: list[tuple[str, str]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cuda = yaml.safe_load((DOCKER / "compose.cuda.yaml").read_text(encoding="utf-8"))["services"]["worker"]
    for image in [*(service["image"] for service in described["services"].values()), cuda["image"]]:
        name, _, tag = image.partition(":")
        wanted = (
            rf"\d+\.\d+-bookworm({DIGEST})?" if name == "postgres" else re.escape(project["version"]) + r"(-cpu|-cuda)?"
        )
        assert re.fullmatch(wanted, tag), image

    (base,) = [rest for rest in arguments_of(dockerfile, "ARG") if rest.startswith("PYTHON_IMAGE=")]
    version = re.fullmatch(rf"PYTHON_IMAGE=python:(\d+\.\d+\.\d+)-slim-bookworm({DIGEST})?", base)
    assert version is not None
    # The Python version must be the one that requirements.lock was resolved for.
    assert version[1].startswith(re.search(r"--python-version (\S+)", (ROOT / "Makefile").read_text("utf-8"))[1] + ".")
    stages = [rest.rpartition(" AS ") for rest in arguments_of(dockerfile, "FROM")]
    assert [stage for *_, stage in stages] == ["uv", "servers", "worker"]
    assert [image for image, *_ in stages] == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}", "servers"]


def test_the_lock_decides_what_the_images_hold(described: dict, dockerfile: list[tuple[str, str]]) -> None:
    pins = locked()
    installs = [
        line for rest in arguments_of(dockerfile, "RUN") for line in rest.split("&& ") if "/uv/uv pip install" in line
    ]
    for line in installs:
        assert "--no-deps" in line or "--constraint /lock/requirements.lock" in line, line
    (servers,) = [line for line in installs if "mlflow" in line]
    for word in servers.split("requirements.lock ")[-1].split():
        assert canonicalize_name(Requirement(word.strip("'")).name) in pins, word
    for name in OURS:
        for value in described["services"][name]["environment"].values():
            if (scheme := str(value).partition("://")[0]) in DRIVERS:
                assert all(package in pins for package in DRIVERS[scheme]), value
            assert not str(value).startswith("postgresql:"), "name the driver: SQLAlchemy's own choice changes"
    assert any("\"$(grep '^torch==' /lock/requirements.lock)\"" in rest for rest in arguments_of(dockerfile, "RUN"))


def test_every_installation_checks_the_hashes_of_the_lock(dockerfile: list[tuple[str, str]]) -> None:
    """uv checks the hashes of constraints too, since those of the lock name exact versions."""
    commands = [line for rest in arguments_of(dockerfile, "RUN") for line in rest.split("&& ") if "pip install" in line]
    assert len(commands) == 6
    for line in commands:
        # The index of torch's builds has torch alone, which has no hash.
        hashed = re.search("--(require-hashes|build-constraints /lock/requirements.lock|index)", line)
        assert hashed, line
    (uv,) = [line for line in commands if "--target /uv " in line]
    (entry,) = re.findall(
        r"sed -n '(.*?)' /lock/requirements.lock > /uv.txt", " ".join(arguments_of(dockerfile, "RUN"))
    )

    assert uv.endswith("--require-hashes --no-deps --requirement /uv.txt")
    lines = subprocess.run(["sed", "-n", entry, ROOT / "requirements.lock"], capture_output=True, text=True, check=True)
    pinned = next(hashes for requirement, hashes in entries() if requirement.name == "uv")
    assert re.findall(r"--hash=(\S+)", lines.stdout) == pinned
    assert lines.stdout.startswith(f"uv=={locked()['uv']} \\\n")


def test_nothing_in_the_images_reports_home(check: ModuleType) -> None:
    seen = check.image_environment()

    assert {name: seen.get(name) for name in TELEMETRY_OFF} == TELEMETRY_OFF


def test_the_images_do_not_run_as_root(check: ModuleType, dockerfile: list[tuple[str, str]]) -> None:
    last = {}
    for word, rest in dockerfile:
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
        elif word == "USER":
            last[stage] = rest

    assert last == {"servers": "${UID}:${GID}", "worker": "${UID}:${GID}"}
    assert [rest for rest in arguments_of(dockerfile, "ARG") if "ID=" in rest] == ["UID=1000", "GID=1000"]


def test_what_is_copied_is_let_through_and_there(dockerfile: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for rest in arguments_of(dockerfile, "COPY") for source in rest.split()[:-1]}
    mounted = set(re.findall(r"--mount=type=bind,source=([^,]+)", " ".join(arguments_of(dockerfile, "RUN"))))

    assert copied | mounted == let_through
    assert all((ROOT / name).exists() for name in let_through)


def test_every_command_is_in_the_environment(described: dict) -> None:
    for name in OURS:
        words = described["services"][name]["command"]
        commands = re.findall(r"^(?:exec )?([\w-]+) ", words[2], re.MULTILINE) if words[0] == "sh" else words[:1]
        assert commands, name
        assert all(shutil.which(command) for command in commands), f"{name}: {commands}"


def test_the_worker_is_the_same_with_compose_and_without(described: dict, dockerfile: list[tuple[str, str]]) -> None:
    worker = described["services"]["worker"]
    (command,), (health,) = arguments_of(dockerfile, "CMD"), arguments_of(dockerfile, "HEALTHCHECK")

    assert yaml.safe_load(command) == worker["command"]
    assert ["CMD", *yaml.safe_load(health.partition(" CMD ")[2])] == worker["healthcheck"]["test"]


def test_a_service_that_is_moved_listens_on_loopback_and_finds_the_others(check: ModuleType, tmp_path: Path) -> None:
    local = check.LocalServices(tmp_path, check.services(SECRETS))
    ports = local.ports

    assert len(set(ports.values())) == len(ports) == 5
    command = local.command("mlflow")
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == str(ports["mlflow"])
    seen = local.environment("worker")
    assert seen["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{ports['mlflow']}"
    assert seen["PREFECT_API_URL"] == f"http://127.0.0.1:{ports['prefect']}/api"
    assert seen["OPTUNA_STORAGE"] == f"postgresql+psycopg://optuna@127.0.0.1:{ports['postgres']}/optuna"
    assert seen["PGPASSWORD"] == SECRETS["OPTUNA_DB_PASSWORD"]
    assert seen["HOME"] == str(tmp_path / "worker")
    for name in OURS:
        moved = " ".join([*local.command(name), *local.environment(name).values()])
        assert not re.search(r"\b(postgres|mlflow|prefect|optuna):\d|0\.0\.0\.0", moved)


def test_the_databases_are_those_that_the_services_open(described: dict) -> None:
    script = (DOCKER / "databases.sh").read_text(encoding="utf-8")
    made = re.search(r"for name in ([\w ]+);", script)[1].split()
    urls = [str(value) for name in OURS for value in described["services"][name]["environment"].values()]
    opened = {url[1] for value in urls if (url := re.fullmatch(r"postgresql\+\w+://(\w+)@postgres:5432/\1", value))}

    assert subprocess.run(["bash", "-n", str(DOCKER / "databases.sh")], check=False).returncode == 0
    assert set(made) == opened
    passwords = described["services"]["postgres"]["environment"]
    assert all(f"{name.upper()}_DB_PASSWORD" in passwords for name in made)


def test_where_postgresql_is_not_the_check_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(DOCKER / "check.py"), "--postgres", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("error: PostgreSQL was not found")
    assert "Traceback" not in done.stderr
