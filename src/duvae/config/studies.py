"""Parameters of studies. A study is a search for the hyperparameters of one system, such as DU-VAE."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duvae.fields import Count, Epochs, Frozen, Name, Positive, Samples, Seed, SomeEpochs, Value, doc
from duvae.messages import refusal


class Prune(Frozen):
    """Rule that ends trials of a study early. The module `duvae.search.pruning` applies this rule.

    A trial trains one model per seed. The values below are for the model of the first seed. After the model of each
    seed, a trial ends if it is worse than the best one by a paired comparison, or if its MI is too low.
    """

    rungs: Annotated[
        list[Epochs],
        Field(min_length=1, max_length=100),
        doc(
            "Numbers of epochs after the warm-up at which trainings are compared. A training ends there "
            "unless its best validation loss is among the lowest.",
            "ours",
        ),
    ]
    keep: Annotated[
        float,
        Field(gt=0, le=1),
        doc("Share of the compared trainings that continue. Their number is rounded up.", "ours"),
    ]
    grace: Annotated[
        Epochs,
        doc(
            "Number of epochs in a row that end a training if their mutual information is at most `min_mi`. "
            "Only epochs after the warm-up count.",
            "ours",
        ),
    ]


class Study(Frozen):
    """A search for the hyperparameters with which a system has the lowest NLL on the validation set of a data set.

    A point gives one value to each searched hyperparameter. A trial is the test of one point; it trains one model per
    seed. The sampler `grid` tries all combinations of the values. The samplers `tpe`, a tree-structured Parzen
    estimator, and `gp`, a Gaussian process, first try the points in `first`, then `startup` evenly spread points, and
    then points that they choose from the results. They stop when `trials` or `budget` is used up.
    """

    dataset: Annotated[Name, doc("Name of the data set.")]
    setting: Annotated[
        Name,
        doc("Name of the setting that gives the system, its parts, and the hyperparameters that are not searched."),
    ]
    seeds: Annotated[
        list[Seed],
        Field(min_length=1, max_length=100),
        doc(
            "Seeds of the trainings of each trial, one training per seed. The first is also the seed of the sampler.",
            "the paper does not say",
        ),
    ]
    sampler: Annotated[
        Literal["grid", "tpe", "gp"],
        doc(
            "Rule that chooses the hyperparameters to try. `grid`: all combinations of the values. `tpe`: a "
            "tree-structured Parzen estimator, between the least and the greatest value. `gp`: a Gaussian process, "
            "between the same values.",
            "paper, Figure 2; ours",
        ),
    ]
    values: Annotated[
        dict[Name, Annotated[list[Value], Field(min_length=1, max_length=1_000)]],
        doc(
            "Values to try, by hyperparameter. A hyperparameter that is left out takes the values of "
            "supplement E, if there are any.",
            "paper, S-E; β ours",
        ),
    ] = {}
    min_mi: Annotated[
        Positive | None,
        doc(
            "Mutual information on validation, in nats, that the best trial must exceed with every seed. Not "
            "allowed for IAF, whose mutual information is unknown.",
            "paper, S-E",
        ),
    ] = None
    importance_samples: Annotated[
        Samples | None,
        doc(
            "Number K of importance samples for the validation NLL; null: `evaluation.importance_samples`.",
            "paper, 4.1",
        ),
    ] = None
    first: Annotated[
        list[dict[Name, Value]],
        Field(max_length=1_000),
        doc("Hyperparameters that `tpe` and `gp` try before all others.", "ours"),
    ] = []
    startup: Annotated[
        SomeEpochs, doc("Number of evenly spread points that `tpe` and `gp` try after those of `first`.", "ours")
    ] = 4
    trials: Annotated[
        Count | None, doc("Largest number of trials that `tpe` or `gp` may begin; null: no limit.", "ours")
    ] = None
    budget: Annotated[
        Positive | None,
        doc(
            "Largest total number of epochs for `tpe` or `gp`, as a share of the epochs of a grid study with the "
            "same values; null: no limit.",
            "ours",
        ),
    ] = None
    prune: Annotated[Prune | None, doc("Rule that ends trials early.", "ours")] = None
    against: Annotated[Name | None, doc("Name of a grid study to compare the result with.", "ours")] = None

    @model_validator(mode="after")
    def has_each_seed_once(self) -> Self:
        twice = [seed for seed in self.seeds if self.seeds.count(seed) > 1]
        if twice:
            raise refusal("seeds", f"expected different seeds; found {twice[0]} twice")

        return self

    @model_validator(mode="after")
    def has_an_end(self) -> Self:
        if self.sampler != "grid" and self.trials is None and self.budget is None:
            why = "expected 'budget' or 'trials', because the study needs an end; found neither"
            raise refusal("budget", why)

        return self

    @model_validator(mode="after")
    def learns_from_all_trainings(self) -> Self:
        if self.sampler == "gp" and self.prune is not None:
            why = "expected null, because 'gp' learns nothing from trainings that end early; found a rule"
            raise refusal("prune", why)

        return self
