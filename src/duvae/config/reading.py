"""Reads `params.yaml`, and checks that the parts of the file agree.

The library pydantic validates each part of the file by itself. The checks in this module compare one part with another:
for example, each data set that the key `run` names must be a key of `datasets`.

A setting is a system, such as DU-VAE, with its hyperparameters. A grid declares several settings at once. A study is a
search for hyperparameters.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from duvae.config.causes import causes
from duvae.config.datasets import SyntheticDataset, TextDataset
from duvae.config.params import FIGURE1_DATASET, Params, Run
from duvae.config.places import Key, Mistake, Place, read_file
from duvae.config.settings import Setting, SettingGrid, StudyReference
from duvae.config.sources import Truth, path_in_folder
from duvae.config.studies import Study
from duvae.errors import UserError
from duvae.fields import Frozen
from duvae.messages import explain, unknown
from duvae.records import searched
from duvae.registry import HYPERPARAMETERS, RECORDS

COARSE, LEAST_LINES = 4, 8
"""Spacing of the coarse lattice of a likelihood as a multiple of `spacing`, and the least number of its lines on each
side of 0. `duvae.quadrature` has the same bound, but the stages that use it run after the trainings."""


def load(path: Path = Path("params.yaml"), changes: Sequence[str] = (), dataset: str | None = None) -> Params:
    """Reads params.yaml.

    Args:
        path: Path of the file.
        changes: Changes of single values, each as `KEY=VALUE` (see `duvae.config.changes`).
        dataset: Name of the data set to which a key belongs that is no key of params.yaml, such as
            `optimisation.epochs`; None: each key begins at the top of params.yaml.

    Raises:
        UserError: If the file cannot be read, or has mistakes. The message has one line for each cause of mistakes.
    """
    raw, line_numbers = read_file(path, list(Params.model_fields))
    if not changes:
        return parse(raw, str(path), line_numbers)
    from duvae.config import changes as values

    changed, places = values.applied(raw, changes, dataset)

    return parse(changed, str(path), line_numbers, places)


def parse(
    raw: dict[str, Any],
    source: str = "params.yaml",
    line_numbers: Mapping[Key, int] | None = None,
    places: Mapping[Key, Place] | None = None,
) -> Params:
    """Converts the content of params.yaml to checked parameters.

    Args:
        raw: Content of the file, as a YAML parser returns it.
        source: Name of the file in messages.
        line_numbers: Line number of each key, for messages; None: messages without line numbers.
        places: The places of those parts that are not written in `source`, by the key of the part.

    Raises:
        UserError: If there are mistakes; the message has one line for each cause of mistakes.
    """
    errors: list[Mistake] = []
    params = None
    try:
        params = Params.model_validate(raw)
        errors += _duplicate_names(params)
        errors += _misread_names(params)
        cells = {
            key: setting for name, grid in params.setting_grids.items() for key, setting in grid.settings(name).items()
        }
        params = params.model_copy(update={"settings": {**params.settings, **cells}})
        errors += _disagreements(params)
    except ValidationError as error:
        errors += [explain(detail, raw) for detail in error.errors()]
    if errors or params is None:
        raise UserError("\n".join(causes(errors, Place(source, 0, line_numbers), places or {})))

    return params


def _duplicate_names(params: Params) -> Iterator[Mistake]:
    """Finds grids that have the name of another setting or grid, or that have a setting with such a name."""
    names = set(params.settings)
    for name, grid in params.setting_grids.items():
        for key in (name, *grid.cells(name)):
            if key in names:
                yield ("setting_grids", name), f"expected names that no other setting or grid has; '{key}' occurs twice"
            names.add(key)


def _misread_names(params: Params) -> Iterator[Mistake]:
    """Finds names that a reader of YAML takes for something else, such as `1e3`, `08` or `null`.

    DVC would read such a name in the list of jobs as a number or as nothing, and would look for other files.
    """
    from duvae.config.yaml_text import is_plain_text  # imported here, for the same reason as in `load`

    for key in ("runs", "datasets", "settings", "setting_grids", "studies"):
        for name in getattr(params, key):
            if not is_plain_text(name):
                why = f"expected a name that is no number, truth value or null in YAML; found '{name}'. Add a letter"
                yield (key, name), why


def _all_blocks(params: Params) -> Iterator[tuple[Key, Run]]:
    """Yields every block in the keys `run` and `runs`, with the key of the block. A block names trainings to run."""
    if isinstance(params.run, Run):
        yield ("run",), params.run
    for name, blocks in params.runs.items():
        for index, block in enumerate(blocks):
            yield ("runs", name, str(index)), block


def _run_names(params: Params) -> Iterator[Mistake]:
    """Finds names of data sets, settings and studies in the keys `run` and `runs` that params.yaml does not declare."""
    if isinstance(params.run, str) and params.run not in params.runs:
        yield ("run",), unknown("entry of runs", params.run, params.runs)
    for block_key, block in _all_blocks(params):
        for key, kind, known in (
            ("datasets", "data set", params.datasets),
            ("settings", "setting", {**params.settings, **params.setting_grids}),
            ("studies", "study", params.studies),
        ):
            for index, name in enumerate(getattr(block, key)):
                if name not in known:
                    yield (*block_key, key, str(index)), unknown(kind, name, known)


def _disagreements(params: Params) -> list[Mistake]:
    """Runs all checks that compare parts of the file, and returns the mistakes."""
    errors = list(_run_names(params))
    errors += _floors(params)
    errors += _optimisations(params)
    errors += _studies(params)
    errors += _lattices(params)
    errors += _shared_files(params)
    if not errors and not params.run_jobs():
        errors.append(
            (("run",), "expected at least one setting that has the column of one of the data sets; found none")
        )
    try:
        if not errors:
            params.figure1_jobs()
    except UserError as error:
        errors.append((("figure1",), f"the settings of Figure 1 must exist: {error}"))
    if params.figure1 is not None and not errors and params.dataset(FIGURE1_DATASET).kind != "synthetic":
        why = "expected a synthetic data set, which Figure 1 needs; found another kind. Set figure1 to null"
        errors.append((("datasets", FIGURE1_DATASET, "kind"), why))

    return errors


def _declarations(params: Params) -> Iterator[tuple[tuple[str, str], Setting | SettingGrid]]:
    """Yields every setting and every grid of settings that the file declares, each after its key.

    The settings of a grid are left out, because the file has no keys for them.
    """
    for name, setting in params.settings.items():
        if params.declaration(name) == f"settings.{name}":
            yield ("settings", name), setting
    for name, grid in params.setting_grids.items():
        yield ("setting_grids", name), grid


def _floors(params: Params) -> Iterator[Mistake]:
    """Finds settings that use dropout on the variances, but no lower bound alpha for the variances.

    Equation 6 of the paper defines the dropout. Without the bound alpha (the floor), it would give negative variances.
    """
    # This check is not a validator of the class `Setting`, because trainings use that class. A validator would make
    # every training depend on the whole entry of its system in `RECORDS`, which also holds labels for reports.
    for key, declared in _declarations(params):
        if RECORDS[declared.system].needs_floor and declared.parts.variance_floor == "none":
            message = f"expected 'alpha', because {declared.system}'s dropout needs variances above alpha; found 'none'"
            yield (*key, "parts", "variance_floor"), message


def _optimisations(params: Params) -> Iterator[Mistake]:
    """Finds values in the key `optimisation` of a setting that a data set's parameters of optimisation do not allow."""
    for key, declared in _declarations(params):
        for dataset in params.datasets.values():
            try:
                dataset.optimisation.changed(declared.optimisation)
            except ValidationError as error:
                for detail in error.errors():
                    inside, message = explain(detail, declared.optimisation)
                    yield (*key, "optimisation", *inside), message


def _shared_files(params: Params) -> Iterator[Mistake]:
    """Finds files of documents that two of the splits train, valid and test of a data set name."""
    for name, dataset in params.datasets.items():
        if not isinstance(dataset, TextDataset):
            continue
        seen: dict[PurePosixPath, str] = {}
        for split in ("train", "valid", "test"):
            for index, file in enumerate(getattr(dataset.source, split)):
                path = path_in_folder(file.path)
                if seen.setdefault(path, split) != split:
                    why = f"expected a file that no other split names; '{file.path}' is also a file of {seen[path]}"
                    yield ("datasets", name, "source", split, str(index), "path"), why


def _lattices(params: Params) -> Iterator[Mistake]:
    """Finds lattices of a likelihood that have too few points."""
    lattices: dict[Key, Truth | None] = {
        ("datasets", name, "truth"): dataset.truth
        for name, dataset in params.datasets.items()
        if isinstance(dataset, SyntheticDataset)
    }
    for key, lattice in {**lattices, ("exact",): params.exact}.items():
        if lattice is not None and math.ceil(lattice.halfwidth / lattice.spacing / COARSE) < LEAST_LINES:
            bound = lattice.halfwidth / COARSE / (LEAST_LINES - 1)
            why = f"expected less than {bound:.3g}, so that the lattice has enough points; found {lattice.spacing:g}"
            yield (*key, "spacing"), why


def _studies(params: Params) -> Iterator[Mistake]:
    """Finds mistakes in studies, and in the settings that take their hyperparameters from a study."""
    for name, study in params.studies.items():
        study_key = ("studies", name)
        if study.dataset not in params.datasets:
            yield (*study_key, "dataset"), unknown("data set", study.dataset, params.datasets)
            continue
        if study.setting not in params.settings:
            yield (*study_key, "setting"), unknown("setting", study.setting, params.settings)
            continue
        setting, column = params.settings[study.setting], params.datasets[study.dataset].column
        base = setting.columns.get(column)
        if base is None or isinstance(base, StudyReference):
            why = f"expected a setting with hyperparameters of its own for '{column}'; '{study.setting}' has none"
            yield (*study_key, "setting"), why
            continue
        yield from _values(study_key, study, setting.system, column, base)
        yield from _measures(study_key, study, setting.system)
        yield from _compared(params, name, study)
    for name, setting in params.settings.items():
        for column, values in setting.columns.items():
            if isinstance(values, StudyReference):
                key = ("settings", name, "columns", column, "study")
                if values.study not in params.studies:
                    yield key, unknown("study", values.study, params.studies)
                    continue
                searched = params.settings.get(params.studies[values.study].setting)
                if searched is not None and searched.system != setting.system:
                    yield key, f"expected a study of {setting.system}; '{values.study}' is a study of {searched.system}"


def _measures(study_key: Key, study: Study, system: str) -> Iterator[Mistake]:
    """Finds studies that need a measure that their system does not have."""
    if not RECORDS[system].likelihood:
        why = f"expected a system with a likelihood, by which trials are compared; {system} has none"
        yield (*study_key, "setting"), why
    elif study.min_mi is not None and not RECORDS[system].mutual_information:
        why = f"expected none, since the mutual information of {system} is unknown; found {study.min_mi}"
        yield (*study_key, "min_mi"), why


def _in_circle(params: Params, name: str) -> bool:
    """Whether the comparisons of a study lead back to the study itself."""
    seen: set[str] = set()
    study = params.studies.get(name)
    while study is not None and study.against is not None and study.against not in seen:
        if study.against == name:
            return True
        seen.add(study.against)
        study = params.studies.get(study.against)

    return False


def _compared(params: Params, name: str, study: Study) -> Iterator[Mistake]:
    """Finds studies that are compared with a study that does not fit, or that is itself compared with one."""
    if study.against is None:
        return
    key, other = ("studies", name, "against"), params.studies.get(study.against)
    if other is None:
        yield key, unknown("study", study.against, params.studies)
    elif _in_circle(params, name):
        yield key, f"expected a study that is not compared with '{name}'; found a circle of comparisons"
    elif other.sampler != "grid" or (other.dataset, other.seeds) != (study.dataset, study.seeds):
        yield key, f"expected a grid study of the same data set and seeds; found '{study.against}'"


def _values(study_key: Key, study: Study, system: str, column: str, base: Frozen) -> Iterator[Mistake]:
    """Finds values of a study that the study's system does not allow. Also finds a study that has no values to try.

    Args:
        study_key: Key of the study in params.yaml.
        study: Parameters of the study.
        system: Name of the system whose hyperparameters the study searches.
        column: Name of the hyperparameter column of the study's data set.
        base: Hyperparameters of the study's setting, for those that the study does not search.
    """
    fields = HYPERPARAMETERS[system].model_fields
    tried = [((*study_key, "values", key), {key: value}) for key, values in study.values.items() for value in values]
    tried += [((*study_key, "first", str(index)), values) for index, values in enumerate(study.first)]
    for key, values in tried:
        for name in values:
            if name not in fields:
                yield key, unknown("hyperparameter", name, list(fields))
                break
        else:
            candidate = {**base.model_dump(), **values}
            try:
                HYPERPARAMETERS[system].model_validate(candidate)
            except ValidationError as error:
                yield key, explain(error.errors()[0], candidate)[1]
    if not search_space(study, system, column):
        why = f"expected values of {system}'s hyperparameters, because supplement E names none for this data set"
        yield (*study_key, "values"), why


def search_space(study: Study, system: str, column: str) -> dict[str, tuple[float, ...]]:
    """The values that a study tries for each hyperparameter, in ascending order, by name of the hyperparameter.

    Args:
        study: Parameters of the study in params.yaml.
        system: Name of the system whose hyperparameters the study searches.
        column: Name of the hyperparameter column of the study's data set. For a hyperparameter that `study.values`
            leaves out, the column selects the values of the paper's supplement E.
    """
    named = {
        name: tuple(study.values.get(name, searched(field).on(column)))
        for name, field in HYPERPARAMETERS[system].model_fields.items()
    }

    return {name: tuple(sorted(set(values))) for name, values in named.items() if values}
