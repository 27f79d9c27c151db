"""The classes of the data that the registry, `duvae.registry`, holds about each system and each hyperparameter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Record:
    """One system as tables, figures and pages present it.

    Attributes:
        label: The system's name as the paper writes it.
        equation: The equation that defines the system, in plain text.
        source: The equation's place in the paper, or the cited paper.
        colour: The system's colour in every figure, such as `#0072b2`.
        letters: The paper's letter for each hyperparameter, such as `γ`, by the hyperparameter's key in params.yaml.
            A hyperparameter without a letter in the paper has no entry.
        brackets: The hyperparameters that the paper's tables print in brackets after the label, in the order of the
            brackets; None: all hyperparameters that have a letter.
        chosen: The values of the hyperparameters that the paper chose, by column and hyperparameter; empty if the paper
            names no values. Sources: Figure 2 for DU-VAE, supplement E for the synthetic data, and Table 1 for
            everything else.
        needs_floor: Whether the system's variances need a lower bound (`duvae.regularizers.VarianceFloor`), because the
            system applies dropout to the variances.
        likelihood: Whether the system's posterior has a density, so that examples have an NLL.
        mutual_information: Whether the mutual information of the system's posterior is known.
    """

    label: str
    equation: str
    source: str
    colour: str
    letters: Mapping[str, str] = field(default_factory=dict)
    brackets: tuple[str, ...] | None = None
    chosen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    needs_floor: bool = False
    likelihood: bool = True
    mutual_information: bool = True

    @property
    def bracketed(self) -> tuple[str, ...]:
        """The hyperparameters that the paper's tables print in brackets after the label, in the order of printing."""
        return tuple(self.letters) if self.brackets is None else self.brackets


@dataclass(frozen=True)
class Searched:
    """The values among which the paper chose one hyperparameter (supplement E).

    Attributes:
        text: Values on Yahoo and Yelp; empty if the paper names no values.
        images: Values on OMNIGLOT; empty if the paper names no values.
        synthetic: Values on the synthetic data; empty if the paper names no values.
    """

    text: tuple[float, ...] = ()
    images: tuple[float, ...] = ()
    synthetic: tuple[float, ...] = ()

    def on(self, column: str) -> tuple[float, ...]:
        """The values for a column; empty for a column that the paper does not have."""
        columns = {"synthetic": self.synthetic, "yahoo": self.text, "yelp": self.text, "omniglot": self.images}

        return columns.get(column, ())


def searched(hyperparameter: FieldInfo) -> Searched:
    """Finds the values among which the paper chose a hyperparameter.

    Args:
        hyperparameter: Field of a class of hyperparameters; the annotation of the field may hold a `Searched`.

    Returns:
        The `Searched` of the annotation; without one, an empty `Searched`.
    """
    return next((entry for entry in hyperparameter.metadata if isinstance(entry, Searched)), Searched())
