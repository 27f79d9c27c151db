"""The report reads the values of single test examples, with and without the values that earlier versions lack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_up
from duvae.errors import UserError
from duvae.project import array_files
from duvae.report import per_example, results

PARAMS = made_up.params(settings=["vae"])
FILE = "results/synthetic/vae/1/per_example.json"
LATER = ("use", "use_steps", "unseen", "exact")
"""Arrays that results of earlier versions lack."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_up.project(tmp_path, PARAMS, PARAMS.run_jobs())


def read(root: Path) -> per_example.PerExample:
    (result,) = results.read(PARAMS, PARAMS.run_jobs(), root)
    found = per_example.read(result, root)
    assert found is not None

    return found


def change(root: Path, edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Edits the arrays of the file in place. Returns the arrays before the edit."""
    about, arrays = array_files.read(root / FILE, "")
    before = dict(arrays)
    edit(arrays)
    array_files.write(root / FILE, about, arrays)

    return before


def test_the_arrays_are_those_of_the_file(root: Path) -> None:
    arrays = change(root, lambda arrays: arrays.update(use=arrays["use"][[4, 0, 9]], use_steps=np.array([3, 2, 5])))
    found = read(root)

    np.testing.assert_array_equal(found.use, arrays["use"][[4, 0, 9]])
    assert found.use_index is not None
    assert found.use_index.tolist() == [3, 5, 10]
    assert found.unseen is not None
    assert found.unseen.dtype == bool
    np.testing.assert_array_equal(found.unseen, arrays["unseen"] == 1)
    np.testing.assert_array_equal(found.exact, arrays["exact"])


def test_results_of_earlier_versions_can_be_read(root: Path) -> None:
    before = read(root)
    change(root, lambda arrays: [arrays.pop(name) for name in LATER])
    found = read(root)

    assert found.use is found.use_index is found.unseen is found.exact is None
    np.testing.assert_array_equal(found.nll, before.nll)
    np.testing.assert_array_equal(found.means, before.means)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda arrays: arrays.pop("use_steps"), "use_steps"),
        (lambda arrays: arrays.update(use=arrays["use"][:-1]), "use has 299 values for 300 examples"),
        (lambda arrays: arrays.update(use=arrays["use"] * np.nan), "values that are not finite"),
        (lambda arrays: arrays.update(unseen=arrays["unseen"][:5]), "unseen has 5 values for 300 examples"),
        (lambda arrays: arrays.update(unseen=arrays["unseen"] + 1), "unseen has values other than 0 and 1"),
        (lambda arrays: arrays.update(use_steps=arrays["use_steps"] * 0), "use_steps does not lead to ascending"),
        (lambda arrays: arrays.update(exact=arrays["exact"] * np.inf), "values that are not finite"),
        (lambda arrays: arrays.update(unseen=arrays["unseen"][:, None]), "has the shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named(root: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    change(root, edit)
    with pytest.raises(UserError, match=message) as error:
        read(root)
    assert "Run 'duvae evaluate --dataset synthetic --setting vae --seed 1' again" in str(error.value)
