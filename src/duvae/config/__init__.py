"""`params.yaml`, read once into frozen typed objects.

Every mistake in the file is a `UserError` that names file, line and key, what was expected,
what was found and the closest known key. The classes lie where the file has their sections.
"""

from duvae.config.datasets import (
    AnyDataset,
    Dataset,
    DatasetProbe,
    Decay,
    ImageDataset,
    ImageNetworks,
    Networks,
    OmniglotDataset,
    Optimisation,
    Paper,
    PaperTable,
    SyntheticDataset,
    TextDataset,
    TextNetworks,
)
from duvae.config.params import (
    FIGURE1_DATASET,
    FIGURE1_SETTINGS,
    Evaluation,
    Job,
    Params,
    Probe,
    Run,
    best,
)
from duvae.config.reading import load, parse, space
from duvae.config.settings import Found, Parts, Setting, SettingGrid, found
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
    place,
)
from duvae.config.studies import Prune, Study
from duvae.fields import Frozen

__all__ = [
    "FIGURE1_DATASET",
    "FIGURE1_SETTINGS",
    "AnyDataset",
    "BuiltVocabulary",
    "Dataset",
    "DatasetProbe",
    "Decay",
    "Evaluation",
    "Found",
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
    "Probe",
    "Prune",
    "Run",
    "Sample",
    "Setting",
    "SettingGrid",
    "Study",
    "SyntheticDataset",
    "SyntheticSource",
    "TextDataset",
    "TextFile",
    "TextNetworks",
    "TextSource",
    "TextSplit",
    "Truth",
    "best",
    "found",
    "load",
    "parse",
    "place",
    "space",
]
