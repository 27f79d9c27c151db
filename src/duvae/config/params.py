"""All parameters of `params.yaml`, as one object."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Discriminator, Field, Tag, ValidationError

from duvae.config.datasets import AnyDataset, Dataset
from duvae.config.optimisation import Optimisation, Precision
from duvae.config.settings import AnySetting, Setting, SettingGrid, StudyReference, best_params_path
from duvae.config.sources import Truth
from duvae.config.studies import Study
from duvae.errors import UserError
from duvae.fields import Count, Frozen, Name, NotNegative, Positive, Repeats, Samples, Seed, Several, Threads, doc
from duvae.messages import explain, unknown
from duvae.registry import HYPERPARAMETERS

FIGURE1_SETTINGS = ("ae", "vae", "agg_vae", "bn_vae", "du_vae")
"""Names of the five settings of Figure 1 in params.yaml."""
FIGURE1_DATASET = "synthetic"
"""Name of the data set of Figure 1 in params.yaml."""

T = TypeVar("T")


class Run(Frozen):
    """One block of the key `run` in params.yaml: trainings and studies that `dvc repro` rebuilds.

    A setting is a system with its hyperparameters, and a study is a search for hyperparameters. There is one training
    for each triple of data set, setting and seed. Each data set names a column of hyperparameters (see `Setting`). A
    triple is left out if its setting does not have the column of its data set.
    """

    datasets: Annotated[list[Name], Field(min_length=1), doc("Names of the data sets to rebuild.", "paper")]
    settings: Annotated[
        list[Name],
        Field(min_length=1),
        doc(
            "Names of settings, or of grids of settings, to train on each of the data sets. A setting without "
            "the data set's column is left out.",
            "paper",
        ),
    ]
    seeds: Annotated[
        list[Seed],
        Field(min_length=1, max_length=1_000),
        doc("Seeds to train each setting with.", "the paper does not say"),
    ]
    studies: Annotated[
        list[Name],
        doc(
            "Names of studies to run. The grid studies that they are compared with also run. Each study needs "
            "many trainings.",
            "ours",
        ),
    ] = []


def _form_of_run(value: Any) -> str:
    return "name" if isinstance(value, str) else "block"


OneRun = Annotated[Annotated[Run, Tag("block")] | Annotated[Name, Tag("name")], Discriminator(_form_of_run)]
"""Type of the key `run` of params.yaml: a block (see `Run`), or the name of a list of blocks in the key `runs`."""


class Figure1(Frozen):
    """Parameters of Figure 1, which shows AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data."""

    seed: Annotated[
        Seed,
        doc(
            "Seed of the five trainings of Figure 1. `dvc repro figure1` rebuilds them for any value of `run`.", "ours"
        ),
    ]


class Evaluation(Frozen):
    """Parameters of the measurements of a trained model."""

    importance_samples: Annotated[
        Samples, doc("Number K of importance samples for the NLL of an example.", "paper, 4.1")
    ]
    active_threshold: Annotated[
        Positive,
        doc(
            "Threshold for active dimensions. A dimension of z is active if the variance of its posterior "
            "mean over the data is larger.",
            "paper, 4.1",
        ),
    ]
    seed: Annotated[Seed, doc("Seed of the samples for the NLL and for the mutual information.", "ours")]


class Probe(Frozen):
    """Parameters of the linear probes, the linear classifiers that predict labels from posteriors.

    The parameters determine how labelled subsets are drawn, and how the penalty of a classifier is chosen.
    """

    draws: Annotated[
        Repeats, doc("Number of labelled subsets to draw for each size in `datasets.*.probe.labels`.", "ours")
    ]
    folds: Annotated[
        Several,
        doc(
            "Number of folds of the cross-validation that chooses the penalty. Its folds are parts of a "
            "labelled subset.",
            "ours",
        ),
    ]
    inverse_penalties: Annotated[
        list[Positive],
        Field(min_length=1, max_length=1_000),
        doc("Inverses of the classifier's penalties that the cross-validation chooses from.", "ours"),
    ]
    seed: Annotated[Seed, doc("Seed of the drawn subsets and of the folds.", "ours")]


class Generation(Frozen):
    """Parameters of the samples from the prior, and of the interpolations between test examples, in the report."""

    rows: Annotated[
        Repeats,
        doc(
            "Number of rows of samples for each model in the report. A sample is decoded from a z drawn from "
            "the prior.",
            "ours",
        ),
    ]
    columns: Annotated[Repeats, doc("Number of images in a row. A row of a text data set has one sentence.", "ours")]
    pairs: Annotated[
        Repeats,
        doc("Number of pairs of test examples to interpolate between. The pairs are the same for every model.", "ours"),
    ]
    steps: Annotated[
        Several,
        doc(
            "Number of points z on the line from one example to the other, including both ends.",
            "ours; Figure S1 does not say",
        ),
    ]
    draws: Annotated[
        Repeats,
        doc(
            "Number of images drawn from p(x|z) for each z, to estimate each pixel's probability of ink. Not used for "
            "texts.",
            "ours",
        ),
    ]
    seed: Annotated[
        Seed,
        doc(
            "Seed of the samples, of the pairs, and of the test images that the report shows beside the samples.",
            "ours",
        ),
    ]


class Exact(Truth):
    """Parameters of the exact NLL of a trained model, and of the bias of its importance-weighted NLL.

    The exact NLL is an integral over z, computed by quadrature on a lattice. It is computed for synthetic data and
    models with a two-dimensional z.
    """

    sentences: Annotated[
        Count, doc("Number of test sentences whose likelihood under the model is computed by quadrature.", "ours")
    ]
    seeds: Annotated[
        list[Seed],
        Field(max_length=1_000),
        doc(
            "Seeds of the trainings for which the bias of the importance-weighted NLL is measured for each number "
            "in `samples`.",
            "ours",
        ),
    ]
    samples: Annotated[
        list[Samples],
        Field(max_length=100),
        doc("Numbers of samples for which the bias of the importance-weighted NLL is measured.", "ours"),
    ]


class Job(NamedTuple):
    """One training in the graph of stages that DVC runs.

    Attributes:
        dataset: Name of the data set.
        setting: Name of the setting, which gives the system and its hyperparameters (see `Setting`).
        seed: Seed of the training.
        column: Name of the column in which the setting has the hyperparameters for this data set.
    """

    dataset: str
    setting: str
    seed: int
    column: str

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.setting}-{self.seed}"

    @property
    def folder(self) -> Path:
        """The path `dataset/setting/seed` below `models/` and `results/`."""
        return Path(self.dataset, self.setting, str(self.seed))


class Params(Frozen):
    """All parameters of params.yaml."""

    run: Annotated[
        OneRun,
        doc(
            "Part of the project that `dvc repro` rebuilds: a name from `runs`, or a block with the keys below.", "ours"
        ),
    ]
    runs: Annotated[
        dict[Name, Annotated[list[Run], Field(min_length=1)]],
        doc("Lists of blocks, by name. `run` can have one of these names.", "ours"),
    ] = {}
    figure1: Annotated[
        Figure1 | None,
        doc("Parameters of Figure 1, which shows five systems on the synthetic data; null: no Figure 1.", "paper"),
    ]
    threads: Annotated[
        Threads,
        doc(
            "Number of CPU threads of one training, evaluation or quadrature. The number changes the last "
            "bits of a result.",
            "ours",
        ),
    ]
    precision: Annotated[Precision, doc("Precision of products on a GPU.", "ours")] = Precision()
    checkpoint_seconds: Annotated[
        NotNegative,
        doc(
            "Seconds between two saved states of a training. An interrupted training continues from its last "
            "saved state. The state at the end of each epoch is saved too. No result depends on this.",
            "ours",
        ),
    ]
    evaluation: Annotated[Evaluation, doc("Measurements of a trained model.", "paper, 4.1")]
    exact: Annotated[Exact | None, doc("Exact NLL of a trained model on synthetic data; null: none.", "ours")]
    probe: Annotated[Probe, doc("Linear probes of a trained model.", "paper, 4.2")]
    generation: Annotated[Generation, doc("Samples and interpolations in the report.", "paper, S-F")]
    datasets: Annotated[dict[Name, Dataset], doc("Data sets by name.")]
    settings: Annotated[dict[Name, AnySetting], doc("Settings by name.")]
    setting_grids: Annotated[dict[Name, SettingGrid], doc("Grids of settings by name.")] = {}
    studies: Annotated[dict[Name, Study], doc("Searches of hyperparameters by name.")] = {}

    def dataset(self, name: str) -> AnyDataset:
        """Returns the data set with this name. Raises a `UserError` if there is none."""
        return _named("data set", name, self.datasets)

    def setting(self, name: str) -> Setting:
        """Returns the setting with this name. Raises a `UserError` if there is none."""
        return _named("setting", name, self.settings)

    def declaration(self, setting: str) -> str:
        """The key of params.yaml that declares a setting.

        For example, the key is `settings.vae` for the setting `vae`, and `setting_grids.figure2` for a setting of the
        grid `figure2`.
        """
        grid = next((name for name, grid in self.setting_grids.items() if setting in grid.cells(name)), None)

        return f"settings.{setting}" if grid is None else f"setting_grids.{grid}"

    def study(self, name: str) -> Study:
        """Returns the study with this name. Raises a `UserError` if there is none."""
        return _named("study", name, self.studies)

    def hyperparameters(self, setting: str, dataset: str, root: Path = Path()) -> Frozen:
        """The hyperparameters of a setting on a data set, as an object of the system's class of hyperparameters.

        If the setting names a study in place of hyperparameters, the hyperparameters are read from the study's results.
        """
        column = self.column(setting, dataset)
        if not isinstance(column, StudyReference):
            return column

        return best_hyperparameters(column.study, self.setting(setting).system, root)

    def column(self, setting: str, dataset: str) -> Frozen:
        """The content of a setting's column for a data set: hyperparameters, or a reference to a study."""
        column, columns = self.dataset(dataset).column, self.setting(setting).columns
        if column not in columns:
            raise UserError(
                f"params.yaml: settings.{setting}.columns has no '{column}', which data set '{dataset}' needs"
                f" (it has {', '.join(columns)}). Add that column, or choose another setting."
            )
        values: Frozen = columns[column]

        return values

    def optimisation(self, setting: str, dataset: str) -> Optimisation:
        """The optimisation parameters of a data set, in which a setting may replace the values of some keys."""
        return self.dataset(dataset).optimisation.changed(self.setting(setting).optimisation)

    def job(self, dataset: str, setting: str, seed: int) -> Job:
        """Returns the job of a data set, setting and seed.

        Raises:
            UserError: If the data set or the setting is unknown, or if the setting has no column for the data set.
        """
        self.column(setting, dataset)

        return Job(dataset, setting, seed, self.dataset(dataset).column)

    def blocks(self) -> list[Run]:
        """The block that the key `run` of params.yaml holds; or the blocks of the list in `runs` that `run` names."""
        if isinstance(self.run, Run):
            return [self.run]
        if self.run not in self.runs:
            raise UserError(f"params.yaml: run: {unknown('entry of runs', self.run, self.runs)}")

        return self.runs[self.run]

    def run_jobs(self) -> list[Job]:
        """The trainings of all blocks that `blocks` returns, each training once."""
        return list(dict.fromkeys(job for block in self.blocks() for job in self._block_jobs(block)))

    def run_studies(self) -> list[str]:
        """Names of the studies of all blocks that `blocks` returns, each name once."""
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
        """The five trainings of Figure 1; none if params.yaml leaves Figure 1 out."""
        if self.figure1 is None:
            return []

        return [self.job(FIGURE1_DATASET, setting, self.figure1.seed) for setting in FIGURE1_SETTINGS]

    def jobs(self) -> list[Job]:
        """All trainings that DVC runs: those of the key `run` and those of Figure 1, each training once."""
        return list(dict.fromkeys([*self.run_jobs(), *self.figure1_jobs()]))


def _named(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Returns the object with this name. If there is none, raises a `UserError` with the closest known name."""
    if name not in known:
        raise UserError(f"params.yaml: {unknown(kind, name, known)}")

    return known[name]


def best_hyperparameters(study: str, system: str, root: Path = Path()) -> Frozen:
    """Reads the best hyperparameters of a study, and checks them with the system's class of hyperparameters.

    Args:
        study: Name of the study.
        system: Name of the system that will use the hyperparameters.
        root: Folder of the project.

    Raises:
        UserError: If the study has no results, recommends no hyperparameters, or searched another system. Also if a
            file of the study has changed since the search wrote it.
    """
    import yaml  # imported here, so that a program can load a trained model without this library

    from duvae.project.provenance import read_record

    path = best_params_path(study, root)
    remedy = f"Run 'duvae search --study {study}' or 'dvc repro search@{study}'"
    read_record(path.with_name("search.run.json"), f"duvae search --study {study}", missing_ok=True)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        values, searched_system = content["hyperparameters"], content["system"]
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. {remedy}.") from error
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected a study's best hyperparameters ({error}). {remedy} again.") from error
    if values is None:
        raise UserError(f"{path}: the study '{study}' found none that it may recommend ({content.get('why')}).")
    if searched_system != system:
        raise UserError(
            f"{path}: expected hyperparameters of {system}; found those of {searched_system}. {remedy} again."
        )
    try:
        return HYPERPARAMETERS[system].model_validate(values)
    except ValidationError as error:
        key, why = explain(error.errors()[0], values)
        raise UserError(f"{path}: hyperparameters.{'.'.join(key)}: {why}. {remedy} again.") from error
