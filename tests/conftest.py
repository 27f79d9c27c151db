"""What all tests share: shapes are checked, seeds are fixed, parameters are small."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

# Every function of these checks the shapes and types that its signature states; so before their first import.
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
# Tests that start dvc or duvae take them from this environment.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# Tests change folders.
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
    """The last bits depend on the number of threads; only where torch is there at all."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data that DUVAE_MIRROR names."""
    return Path(os.environ["DUVAE_MIRROR"])


@pytest.fixture
def tiny():
    """The project's parameters, shrunk so that every stage takes a moment."""
    from tiny import params

    return params()
