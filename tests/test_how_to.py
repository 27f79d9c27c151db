"""The examples in docs/how-to-add-a-system.md, applied to a copy of the project."""

from pathlib import Path

import pytest

import howto
from howto import SCHEDULE, SYSTEM, blocks, call

MAX_LINES = 45
"""Greatest number of lines of a new system."""

BATTERY = ("test_systems.py", "test_objectives.py", "test_image_systems.py", "test_models.py", "test_registry.py")
"""Files of tests that run over every system. They take seconds for one system."""

TRAIN = """
import csv, pathlib, tiny, ruamel.yaml
from duvae import config
from duvae.inference import model_files
from duvae.commands import prepare, train
params = config.parse(tiny.small())
prepare.run(params, "synthetic")
pathlib.Path("data/validated").mkdir()
pathlib.Path("data/validated/synthetic.json").write_text("{}")
train.run(params, "synthetic", "info_vae", 1)
model, description = model_files.load(pathlib.Path("models/synthetic/info_vae/1"), system="info_vae")
rows = list(csv.DictReader(open("results/synthetic/info_vae/1/history.csv")))
print(type(model.objective).__name__, description.hyperparameters["mmd"], len(rows))
"""

RESUME = """
import tempfile, pathlib, family
from duvae.errors import Interrupted
from duvae.training.checkpoints import Checkpoint
from duvae.training.state import NoProgress

class StopAfter(NoProgress):
    def __init__(self, steps):
        self.left = steps
    def step(self, epoch, batch, batches):
        self.left -= 1
        return not self.left

whole = family.training("info_vae", epochs=8)
history = whole.run().history
weights = [round(whole.weight(step), 3) for step in range(8 * whole.steps_per_epoch)]
with tempfile.TemporaryDirectory() as folder:
    tries = 0
    while True:
        tries += 1
        parts = family.training("info_vae", epochs=8, progress=StopAfter(11))
        parts.checkpoint = Checkpoint(pathlib.Path(folder) / "state.safetensors", 1e9)
        try:
            again = parts.run().history
        except Interrupted:
            continue
        break
assert tries > 2, tries
assert family.same(family.state(whole.model), family.state(parts.model))
assert [{**row} for row in history] == [{**row} for row in again]
print(weights.count(0.0), max(weights))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A copy of the project with the page's system added, and the number of added lines."""
    folder = howto.copy(tmp_path_factory.mktemp("copy"))

    return folder, howto.apply(folder, SYSTEM)


def test_a_system_takes_few_lines_in_three_files(changed: tuple[Path, int]) -> None:
    assert {block.file for block in blocks(SYSTEM)} == {"src/duvae/systems.py", "src/duvae/registry.py", "params.yaml"}
    assert changed[1] <= MAX_LINES
    # Every block of code on the page belongs to one of the two.
    page = howto.PAGE.read_text(encoding="utf-8")
    assert len(blocks(SYSTEM)) + len(blocks(SCHEDULE)) == page.count("```python") + page.count("```yaml")


def test_the_code_of_the_page_is_clean(changed: tuple[Path, int]) -> None:
    for check in (("check",), ("format", "--check")):
        call(changed[0], "-m", "ruff", *check, "src/duvae/systems.py", "src/duvae/registry.py")


def test_the_list_has_the_system(changed: tuple[Path, int]) -> None:
    assert "\ninfo_vae " in call(changed[0], "-m", "duvae", "systems")
    one = call(changed[0], "-m", "duvae", "systems", "info_vae")

    for said in ("info_vae: InfoVAE", "lambda MMD^2[q(z), p(z)]", "Zhao et al. 2017 with alpha = 0", "MMD", "mmd 1"):
        assert said in one


def test_the_battery_finds_the_system_by_itself(changed: tuple[Path, int]) -> None:
    files = [f"tests/{name}" for name in BATTERY]
    out = call(changed[0], "-m", "pytest", *files, "-k", "info_vae", "-n0", "-p", "no:cacheprovider", "-vv")

    for name in (
        "test_the_gradient_is_the_slope_of_the_loss",
        "test_steps_lower_the_loss",
        "test_a_record_is_complete",
        "test_every_objective_reports_the_unweighted_parts",
    ):
        assert f"{name}[" in out
    assert out.count("PASSED") >= 30
    assert "FAILED" not in out


def test_the_system_trains(changed: tuple[Path, int]) -> None:
    assert call(changed[0], "-c", TRAIN).split()[-3:] == ["MMD", "1.0", "2"]


def test_figures_and_tables_take_the_record(changed: tuple[Path, int]) -> None:
    code = (
        "from duvae.report import names; from duvae.registry import RECORDS;"
        " print(names.label('info_vae'), names.hyperparameter_text('info_vae', {'mmd': 10.0}), names.rank('info_vae'))"
    )

    assert call(changed[0], "-c", code).split() == ["InfoVAE", "λ", "10", "14"]


# The fingerprints decide whether an existing training, evaluation or probe becomes stale. A test of them can
# use `howto.copy` and `howto.apply` and compare the fingerprints before and after.


def test_a_cyclical_schedule_is_one_class_and_resumes_to_the_bit(tmp_path: Path) -> None:
    folder = howto.copy(tmp_path)
    howto.apply(folder, SYSTEM)
    howto.apply(folder, SCHEDULE)
    cycles, most = call(folder, "-c", RESUME).split()[-2:]

    assert sum(block.text.count("class ") for block in blocks(SCHEDULE)) == 1
    assert (cycles, most) == ("4", "1.0")
    call(folder, "-m", "ruff", "check", "src/duvae/systems.py")
    call(folder, "-m", "ruff", "format", "--check", "src/duvae/systems.py")
    files = "tests/test_objectives.py", "tests/test_catalogue.py"
    call(folder, "-m", "pytest", *files, "-k", "info_vae", "-n0", "-p", "no:cacheprovider")
