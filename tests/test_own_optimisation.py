"""A setting may change some values of its data set's block `optimisation`.

The tests cover how these values are read and checked. They also cover their use in trainings, in saved states, in
studies (searches for hyperparameters), and in the reuse of a finished training by a study.
"""

import copy
import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from duvae import config
from duvae.commands import prepare, train
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.search import reuse
from duvae.search.plan import Plan
from duvae.training import checkpoints

CHANGES = {"epochs": 2, "learning_rate": 0.25, "decay": {"patience": 4}}


def raw(changes: Any, setting: str = "vae") -> dict[str, Any]:
    """Small parameters in which one setting has `changes` as its key `optimisation`."""
    values = copy.deepcopy(tiny.small())
    values["settings"][setting]["optimisation"] = changes

    return values


def test_a_decay_without_a_kind_is_the_patient_one() -> None:
    """Earlier versions had no other kind, so the user's own data sets do not name it."""
    earlier = raw({})
    del earlier["datasets"]["synthetic"]["optimisation"]["decay"]["kind"]

    assert config.parse(earlier).dataset("synthetic") == config.parse(raw({})).dataset("synthetic")


def test_a_settings_values_replace_the_data_sets_and_no_others() -> None:
    plain, changed = config.parse(raw({})), config.parse(raw(CHANGES))
    before, after = plain.optimisation("vae", "synthetic"), changed.optimisation("vae", "synthetic")

    assert before == plain.dataset("synthetic").optimisation
    assert (after.epochs, after.learning_rate, after.decay.patience) == (2, 0.25, 4)
    assert after == before.model_copy(
        update={"epochs": 2, "learning_rate": 0.25, "decay": before.decay.model_copy(update={"patience": 4})}
    )
    assert changed.optimisation("du_vae", "synthetic") == before
    assert changed.optimisation("vae", "omniglot").optimiser == "adam"  # Omniglot's optimiser, not synthetic's


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 0.1}, r"settings\.vae\.optimisation\.lerning_rate: unknown key .*mean 'learning_rate'"),
        ({"decay": {"patient": 1}}, r"settings\.vae\.optimisation\.decay\.patient: unknown key .*mean 'patience'"),
        ({"decay": {"factor": 2.0}}, r"settings\.vae\.optimisation\.decay\.factor: expected a number below 1"),
        ({"decay": {"kind": "after_patienc"}}, r"settings\.vae\.optimisation\.decay\.kind: .*mean 'after_patience'"),
        ({"decay": {"below": 0.1}}, r"settings\.vae\.optimisation\.decay\.below: unknown key .*expected one of kind"),
        (
            {"decay": {"kind": "every_epoch", "factor": 0.5, "not_before": 15}},
            r"settings\.vae\.optimisation\.decay\.below: expected this key; it is missing",
        ),
        ({"decay": 5}, r"settings\.vae\.optimisation\.decay: expected a mapping; found 5"),
        ({"epochs": 0}, r"settings\.vae\.optimisation\.epochs: expected a number of at least 1; found 0"),
        ({"optimiser": "sdg"}, r"settings\.vae\.optimisation\.optimiser: .*mean 'sgd'"),
        (3, r"settings\.vae\.optimisation: expected a mapping; found 3"),
    ],
)
def test_what_is_wrong_is_told_with_its_key_once(changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        config.parse(raw(changes))

    assert len(str(error.value).splitlines()) == 1


def test_another_rule_of_the_decay_replaces_all_values_of_the_data_sets_rule() -> None:
    rule = {"kind": "every_epoch", "factor": 0.5, "not_before": 15, "below": 0.03}
    params = config.parse(raw({"epochs": 30, "decay": rule}))
    optimisation = params.optimisation("vae", "synthetic")

    assert optimisation.decay.model_dump() == rule
    assert optimisation == params.dataset("synthetic").optimisation.model_copy(
        update={"epochs": 30, "decay": optimisation.decay}
    )


def test_the_key_is_always_there() -> None:
    """A setting without the key `optimisation` is an error: DVC fails where a parameter of a stage is missing."""
    values = raw({})
    del values["settings"]["vae"]["optimisation"]

    with pytest.raises(UserError, match=r"settings\.vae\.optimisation: expected this key; it is missing"):
        config.parse(values)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    prepare.run(config.parse(raw({})), "synthetic", folder)
    (folder / "data/validated").mkdir()
    (folder / "data/validated/synthetic.json").write_text("{}")

    return folder


def test_training_and_its_resume_states_take_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    optimisations: list[Any] = []

    def key(determinants: Any, data: Path) -> str:
        optimisations.append(determinants["optimisation"])
        keys.append(checkpoints.training_key(determinants, data))
        return keys[-1]

    monkeypatch.setattr(train, "training_key", key)
    for changes in ({}, CHANGES, {}):
        params = config.parse(raw(changes))
        train.run(params, "synthetic", "vae", 1, project)
        with (project / "results/synthetic/vae/1/history.csv").open() as file:
            rows = list(csv.DictReader(file))
        expected = params.optimisation("vae", "synthetic")
        assert optimisations[-1] == expected.model_dump()
        assert len(rows) == expected.epochs
        assert float(rows[0]["learning_rate"]) == expected.learning_rate

    assert keys[0] == keys[2] != keys[1]


def test_studies_take_it() -> None:
    plain, changed = (
        Plan.from_params(config.parse(raw(changes, "du_vae")), "synthetic_grid") for changes in ({}, CHANGES)
    )

    assert changed.optimisation.epochs == 2
    assert changed.grid_epochs == 2 * len(changed.grid) * len(changed.study.seeds)
    assert changed.determinants()["optimisation"] == changed.optimisation.model_dump()
    assert plain.determinants() != changed.determinants()


def test_no_training_of_another_optimisation_is_taken_over(project: Path) -> None:
    values = raw(CHANGES, "du_vae")
    values["settings"]["again"] = copy.deepcopy(values["settings"]["du_vae"])
    train.run(config.parse(values), "synthetic", "again", 1, project)
    trained = model_files.load(project / "models/synthetic/again/1")[1]
    description = dataclasses.replace(trained, training=None)

    def taken(changes: Any) -> Any:
        """The finished training of `again` if a trial of the study can reuse it; None: it needs another optimisation.

        Args:
            changes: The optimisation that the searched setting has of its own.
        """
        values["settings"]["du_vae"]["optimisation"] = changes
        params = config.parse(values)
        study = params.study("synthetic_grid")

        return reuse.equal_training(params, study, 1, description, torch.device("cpu"), project)

    assert taken(CHANGES) == config.parse(values).job("synthetic", "again", 1)
    assert taken({}) is None
    assert taken({**CHANGES, "epochs": 1}) is None
