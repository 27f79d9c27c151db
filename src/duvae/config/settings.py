"""Classes for settings and for grids of settings.

A setting is a system, such as DU-VAE, with its hyperparameters and with its parts, which are other options of the
encoder.
"""

import math
import re
from collections.abc import Mapping
from functools import reduce
from itertools import product
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails

from duvae.fields import FloatValue, Frozen, Name, Positive, Value, doc
from duvae.messages import explain, refusal, show
from duvae.registry import HYPERPARAMETERS

Changes = Annotated[
    dict[str, Any],
    doc(
        "New values for keys of `datasets.*.optimisation`, such as `{epochs: 30, decay: {patience: 2}}`; "
        "`{}`: none. The new values apply on every data set. The key is required, because DVC fails "
        "without it.",
        "ours",
    ),
]
"""New values for some keys of the class `Optimisation`, with which a setting changes the optimisation of data sets."""


class StudyReference(Frozen):
    """The name of a study (a search for hyperparameters), given in a setting in place of hyperparameters.

    The setting then uses the best hyperparameters of the study, from `results/studies/<study>/best_params.yaml`.
    """

    study: Annotated[
        Name,
        doc(
            "Name of a study. The setting uses the best hyperparameters of that study, from "
            "`results/studies/*/best_params.yaml`.",
            "ours",
        ),
    ]


def best_params_path(study: str, root: Path = Path()) -> Path:
    """The path of the file that holds a study's best hyperparameters.

    Args:
        study: Name of the study.
        root: Folder of the project.
    """
    return root / "results" / "studies" / study / "best_params.yaml"


class Parts(Frozen):
    """Options of a system's encoder that are not hyperparameters."""

    init: Annotated[
        Literal["torch", "paper", "paper_zero_bias", "uniform_01"],
        doc(
            "Initial weights of the text networks. `torch`: PyTorch's defaults in the encoder. `paper`: uniform on"
            " ±0.01, and on ±0.1 for embeddings. `paper_zero_bias`: as `paper`, with biases of 0 in the encoder's LSTM."
            " `uniform_01`: uniform on ±0.1 in encoder and decoder. With the first three, the decoder has the weights"
            " of `paper`. No IAF chain or image network depends on this choice.",
            "release; Kim et al. 2018, code",
        ),
    ]
    variance_floor: Annotated[
        Literal["alpha", "none"],
        doc(
            "Lower bound of the posterior variances. `alpha`: 1/(2πe), as in section 3.1. `none`: no bound.",
            "paper, 3.1",
        ),
    ] = "none"
    start: Annotated[
        Literal["after_warmup", "at_once"],
        doc(
            "Step at which the floor and the dropout on the variances start. `after_warmup`: the first step "
            "after the warm-up. `at_once`: the first step of the training.",
            "release",
        ),
    ] = "after_warmup"
    epsilon: Annotated[
        Positive,
        doc(
            "ε of the batch normalization of the means.",
            "ours (release: 1.0e-5 for Gaussians, 1.0e-8 for IAF); docs/deviations.md has the reason",
        ),
    ] = 1e-8


class Setting(Frozen):
    """A system with its parts, and with its hyperparameters for each column.

    A column, as in Table 1 of the paper, stands for one or more data sets on which a setting has the same
    hyperparameters.
    """

    system: Annotated[str, doc("Name of a system; `duvae systems` lists them.")]
    parts: Annotated[Parts, doc("Parts of the encoder that are not hyperparameters.", "release")]
    optimisation: Changes
    columns: Annotated[
        dict[Name, Any],
        doc(
            "Hyperparameters for each column of data sets. The tables below list the hyperparameters of each system.",
            "paper, Table 1",
        ),
    ]

    @model_validator(mode="after")
    def some_column(self) -> Self:
        if not self.columns:
            raise refusal("columns", "expected at least one column of hyperparameters")

        return self


def _column_tag(values: Any) -> str:
    study = isinstance(values, StudyReference) or (isinstance(values, dict) and "study" in values)

    return "reference" if study else "hyperparameters"


def _setting_of(system: str, hyperparameters: type[Frozen]) -> type[Setting]:
    """Builds the class for the settings of one system, whose columns hold hyperparameters or the name of a study."""
    column = Annotated[
        Annotated[hyperparameters, Tag("hyperparameters")] | Annotated[StudyReference, Tag("reference")],  # type: ignore[valid-type]
        Discriminator(_column_tag),
    ]
    fields: dict[str, Any] = {"system": Literal[system], "columns": dict[Name, column]}
    described: dict[str, Any] = {
        name: (Annotated[kind, doc(Setting.model_fields[name].description or "")], ...) for name, kind in fields.items()
    }

    return create_model(f"Setting_{system}", __base__=Setting, **described)


_CLASSES = [_setting_of(system, hyperparameters) for system, hyperparameters in HYPERPARAMETERS.items()]

if TYPE_CHECKING:
    AnySetting = Setting
else:
    AnySetting = Annotated[reduce(or_, _CLASSES), Field(discriminator="system")]

_SETTING: TypeAdapter[Setting] = TypeAdapter(AnySetting)

NAMEABLE = re.compile(r"\d\.\d+")
"""Form of the numbers in a grid. With just one digit before the point, the names of settings can omit the point."""

LARGEST_GRID = 1_000
"""Largest number of settings of a grid. The grid of the paper's Figure 2 has 20."""


class SettingGrid(Frozen):
    """Settings of one system that differ in a few hyperparameters, one setting for each combination of `values`.

    The name of a setting holds its values: the setting `figure2_g04_p10` of the grid `figure2` has gamma 0.4 and p 1.0.
    If the grid gets other values later, each name therefore still means the same training.
    """

    system: Annotated[str, doc("Name of the system of all settings of the grid.")]
    parts: Annotated[Parts, doc("Parts of all settings of the grid.", "release")]
    optimisation: Changes
    columns: Annotated[
        dict[Name, dict[Name, Value]],
        Field(min_length=1),
        doc("Hyperparameters that do not vary, for each column of data sets."),
    ]
    values: Annotated[
        dict[Name, Annotated[list[FloatValue], Field(min_length=1, max_length=100)]],
        Field(min_length=1),
        doc(
            "Values of each hyperparameter that varies, from 0.0001 to below 10. There is one setting for "
            "each combination, named after its values: `figure2_g04_p10` has gamma 0.4 and p 1.0.",
            "paper, Figure 2",
        ),
    ]
    without: Annotated[list[dict[Name, FloatValue]], doc("Combinations that the grid leaves out.", "ours")] = []

    @model_validator(mode="after")
    def names_and_cells_are_valid(self) -> Self:
        for name, values in self.values.items():
            for index, value in enumerate(values):
                if not NAMEABLE.fullmatch(str(value)):
                    message = f"expected a number from 0.0001 to below 10; found {show(value)}"
                    raise refusal(f"values.{name}.{index}", message)
        if (size := math.prod(map(len, self.values.values()))) > LARGEST_GRID:
            message = f"expected at most {LARGEST_GRID:,} combinations, each of which is a setting; found {size:,}"
            raise refusal("values", message)
        if len({name[0] for name in self.values}) < len(self.values):
            names = ", ".join(self.values)
            raise refusal(
                "values",
                "expected hyperparameters that begin with different letters, since these letters name the settings;"
                f" found {names}",
            )
        for cell in self.cells("grid").values():
            self._check(cell)
        for index, left_out in enumerate(self.without):
            if left_out not in self._combinations():
                message = f"expected a combination of values of {', '.join(self.values)} that the grid has"
                raise refusal(f"without.{index}", message)
        if len(self.without) == math.prod(map(len, self.values.values())):
            raise refusal("without", "expected at least one combination to stay in the grid; found all of them here")

        return self

    def _combinations(self) -> list[dict[str, float]]:
        return [dict(zip(self.values, values, strict=True)) for values in product(*self.values.values())]

    def _check(self, cell: Mapping[str, Any]) -> None:
        """Validates one setting of the grid.

        An error names a key of the grid, because params.yaml has no key for a single setting of the grid.
        """
        try:
            _SETTING.validate_python(cell)
        except ValidationError as error:
            mistakes = [explain(detail, cell) for detail in error.errors()]
            raise ValidationError.from_exception_data(
                error.title,
                [
                    InitErrorDetails(type=refusal(".".join(self._grid_key(path)), message), input=cell)
                    for path, message in mistakes
                ],
            ) from error

    def _grid_key(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The key of the grid from which a setting of the grid takes the value at the key `path`."""
        return ("values", path[-1]) if path[0] == "columns" and path[-1] in self.values else path

    def cells(self, name: str) -> dict[str, dict[str, Any]]:
        """The settings of the grid by name, each in the form of an entry of the key `settings` in params.yaml.

        Args:
            name: The name of the grid.
        """
        return {
            "_".join([name, *(f"{key[0]}{str(value).replace('.', '')}" for key, value in values.items())]): {
                "system": self.system,
                "parts": self.parts,
                "optimisation": self.optimisation,
                "columns": {column: {**fixed, **values} for column, fixed in self.columns.items()},
            }
            for values in self._combinations()
            if values not in self.without
        }

    def settings(self, name: str) -> dict[str, Setting]:
        """The settings of the grid as checked objects, by name.

        Args:
            name: The name of the grid.
        """
        return {key: _SETTING.validate_python(cell) for key, cell in self.cells(name).items()}
