"""The registry has one record for each system (VAE, DU-VAE, ...), and imports no PyTorch.

The package states each fact about a system in one place only.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from duvae import registry
from duvae.registry import HYPERPARAMETERS, RECORDS
from duvae.report import paper
from duvae.systems import SYSTEMS
from family import FULL_SIZE, NAMES, setting

ROOT = Path(__file__).parents[1]
everyone = pytest.mark.parametrize("name", NAMES)


def test_the_registry_needs_no_torch() -> None:
    code = "import sys, duvae.registry; print('torch' in sys.modules, 'duvae.config' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


def test_every_table_has_the_same_systems() -> None:
    assert list(RECORDS) == list(HYPERPARAMETERS)
    assert set(RECORDS) == set(SYSTEMS)
    assert len({record.label for record in RECORDS.values()}) == len(RECORDS)
    assert all(SYSTEMS[name].__doc__ for name in RECORDS)


@pytest.mark.parametrize(
    ("file", "table"), [("registry", "HYPERPARAMETERS"), ("registry", "RECORDS"), ("systems", "SYSTEMS")]
)
def test_a_table_is_a_plain_dictionary_of_definitions_of_its_own_file(file: str, table: str) -> None:
    """A table is a dictionary literal: its keys are constants, and its values are names that its file defines.

    The code that one system depends on can then be found without the code of the other systems.
    """
    tree = ast.parse((ROOT / f"src/duvae/{file}.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    defined |= {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    (value,) = (
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table
    )

    assert isinstance(value, ast.Dict)
    assert all(isinstance(key, ast.Constant) for key in value.keys)
    assert all(isinstance(each, ast.Name) and each.id in defined for each in value.values)


@everyone
def test_a_record_is_complete(name: str) -> None:
    record, fields = RECORDS[name], HYPERPARAMETERS[name].model_fields

    assert record.label
    assert record.equation.isascii()
    assert record.source
    assert re.fullmatch("#[0-9a-f]{6}", record.colour)
    assert set(record.letters) <= set(fields)
    assert set(record.bracketed) <= set(record.letters)
    assert all(len(letter) == 1 for letter in record.letters.values())
    for chosen in record.chosen.values():
        assert set(chosen) == set(record.bracketed)
    assert setting(name) in FULL_SIZE.settings


@everyone
def test_the_paper_chose_what_its_table_1_prints(name: str) -> None:
    for column, chosen in RECORDS[name].chosen.items():
        if column != "synthetic":  # Table 1 does not have the synthetic data
            assert chosen in [row.values for row in paper.paper_rows("table1", column) if row.system == name]


@everyone
def test_our_settings_take_what_the_paper_chose(name: str) -> None:
    columns = FULL_SIZE.settings[setting(name)].columns

    for column, chosen in RECORDS[name].chosen.items():
        ours = columns[column].model_dump()
        assert {key: ours[key] for key in chosen} == chosen


@everyone
def test_nothing_else_in_the_package_names_a_colour_or_a_greek_label_of_a_system(name: str) -> None:
    record = RECORDS[name]
    for path in (ROOT / "src/duvae").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "registry.py":
            assert f'"{name}": "#' not in text, path
            assert f'"{name}": "{record.label}"' not in text, path
            assert f'label = "{record.label}"' not in text, path


def test_an_unknown_system_is_told_with_the_closest_one() -> None:
    from duvae.errors import UserError

    assert registry.known_system("du_vae") == "du_vae"
    with pytest.raises(UserError, match="did you mean 'du_vae'"):
        registry.known_system("duvae")
