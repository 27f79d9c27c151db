"""Reading `params.yaml`, and checking what its parts must agree on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from duvae.config.params import Params, Run
from duvae.config.settings import Setting, SettingGrid, StudyReference
from duvae.config.studies import Study
from duvae.errors import UserError
from duvae.fields import Frozen
from duvae.messages import explain, line, lines, show, unknown
from duvae.registry import HYPERPARAMETERS, RECORDS, searched


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads params.yaml.

    Args:
        path: The file.

    Raises:
        UserError: With everything that is wrong in it, a line each.
    """
    import yaml  # not at the top: a trained model is loaded without this library

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not there. duvae reads the params.yaml of the folder it is called in: "
            "change to the project's folder, or give --params."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    try:
        places = dict(lines(yaml.compose(text, yaml.SafeLoader)))
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping with the keys {', '.join(Params.model_fields)}; found {show(raw)}")

    return parse(raw, str(path), places)


def parse(
    raw: dict[str, Any], source: str = "params.yaml", places: Mapping[tuple[str, ...], int] | None = None
) -> Params:
    """The parameters, checked.

    Args:
        raw: The content of the file.
        source: The file's name in messages.
        places: The line of each key's path, for messages.

    Raises:
        UserError: With everything that is wrong, one line each.
    """
    errors: list[tuple[tuple[str, ...], str]] = []
    params = None
    try:
        params = Params.model_validate(raw)
        errors += _twice(params)
        cells = {
            key: setting for name, grid in params.setting_grids.items() for key, setting in grid.settings(name).items()
        }
        params = params.model_copy(update={"settings": {**params.settings, **cells}})
        errors += _crossed(params)
    except ValidationError as error:
        errors += [explain(detail, raw) for detail in error.errors()]
    if errors or params is None:
        messages = [f"{source}: {'.'.join(key)}{line(key, places)}: {why}" for key, why in dict.fromkeys(errors)]
        raise UserError("\n".join(messages))

    return params


def _twice(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """Errors about names of grids, and of their settings, that something else has."""
    names = set(params.settings)
    for name, grid in params.setting_grids.items():
        for key in (name, *grid.cells(name)):
            if key in names:
                yield ("setting_grids", name), f"expected names that no other setting or grid has; '{key}' stands twice"
            names.add(key)


def _places(params: Params) -> Iterator[tuple[tuple[str, ...], Run]]:
    """Every block of `run` and `runs`, with where it stands."""
    if isinstance(params.run, Run):
        yield ("run",), params.run
    for name, blocks in params.runs.items():
        for index, block in enumerate(blocks):
            yield ("runs", name, str(index)), block


def _runs(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """What `run` and `runs` name that is not there."""
    if isinstance(params.run, str) and params.run not in params.runs:
        yield ("run",), unknown("name of runs", params.run, params.runs)
    for place, block in _places(params):
        for key, what, known in (
            ("datasets", "data set", params.datasets),
            ("settings", "setting", {**params.settings, **params.setting_grids}),
            ("studies", "study", params.studies),
        ):
            for index, name in enumerate(getattr(block, key)):
                if name not in known:
                    yield (*place, key, str(index)), unknown(what, name, known)


def _crossed(params: Params) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong between one part of the file and another."""
    errors = list(_runs(params))
    errors += _floors(params)
    errors += _optimisations(params)
    errors += _studies(params)
    if not errors and not params.run_jobs():
        errors.append(
            (("run",), "expected at least one setting that has the column of one of the data sets; found none")
        )
    try:
        if not errors:
            params.figure1_jobs()
    except UserError as error:
        errors.append((("figure1",), f"its settings must exist: {error}"))

    return errors


def _declarations(params: Params) -> Iterator[tuple[tuple[str, str], Setting | SettingGrid]]:
    """Every setting and grid as the file declares it, with its key."""
    for name, setting in params.settings.items():
        if params.declaration(name) == f"settings.{name}":
            yield ("settings", name), setting
    for name, grid in params.setting_grids.items():
        yield ("setting_grids", name), grid


def _floors(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """Errors about dropout on variances that are not above alpha, for which equation 6 gives negative variances."""
    # No validator of the settings: a training would then depend on the record of its system, labels included.
    for key, declared in _declarations(params):
        if RECORDS[declared.system].needs_floor and declared.parts.variance_floor == "none":
            message = f"expected 'alpha', above which {declared.system}'s dropout needs its variances; found 'none'"
            yield (*key, "parts", "variance_floor"), message


def _optimisations(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """Errors about the values that settings replace in the optimisation of each data set."""
    for key, declared in _declarations(params):
        for dataset in params.datasets.values():
            try:
                dataset.optimisation.changed(declared.optimisation)
            except ValidationError as error:
                for detail in error.errors():
                    inside, message = explain(detail, declared.optimisation)
                    yield (*key, "optimisation", *inside), message


def _studies(params: Params) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the studies, and with what refers to them."""
    for name, study in params.studies.items():
        at = ("studies", name)
        if study.dataset not in params.datasets:
            yield (*at, "dataset"), unknown("data set", study.dataset, params.datasets)
            continue
        if study.setting not in params.settings:
            yield (*at, "setting"), unknown("setting", study.setting, params.settings)
            continue
        setting, column = params.settings[study.setting], params.datasets[study.dataset].column
        given = setting.columns.get(column)
        if given is None or isinstance(given, StudyReference):
            why = f"expected a setting with hyperparameters of its own for '{column}'; '{study.setting}' has none"
            yield (*at, "setting"), why
            continue
        yield from _values(at, study, setting.system, column, given)
        if study.against is not None:
            other = params.studies.get(study.against)
            if other is None:
                yield (*at, "against"), unknown("study", study.against, params.studies)
            elif other.sampler != "grid" or (other.dataset, other.seed) != (study.dataset, study.seed):
                why = f"expected a grid study of the same data set and seed; found '{study.against}'"
                yield (*at, "against"), why
    for name, setting in params.settings.items():
        for column, given in setting.columns.items():
            if isinstance(given, StudyReference):
                key = ("settings", name, "columns", column, "study")
                if given.study not in params.studies:
                    yield key, unknown("study", given.study, params.studies)
                    continue
                of = params.settings.get(params.studies[given.study].setting)
                if of is not None and of.system != setting.system:
                    yield key, f"expected a study of {setting.system}; '{given.study}' is of {of.system}"


def _values(
    at: tuple[str, ...], study: Study, system: str, column: str, given: Frozen
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the values that a study tries."""
    fields = HYPERPARAMETERS[system].model_fields
    tried = [((*at, "values", key), {key: value}) for key, values in study.values.items() for value in values]
    tried += [((*at, "first", str(index)), values) for index, values in enumerate(study.first)]
    for place, values in tried:
        for key in values:
            if key not in fields:
                yield place, unknown("hyperparameter", key, list(fields))
                break
        else:
            tried_here = {**given.model_dump(), **values}
            try:
                HYPERPARAMETERS[system].model_validate(tried_here)
            except ValidationError as error:
                yield place, explain(error.errors()[0], tried_here)[1]
    if not search_space(study, system, column):
        why = f"expected values of {system}'s hyperparameters, since supplement E names none for this data set"
        yield (*at, "values"), why


def search_space(study: Study, system: str, column: str) -> dict[str, tuple[float, ...]]:
    """What each hyperparameter of a study is tried at, in the order of the values."""
    named = {
        name: tuple(study.values.get(name, searched(field).on(column)))
        for name, field in HYPERPARAMETERS[system].model_fields.items()
    }

    return {name: tuple(sorted(set(values))) for name, values in named.items() if values}
