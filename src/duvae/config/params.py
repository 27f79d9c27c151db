"""All of `params.yaml` as one object."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Discriminator, Field, Tag, ValidationError

from duvae.config.datasets import AnyDataset, Dataset, Optimisation
from duvae.config.settings import AnySetting, Setting, SettingGrid, StudyReference, best_params_path
from duvae.config.studies import Study
from duvae.errors import UserError
from duvae.fields import Count, Frozen, Name, Positive, Seed, doc
from duvae.messages import explain, unknown
from duvae.registry import HYPERPARAMETERS

FIGURE1_SETTINGS = ("ae", "vae", "agg_vae", "bn_vae", "du_vae")
FIGURE1_DATASET = "synthetic"


class Run(Frozen):
    """The data sets, settings and seeds to rebuild, all their valid triples, and the studies."""

    datasets: Annotated[list[Name], Field(min_length=1), doc("Names of the data sets to rebuild.", "paper")]
    settings: Annotated[
        list[Name],
        Field(min_length=1),
        doc(
            "Names of settings, or of grids of settings, to train on each of the data sets; a setting without "
            "the data set's column is left out.",
            "paper",
        ),
    ]
    seeds: Annotated[list[Seed], Field(min_length=1), doc("Seeds to train each setting with.", "paper: one run a cell")]
    studies: Annotated[
        list[Name],
        doc(
            "Names of studies to run, with the grids that they are compared with. Each study costs many trainings.",
            "ours",
        ),
    ] = []


def _named(value: Any) -> str:
    return "name" if isinstance(value, str) else "block"


OneRun = Annotated[Annotated[Run, Tag("block")] | Annotated[Name, Tag("name")], Discriminator(_named)]
"""A block, or the name of several in `runs`."""


class Figure1(Frozen):
    """Figure 1: AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data."""

    seed: Annotated[
        Seed,
        doc("Seed of the five trainings of Figure 1, which `dvc repro figure1` rebuilds whatever `run` names.", "ours"),
    ]


class Evaluation(Frozen):
    """How a trained model is measured."""

    importance_samples: Annotated[Count, doc("Importance samples K for each example's NLL.", "paper, 4.1")]
    active_threshold: Annotated[
        Positive, doc("Variance over the data that an active dimension's posterior mean exceeds.", "paper, 4.1")
    ]
    seed: Annotated[Seed, doc("Seed of the samples for NLL and mutual information.", "ours")]


class Probe(Frozen):
    """How a linear probe is tuned and repeated."""

    draws: Annotated[
        Count, doc("Number of labelled subsets to draw for each size in `datasets.*.probe.labels`.", "ours")
    ]
    folds: Annotated[
        int,
        Field(ge=2),
        doc("Folds of the cross-validation inside a labelled subset that chooses the penalty.", "ours"),
    ]
    inverse_penalties: Annotated[
        list[Positive], Field(min_length=1), doc("Inverses of the classifier's penalties to choose from.", "ours")
    ]
    seed: Annotated[Seed, doc("Seed of the draws and of the folds.", "ours")]


class Generation(Frozen):
    """What of a trained model is drawn for the report: samples of the prior, and what lies between test examples.

    `rows` of `columns` images, or as many sentences as `rows`; `pairs` of test examples, `steps` from one to the other.
    """

    rows: Annotated[Count, doc("Rows of samples of the prior that the report shows of each model.", "ours")]
    columns: Annotated[Count, doc("Images in a row; a row of sentences has one sentence.", "ours")]
    pairs: Annotated[
        Count, doc("Pairs of test examples with an interpolation between them, the same for every model.", "ours")
    ]
    steps: Annotated[
        int,
        Field(ge=2),
        doc("Points z on the line from one example to the other, both ends included.", "ours; Figure S1 does not say"),
    ]
    seed: Annotated[Seed, doc("Seed of the samples, of the pairs and of the test images shown beside them.", "ours")]


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
        """`dataset/setting/seed`, below `models/` and `results/`."""
        return Path(self.dataset, self.setting, str(self.seed))


class Params(Frozen):
    """All of params.yaml."""

    run: Annotated[
        OneRun,
        doc("Part of the project that `dvc repro` rebuilds: a name of `runs`, or a block with the keys below.", "ours"),
    ]
    runs: Annotated[
        dict[Name, Annotated[list[Run], Field(min_length=1)]],
        doc("Lists of blocks, by a name that `run` can have.", "ours"),
    ] = {}
    figure1: Annotated[
        Figure1 | None,
        doc("Figure 1: AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data. `null`: without Figure 1.", "paper"),
    ]
    threads: Annotated[
        Count,
        doc(
            "CPU threads of one training, evaluation or quadrature; the number changes the last bits of a result.",
            "ours",
        ),
    ]
    checkpoint_seconds: Annotated[
        float,
        Field(ge=0),
        doc(
            "Seconds between two saved states of a training, from which an interrupted training goes on. The "
            "end of each epoch is saved too; no result depends on this.",
            "ours",
        ),
    ]
    evaluation: Annotated[Evaluation, doc("Measurements of a trained model.", "paper, 4.1")]
    probe: Annotated[Probe, doc("Linear probes of a trained model.", "paper, 4.2")]
    generation: Annotated[Generation, doc("Samples and interpolations in the report.", "paper, S-F")]
    datasets: Annotated[dict[Name, Dataset], doc("Data sets by name.")]
    settings: Annotated[dict[Name, AnySetting], doc("Settings by name.")]
    setting_grids: Annotated[dict[Name, SettingGrid], doc("Grids of settings by name.")] = {}
    studies: Annotated[dict[Name, Study], doc("Searches of hyperparameters by name.")] = {}

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

        return (
            best_hyperparameters(given.study, self.setting(setting).system, root)
            if isinstance(given, StudyReference)
            else given
        )

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

    def optimisation(self, setting: str, dataset: str) -> Optimisation:
        """The optimisation of a setting on a data set: the data set's, with the values that the setting replaces."""
        return self.dataset(dataset).optimisation.changed(self.setting(setting).optimisation)

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
        """The five trainings of Figure 1; none where params.yaml leaves Figure 1 out."""
        if self.figure1 is None:
            return []

        return [self.job(FIGURE1_DATASET, setting, self.figure1.seed) for setting in FIGURE1_SETTINGS]

    def jobs(self) -> list[Job]:
        """What the graph runs over: the union of both, each once."""
        return list(dict.fromkeys([*self.run_jobs(), *self.figure1_jobs()]))


def best_hyperparameters(study: str, system: str, root: Path = Path()) -> Frozen:
    """The hyperparameters that a study has found, an object of the system's class.

    Raises:
        UserError: Where it has not been made, has found none, or was of another system.
    """
    import yaml  # not at the top: a trained model is loaded without this library

    path, again = (
        best_params_path(study, root),
        f"'duvae search --study {study}' or 'dvc repro search@{study}' makes it",
    )
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
