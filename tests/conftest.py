"""Settings and fixtures for all tests. In every test, duvae checks shapes and types, and torch uses one thread."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

# The functions of these modules check the shapes and types of their arguments at each call. The hook that adds the
# checks works only if it is installed before the first import of the modules.
CHECKED = ["data", "metrics", "networks", "training"]
CHECKED += ["objectives", "posteriors", "refinement", "regularizers", "systems", "vae"]
install_import_hook([f"duvae.{module}" for module in CHECKED], "beartype.beartype")

os.environ.update(
    DO_NOT_TRACK="true",
    GX_ANALYTICS_ENABLED="False",
    ITERATIVE_DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    MPLBACKEND="agg",
)
# Tests run the commands `dvc` and `duvae` of the Python environment that runs pytest, not those of another one.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# Under nohup this process ignores SIGHUP, and in the background of a shell SIGINT. So would all processes that it
# starts. Tests want what a terminal gives.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# DUVAE_MIRROR is the folder or URL of a mirror of the real data. Tests change the current folder, so a folder's path
# must be absolute.
if (place := os.environ.get("DUVAE_MIRROR")) and "://" not in place:
    os.environ["DUVAE_MIRROR"] = str(Path(place).resolve())

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


LONGEST = [f"test_{name}.py" for name in ("fingerprint", "fuzz", "torture", "tutorial", "simulated_gpu", "compiled")]
"""Files of tests that take longest. They run first, because at the end one process would run them alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    without = pytest.mark.skipif(not os.environ.get("DUVAE_MIRROR"), reason="DUVAE_MIRROR names no data")
    for item in items:
        if "mirror" in item.keywords:
            item.add_marker(without)
        for marker in item.iter_markers("program"):
            if shutil.which(marker.args[0]) is None and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"{marker.args[0]} is not installed"))


@pytest.fixture(autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    """Fails a test in CI that wants a program which is not installed, since CI must skip none of them."""
    for marker in request.node.iter_markers("program"):
        assert shutil.which(marker.args[0]), f"{marker.args[0]} is not installed; CI needs it"


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> None:
    """Makes torch use one thread, because the last bits of a result depend on the number of threads.

    If no test has imported torch, the fixture does nothing.
    """
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """Parses each YAML text once in a process of the tests, since thousands of tests read the same params.yaml."""
    from duvae.config import yaml_text
    from tiny import remembering

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_text, "read", remembering(yaml_text.read))
        yield


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data that the environment variable DUVAE_MIRROR names."""
    return Path(os.environ["DUVAE_MIRROR"])


@pytest.fixture
def tiny():
    """The parameters of params.yaml, reduced so that every stage of the pipeline takes little time."""
    from tiny import params

    return params()
