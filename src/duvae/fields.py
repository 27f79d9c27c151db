"""Defines types of parameters in params.yaml, such as `Share`, and the base class of the classes that hold them."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from duvae.messages import with_closest_key


def doc(description: str, source: str = "") -> Any:
    """Builds the pydantic field of a parameter, with the text that `docs/parameters.md` shows about the parameter.

    Args:
        description: Meaning of the parameter, with its unit; a noun phrase.
        source: Where the values come from. `paper, 3.1` is section 3.1 of the paper, and `paper, S-E` is section E of
            its supplement. `release` is the authors' code, and `ours` is a choice of this project. Empty: the page
            shows no source.
    """
    return Field(description=description, json_schema_extra={"source": source})


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
TwoOrMore = Annotated[int, Field(ge=2)]
KeepProbability = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]


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
