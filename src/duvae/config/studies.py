"""Studies of hyperparameters."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duvae.config.base import Count, Frozen, Name, Positive, Seed
from duvae.mistakes import refusal


class Prune(Frozen):
    """Which trainings of a study are not brought to their end; `duvae.pruning` has the rule.

    `rungs`: epochs after the warm-up at which a training must be among the best `keep` of those that got there.
    `grace`: epochs after the warm-up, when floor and dropout on the variances have started, before a mutual
    information under the study's `min_mi` alone ends a training.
    """

    rungs: Annotated[list[Count], Field(min_length=1)]
    keep: Annotated[float, Field(gt=0, le=1)]
    grace: Count


class Study(Frozen):
    """A search for the hyperparameters of a setting's system on a data set, by the NLL on validation.

    `values`: what a hyperparameter is tried at; of those not named here supplement E's values for the data set.
    `sampler`: `grid`, all their combinations; `tpe`, a tree-structured Parzen estimator between the least and the
    greatest of each. `min_mi`: nats of mutual information on validation that the winner must exceed. For `tpe`:
    `first` are tried before all others, `startup` more are spread evenly, and it ends after `trials` or `budget`
    times the epochs of the grid of the same values. `against`: a grid study that the result is compared with.
    """

    dataset: Name
    setting: Name
    seed: Seed
    sampler: Literal["grid", "tpe"]
    values: dict[Name, Annotated[list[int | float], Field(min_length=1)]] = {}
    min_mi: Positive | None = None
    importance_samples: Count | None = None
    first: list[dict[Name, int | float]] = []
    startup: Annotated[int, Field(ge=0)] = 4
    trials: Count | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    prune: Prune | None = None
    against: Name | None = None

    @model_validator(mode="after")
    def ends(self) -> Self:
        if self.sampler == "tpe" and self.trials is None and self.budget is None:
            why = "expected this or 'trials', without which the study would never end; found neither"
            raise refusal("budget", why)

        return self
