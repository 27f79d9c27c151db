"""All of `params.yaml`, and what its parts must agree on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError

from duvae.config.base import Count, Frozen, Name, Positive, Seed
from duvae.config.datasets import AnyDataset, Dataset
from duvae.config.hyperparameters import HYPERPARAMETERS, searched
from duvae.config.settings import AnySetting, Found, Setting, SettingGrid, found
from duvae.config.studies import Study
from duvae.errors import UserError
from duvae.mistakes import explain, line, lines, show, unknown

FIGURE1_SETTINGS = ("ae", "vae", "agg_vae", "bn_vae", "du_vae")
FIGURE1_DATASET = "synthetic"


class Run(Frozen):
    """The data sets, settings and seeds to rebuild, all their valid triples, and the studies."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    settings: Annotated[list[Name], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    studies: list[Name] = []


def _named(value: Any) -> str:
    return "name" if isinstance(value, str) else "block"


OneRun = Annotated[Annotated[Run, Tag("block")] | Annotated[Name, Tag("name")], Discriminator(_named)]
"""A block, or the name of several in `runs`."""


class Figure1(Frozen):
    """Figure 1: AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data."""

    seed: Seed


class Evaluation(Frozen):
    """How a trained model is measured."""

    importance_samples: Count
    active_threshold: Positive
    seed: Seed


class Probe(Frozen):
    """How a linear probe is tuned and repeated."""

    draws: Count
    folds: Annotated[int, Field(ge=2)]
    inverse_penalties: Annotated[list[Positive], Field(min_length=1)]
    seed: Seed


class Generation(Frozen):
    """What of a trained model is drawn for the report: samples of the prior, and what lies between test examples.

    `rows` of `columns` images, or as many sentences as `rows`; `pairs` of test examples, `steps` from one to the other.
    """

    rows: Count
    columns: Count
    pairs: Count
    steps: Annotated[int, Field(ge=2)]
    seed: Seed


class Job(NamedTuple):
    """One training: what the graph runs over. `column` is the data set's column of hyperparameters."""

    dataset: str
    setting: str
    seed: int
    column: str

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.setting}-{self.seed}"

    @property
    def folder(self) -> Path:
        """`dataset/setting/seed`, below `models/`, `posteriors/` and `results/`."""
        return Path(self.dataset, self.setting, str(self.seed))


class Params(Frozen):
    """All of params.yaml."""

    run: OneRun
    runs: dict[Name, Annotated[list[Run], Field(min_length=1)]] = {}
    figure1: Figure1
    threads: Count
    checkpoint_seconds: Annotated[float, Field(ge=0)]
    evaluation: Evaluation
    probe: Probe
    generation: Generation
    datasets: dict[Name, Dataset]
    settings: dict[Name, AnySetting]
    setting_grids: dict[Name, SettingGrid] = {}
    studies: dict[Name, Study] = {}

    def dataset(self, name: str) -> AnyDataset:
        if name not in self.datasets:
            raise UserError(f"params.yaml: {unknown('data set', name, self.datasets)}")

        return self.datasets[name]

    def setting(self, name: str) -> Setting:
        if name not in self.settings:
            raise UserError(f"params.yaml: {unknown('setting', name, self.settings)}")

        return self.settings[name]

    def declaration(self, setting: str) -> str:
        """The key of params.yaml that declares a setting: `settings.vae`, or `setting_grids.figure2` for a cell."""
        grid = next((name for name, grid in self.setting_grids.items() if setting in grid.cells(name)), None)

        return f"settings.{setting}" if grid is None else f"setting_grids.{grid}"

    def study(self, name: str) -> Study:
        if name not in self.studies:
            raise UserError(f"params.yaml: {unknown('study', name, self.studies)}")

        return self.studies[name]

    def hyperparameters(self, setting: str, dataset: str, root: Path = Path()) -> Frozen:
        """The setting's hyperparameters on this data set, an object of its system's class.

        Where they are what a study finds, they are read from its results.
        """
        given = self.column(setting, dataset)

        return best(given.study, self.setting(setting).system, root) if isinstance(given, Found) else given

    def column(self, setting: str, dataset: str) -> Frozen:
        """What params.yaml gives for the setting on this data set: hyperparameters, or a study that finds them."""
        column, columns = self.dataset(dataset).column, self.setting(setting).columns
        if column not in columns:
            raise UserError(
                f"params.yaml: settings.{setting}.columns has no '{column}', which data set '{dataset}' asks for"
                f" (it has {', '.join(columns)}). Add that column, or take another setting."
            )
        given: Frozen = columns[column]

        return given

    def job(self, dataset: str, setting: str, seed: int) -> Job:
        """The triple, once it is known to be valid."""
        self.column(setting, dataset)

        return Job(dataset, setting, seed, self.dataset(dataset).column)

    def blocks(self) -> list[Run]:
        """What `run` stands for."""
        if isinstance(self.run, Run):
            return [self.run]
        if self.run not in self.runs:
            raise UserError(f"params.yaml: run: {unknown('name of runs', self.run, self.runs)}")

        return self.runs[self.run]

    def run_jobs(self) -> list[Job]:
        """The valid triples of `run`, those of each of its blocks."""
        return list(dict.fromkeys(job for block in self.blocks() for job in self._block_jobs(block)))

    def run_studies(self) -> list[str]:
        """The studies of `run`, each once."""
        return list(dict.fromkeys(name for block in self.blocks() for name in block.studies))

    def _block_jobs(self, block: Run) -> Iterator[Job]:
        settings = [
            setting
            for name in block.settings
            for setting in (self.setting_grids[name].cells(name) if name in self.setting_grids else [name])
        ]
        for dataset in block.datasets:
            for setting in settings:
                if self.dataset(dataset).column in self.setting(setting).columns:
                    yield from (self.job(dataset, setting, seed) for seed in block.seeds)

    def figure1_jobs(self) -> list[Job]:
        """Figure 1's five."""
        return [self.job(FIGURE1_DATASET, setting, self.figure1.seed) for setting in FIGURE1_SETTINGS]

    def jobs(self) -> list[Job]:
        """What the graph runs over: the union of both, each once."""
        return list(dict.fromkeys([*self.run_jobs(), *self.figure1_jobs()]))


def best(study: str, system: str, root: Path = Path()) -> Frozen:
    """The hyperparameters that a study has found, an object of the system's class.

    Raises:
        UserError: Where it has not been made, has found none, or was of another system.
    """
    path, again = found(study, root), f"'duvae search --study {study}' or 'dvc repro search@{study}' makes it"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        values, of = content["hyperparameters"], content["system"]
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. {again}.") from error
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected a study's best hyperparameters ({error}). {again} anew.") from error
    if values is None:
        raise UserError(f"{path}: the study '{study}' found none that it may recommend ({content.get('why')}).")
    if of != system:
        raise UserError(f"{path}: expected hyperparameters of {system}; found those of {of}. {again} anew.")
    try:
        return HYPERPARAMETERS[system].model_validate(values)
    except ValidationError as error:
        key, why = explain(error.errors()[0], values)
        raise UserError(f"{path}: hyperparameters.{'.'.join(key)}: {why}. {again} anew.") from error


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads params.yaml.

    Args:
        path: The file.

    Raises:
        UserError: With everything that is wrong in it, a line each.
    """
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
        if given is None or isinstance(given, Found):
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
            if isinstance(given, Found):
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
    if not space(study, system, column):
        why = f"expected values of {system}'s hyperparameters, since supplement E names none for this data set"
        yield (*at, "values"), why


def space(study: Study, system: str, column: str) -> dict[str, tuple[float, ...]]:
    """What each hyperparameter of a study is tried at, in the order of the values."""
    named = {
        name: tuple(study.values.get(name, searched(field).on(column)))
        for name, field in HYPERPARAMETERS[system].model_fields.items()
    }

    return {name: tuple(sorted(set(values))) for name, values in named.items() if values}
