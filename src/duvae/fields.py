"""Defines types of parameters in params.yaml, such as `Share`, and the base class of the classes that hold them."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from duvae.messages import refusal, show, with_closest_key
from duvae.paths import LONGEST_PART, LONGEST_PATH


def doc(description: str, source: str = "") -> Any:
    """Builds the pydantic field of a parameter, with the text that `docs/parameters.md` shows about the parameter.

    Args:
        description: Meaning of the parameter, with its unit; a noun phrase.
        source: Where the values come from. `paper, 3.1` is section 3.1 of the paper, and `paper, S-E` is section E of
            its supplement. `release` is the authors' code, and `ours` is a choice of this project. Empty: the page
            shows no source.
    """
    return Field(description=description, json_schema_extra={"source": source})


LARGEST_LABEL = 999_999
"""Largest label of an example. A label numbers a class, and counts of examples are kept for all numbers up to it."""

# Every number has an upper bound, so that a mistyped number is found before it takes memory or hours. The bounds are
# far above all values of the paper.
Positive = Annotated[float, Field(ge=1e-9, le=1e6)]
"""A positive number. Within these bounds its square and its inverse are finite in single precision."""
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
FloatValue = Annotated[float, Field(ge=-1e6, le=1e6)]
Value = Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | FloatValue
"""Value of a hyperparameter, which the class of the hyperparameters checks again."""
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(ge=1e-9, lt=1)]
KeepProbability = Annotated[float, Field(ge=1e-6, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
"""A number of examples or words. The largest data set of the paper has 100,000 training documents."""
TwoOrMore = Annotated[int, Field(ge=2, le=1_000_000)]
"""Size of a batch or of a vocabulary."""
Epochs = Annotated[int, Field(ge=1, le=100_000)]
"""A number of epochs, at least one. The longest training of the paper has 500."""
SomeEpochs = Annotated[int, Field(ge=0, le=100_000)]
"""A number of epochs or steps, possibly none."""
Repeats = Annotated[int, Field(ge=1, le=10_000)]
"""A number of draws, of rows, or of steps within one training step."""
Width = Annotated[int, Field(ge=1, le=16_384)]
"""Width of a layer. Two layers of the largest width have a matrix of 1 GiB between them."""
Side = Annotated[int, Field(ge=1, le=1_024)]
"""Side of an image in pixels. The decoder predicts each pixel of each image for each sample of z."""
Samples = Annotated[int, Field(ge=1, le=1_000_000)]
"""A number of importance samples for each example."""
Blocks = Annotated[int, Field(ge=1, le=100)]
"""A number of blocks of a chain of flows. The gradient passes through all of them."""
Threads = Annotated[int, Field(ge=1, le=1_024)]
"""A number of CPU threads. Larger machines do not speed up one training."""
Several = Annotated[int, Field(ge=2, le=1_000)]
"""A number of folds, or of points on a line."""
Label = Annotated[int, Field(ge=0, le=LARGEST_LABEL)]
Coordinate = Annotated[float, Field(ge=-1_000, le=1_000)]
"""A coordinate of z, whose prior has the standard deviation 1."""
Point = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=60)]
"""A name. The names of files join up to three of them, and a file name has at most 255 bytes."""


def _checked_path(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if not parts:
        raise refusal("", f"expected the path of a file or folder; found {show(path)}, which names none")
    if not path.isprintable():
        raise refusal("", f"expected a path without control characters; found {show(path)}")
    size, longest = len(path.encode()), max(len(part.encode()) for part in parts)
    if size > LONGEST_PATH or longest > LONGEST_PART:
        raise refusal(
            "",
            f"expected a path of at most {LONGEST_PATH:,} bytes, with names of at most {LONGEST_PART} bytes; found"
            f" {size:,} bytes, with a name of {longest:,} bytes",
        )

    return path


PathText = Annotated[str, AfterValidator(_checked_path)]
"""Path of a file or folder."""


class Frozen(BaseModel):
    """Base class of the classes that hold parameters.

    Objects are immutable. Unknown keys, values of a wrong type and numbers that are not finite are errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def closest_key(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validates an object. If it has an unknown key, the error also names the closest known key."""
        try:
            return handler(value)
        except ValidationError as error:
            raise with_closest_key(error, list(cls.model_fields)) from error
