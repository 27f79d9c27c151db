"""Settings for all tests: shapes are checked, seeds are fixed, parameters are small."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

# These packages check the shapes and types in their signatures. The list is needed before their first import.
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
# Tests find the commands dvc and duvae of this environment.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# Tests change the current folder, so the path must be absolute.
if (place := os.environ.get("DUVAE_MIRROR")) and "://" not in place:
    os.environ["DUVAE_MIRROR"] = str(Path(place).resolve())

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without = pytest.mark.skipif(not os.environ.get("DUVAE_MIRROR"), reason="DUVAE_MIRROR names no data")
    for item in items:
        if "mirror" in item.keywords:
            item.add_marker(without)


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> None:
    """Uses one thread, because the last bits depend on the number of threads. Does nothing without torch."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data that DUVAE_MIRROR names."""
    return Path(os.environ["DUVAE_MIRROR"])


@pytest.fixture
def tiny():
    """The project's parameters, reduced so that every stage takes little time."""
    from tiny import params

    return params()
