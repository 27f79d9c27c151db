"""The parameters of `params.yaml` as immutable typed objects.

A mistake in the file raises a `UserError`. The message names the file, the line and the key, and states the expected
and the found value. For an unknown key or name, the message also has the closest known one. The sections
`datasets`, `settings` and `studies` of the file have modules of their own in this package.
"""

from duvae.config.datasets import (
    APART,
    AnyDataset,
    Dataset,
    DatasetProbe,
    ImageDataset,
    ImageNetworks,
    Networks,
    OmniglotDataset,
    Paper,
    PaperTable,
    SyntheticDataset,
    TextDataset,
    TextNetworks,
    is_own,
)
from duvae.config.optimisation import Decay, EveryEpochDecay, Optimisation, PatientDecay, Precision
from duvae.config.params import (
    FIGURE1_DATASET,
    FIGURE1_SETTINGS,
    Evaluation,
    Exact,
    Job,
    Params,
    Probe,
    Run,
    best_hyperparameters,
)
from duvae.config.reading import load, parse, search_space
from duvae.config.settings import Parts, Setting, SettingGrid, StudyReference, best_params_path
from duvae.config.sources import (
    BuiltVocabulary,
    ImageSource,
    OmniglotSource,
    Sample,
    SyntheticSource,
    TextFile,
    TextSource,
    TextSplit,
    Truth,
    path_in_folder,
)
from duvae.config.studies import Prune, Study
from duvae.fields import Frozen

__all__ = [
    "APART",
    "FIGURE1_DATASET",
    "FIGURE1_SETTINGS",
    "AnyDataset",
    "BuiltVocabulary",
    "Dataset",
    "DatasetProbe",
    "Decay",
    "Evaluation",
    "EveryEpochDecay",
    "Exact",
    "Frozen",
    "ImageDataset",
    "ImageNetworks",
    "ImageSource",
    "Job",
    "Networks",
    "OmniglotDataset",
    "OmniglotSource",
    "Optimisation",
    "Paper",
    "PaperTable",
    "Params",
    "Parts",
    "PatientDecay",
    "Precision",
    "Probe",
    "Prune",
    "Run",
    "Sample",
    "Setting",
    "SettingGrid",
    "Study",
    "StudyReference",
    "SyntheticDataset",
    "SyntheticSource",
    "TextDataset",
    "TextFile",
    "TextNetworks",
    "TextSource",
    "TextSplit",
    "Truth",
    "best_hyperparameters",
    "best_params_path",
    "is_own",
    "load",
    "parse",
    "path_in_folder",
    "search_space",
]
