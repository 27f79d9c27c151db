"""Registers the trained models of each data set in MLflow.

A registered model collects the models of one data set as numbered versions. An alias is a name of one of these
versions: here the name of each setting, and `best`.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from duvae.report import per_example
from duvae.report.results import Result, setting_names
from duvae.tracking.run_files import LOCATION, LOGGED

BEST = "best"
"""Alias of a model of the setting with the lowest NLL on the test set, if comparisons in pairs leave only one setting.
"""

BEST_VERSION = "duvae.best"
"""Name of a tag of a registered model: the number of the version with the alias `best`; empty if there is none."""

LONGEST = 5_000
"""Largest number of characters of a description in MLflow."""


class Chosen(NamedTuple):
    """The outcome of `best`.

    Attributes:
        result: The result of the best model; None: no setting can be called the best.
        reason: Sentences that say why.
    """

    result: Result | None
    reason: str


def best(results: Sequence[Result], root: Path) -> Chosen:
    """Chooses the best model, if the comparison of the settings in pairs leaves only one setting.

    Args:
        results: Current results of one data set.
        root: Folder of the project.

    Returns:
        Of this setting, the seed with the lowest NLL on the test set. The sentences are those of the report.
    """
    from duvae.report import comparison, observations  # import scipy, which unchanged runs do not need

    compared = comparison.compare(results, [per_example.read(result, root) for result in results])
    lines = observations.nll_lines(results, compared) or ["Fewer than two settings have an NLL."]
    if len(compared.best) != 1:
        return Chosen(None, " ".join([*lines, f"So no version has the alias `{BEST}`."]))
    (setting,) = compared.best
    of_setting = [result for result in results if result.job.setting == setting and result.job.seed in compared.seeds]
    chosen = min(of_setting, key=lambda result: float(result.metrics["nll"]))
    which = f"`{BEST}` is {setting_names(results)[setting]} with seed {chosen.job.seed}"
    if len(of_setting) > 1:
        which += ", its seed with the lowest NLL"

    return Chosen(chosen, " ".join([*lines, f"{which}."]))


def is_registered(client: MlflowClient, dataset: str, runs: Mapping[str, Run]) -> bool:
    """Whether each model has its version, and whether each setting and the best model have their aliases.

    Args:
        client: Client of the store.
        dataset: Name of the data set, and of the registered model.
        runs: The current runs, by the key of the job.
    """
    models = _with_model(runs)
    versions = _all_versions(client, dataset)
    if sorted(str(each.run_id) for each in versions) != sorted(run.info.run_id for run in models.values()):
        return False
    if not models:
        return True
    known = client.get_registered_model(dataset)
    settings = {run.data.tags["setting"] for run in models.values()}

    return settings <= set(known.aliases) and known.tags.get(BEST_VERSION) == str(known.aliases.get(BEST, ""))


def register(
    client: MlflowClient, dataset: str, runs: Mapping[str, Run], results: Sequence[Result], root: Path
) -> None:
    """Brings the registered model of a data set up to date: a version for each run, and the aliases.

    The alias of a setting names the version of its first seed. Aliases that a user has set stay with their versions.

    Args:
        client: Client of the store.
        dataset: Name of the data set, and of the registered model.
        runs: The current runs, by the key of the job.
        results: The current results, from which `best` is chosen.
        root: Folder of the project.
    """
    models = _with_model(runs)
    versions = _versions(client, dataset, {run.info.run_id for run in models.values()})
    if not models:
        return
    first = next(iter(models.values())).data.tags["setting"]
    chosen = best(results, root)
    note = textwrap.shorten(
        f"The models trained on `{dataset}`: a version for each setting and seed. Each setting is an alias of its first"
        f" seed: `models:/{dataset}@{first}`. Filled by `duvae track`. {chosen.reason}",
        LONGEST,
        placeholder=" ...",
    )
    try:
        client.create_registered_model(dataset, description=note)
    except MlflowException:  # it exists
        client.update_registered_model(dataset, note)
    for run in models.values():
        tags = run.data.tags
        if run.info.run_id not in versions:
            version = client.create_model_version(
                *(dataset, tags[LOCATION], run.info.run_id, {name: tags[name] for name in ("setting", "seed")}),
                description=tags["mlflow.note.content"],
                model_id=tags[LOGGED],
            )
            versions[run.info.run_id] = version
            # MLflow's pages link the logged model and its version by this tag.
            link = [{"name": dataset, "version": str(version.version)}]
            client.set_logged_model_tags(tags[LOGGED], {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
    numbers = {key: str(versions[run.info.run_id].version) for key, run in models.items()}
    by_seed = sorted(models, key=lambda key: int(models[key].data.tags["seed"]), reverse=True)
    aliases = {models[key].data.tags["setting"]: numbers[key] for key in by_seed}
    if chosen.result is not None and (key := chosen.result.job.folder.as_posix()) in numbers:
        aliases[BEST] = numbers[key]
    known = client.get_registered_model(dataset).aliases
    if BEST in known and BEST not in aliases:
        client.delete_registered_model_alias(dataset, BEST)
    for alias, number in aliases.items():
        if str(known.get(alias)) != number:
            client.set_registered_model_alias(dataset, alias, number)
    client.set_registered_model_tag(dataset, BEST_VERSION, aliases.get(BEST, ""))


def _versions(client: MlflowClient, dataset: str, runs: set[str]) -> dict[str, ModelVersion]:
    """Finds the version of each run, and deletes versions of other runs and second versions of a run."""
    found: dict[str, ModelVersion] = {}
    for each in _all_versions(client, dataset):
        if each.run_id in runs and each.run_id not in found:
            found[each.run_id] = each
        else:
            client.delete_model_version(dataset, str(each.version))

    return found


def _all_versions(client: MlflowClient, dataset: str) -> list[ModelVersion]:
    """All versions of a registered model; none if it does not exist."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{dataset}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _with_model(runs: Mapping[str, Run]) -> dict[str, Run]:
    return {key: run for key, run in runs.items() if LOGGED in run.data.tags}
