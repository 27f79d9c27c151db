"""Plans a study, which searches for the best hyperparameters of a system.

A trial trains one model per seed with the same hyperparameters. The plan of a study holds the search space, the grid or
the sampler that chooses the hyperparameters of each trial, the budget of epochs, and the hash that names the study.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from scipy.stats import qmc

from duvae import config, devices
from duvae.config import Params
from duvae.project import fingerprint
from duvae.registry import HYPERPARAMETERS
from duvae.search.storage import without_warnings


@dataclass(frozen=True)
class Plan:
    """A study as params.yaml describes it.

    Attributes:
        name: Name of the study.
        study: Parameters of the study in params.yaml.
        system: Name of the system whose hyperparameters the study searches.
        base: All hyperparameters of the study's setting (a system with its hyperparameters in params.yaml), by name. A
            trial replaces the values of the searched hyperparameters.
        space: Values of each searched hyperparameter, in ascending order, by name.
        params: All parameters of params.yaml.
        root: Folder of the project.
    """

    name: str
    study: config.Study
    system: str
    base: Mapping[str, Any]
    space: Mapping[str, tuple[float, ...]]
    params: Params
    root: Path

    @classmethod
    def from_params(cls, params: Params, name: str, root: Path = Path()) -> "Plan":
        """Builds the plan of a study.

        Args:
            params: All parameters of params.yaml.
            name: Name of the study in params.yaml.
            root: Folder of the project.
        """
        study = params.study(name)
        system = params.setting(study.setting).system
        base = params.hyperparameters(study.setting, study.dataset, root).model_dump()
        space = config.search_space(study, system, params.dataset(study.dataset).column)

        return cls(name, study, system, base, space, params, root)

    @property
    def samples(self) -> int:
        """Number K of importance samples with which a trial estimates the validation NLL."""
        return self.study.importance_samples or self.params.evaluation.importance_samples

    @property
    def optimisation(self) -> config.Optimisation:
        """Optimiser, epochs and warm-up of every trial."""
        return self.params.optimisation(self.study.setting, self.study.dataset)

    @property
    def grid(self) -> list[dict[str, float]]:
        """All combinations of the values in the search space, each as a dictionary of hyperparameters."""
        return [dict(zip(self.space, values, strict=True)) for values in itertools.product(*self.space.values())]

    @property
    def grid_epochs(self) -> int:
        """Number of epochs that a grid study over the values in `space` would train if no training ended early."""
        return len(self.grid) * self.trial_epochs

    @property
    def trial_epochs(self) -> int:
        """Number of epochs that a trial trains with all its seeds if no training ends early."""
        return len(self.study.seeds) * self.optimisation.epochs

    @property
    def budget(self) -> int | None:
        """Largest number of epochs that all trials together may train; None: no limit."""
        return None if self.study.budget is None else int(self.study.budget * self.grid_epochs)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Uniform distribution of each searched hyperparameter, from the least to the greatest value in `space`."""
        fields = HYPERPARAMETERS[self.system].model_fields

        return {
            name: IntDistribution(int(min(values)), int(max(values)))
            if fields[name].annotation is int
            else FloatDistribution(float(min(values)), float(max(values)))
            for name, values in self.space.items()
        }

    def hyperparameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all hyperparameters of a trial, by name.

        Args:
            values: Values of the searched hyperparameters, by name.
        """
        return HYPERPARAMETERS[self.system].model_validate({**self.base, **values}).model_dump()

    def description(self) -> str:
        """Describes in one sentence the system, the data set, the search space and the aim of the study."""
        ranges = ", ".join(f"{name} {min(values):g} to {max(values):g}" for name, values in self.space.items())
        constraint = f" among trials with MI above {self.study.min_mi:g} nats" if self.study.min_mi is not None else ""
        seeds = f"seed{'s' if len(self.study.seeds) > 1 else ''} {', '.join(map(str, self.study.seeds))}"

        return (
            f"{self.system} on {self.study.dataset}, {seeds}: {self.study.sampler} over {ranges}; the"
            f" least NLL on validation{constraint}."
        )

    def determinants(self) -> dict[str, Any]:
        """Collects the values on which the results of the trials depend.

        The searched hyperparameters, the data and the code are not among these values.
        """
        dataset, setting = self.params.dataset(self.study.dataset), self.params.setting(self.study.setting)

        return {
            "system": self.system,
            "parts": setting.parts.model_dump(),
            "base": {name: value for name, value in self.base.items() if name not in self.space},
            "networks": dataset.networks.model_dump(),
            "optimisation": self.optimisation.model_dump(),
            "nll_examples": dataset.nll_examples,
            "evaluation": {**self.params.evaluation.model_dump(), "importance_samples": self.samples},
            "seeds": self.study.seeds,
            "threads": self.params.threads,
            "torch": str(torch.__version__),
            **devices.determinants(devices.chosen(), self.params.precision.model_dump()),
        }

    @cached_property
    def conditions(self) -> str:
        """Hash of everything on which the results of the trials depend, except the searched hyperparameters.

        The hash covers the values of `determinants`, the prepared data and the code. The results of two studies can be
        compared if the two hashes are equal.
        """
        digest = hashlib.sha256(json.dumps(self.determinants(), sort_keys=True).encode())
        for kind in ("train", "evaluate"):
            digest.update(fingerprint.of_this_process(kind, self.system).encode())
        for path in sorted((self.root / "data/prepared" / self.study.dataset).iterdir()):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())

        return digest.hexdigest()

    def key(self) -> str:
        """Computes the hash that identifies the study: its key.

        The key covers `conditions`, the search space and the options of the search. A change of one of these changes
        the key, and a changed key starts a new study. So all trials of a study have the same `conditions`.
        """
        # The key leaves out `trials` and `budget`. A user can therefore raise these limits and continue the study.
        names = {"sampler", "min_mi", "prune", *(() if self.study.sampler == "grid" else ("first", "startup"))}
        options = self.study.model_dump(include=names)
        content = json.dumps([self.conditions, options, list(self.space.items())], sort_keys=True)

        return hashlib.sha256(content.encode()).hexdigest()


def first_points(plan: Plan) -> list[dict[str, float]]:
    """Returns the points that a study tries first, before its sampler draws any points.

    A point gives values to the searched hyperparameters.

    Args:
        plan: Plan of the study.

    Returns:
        One dictionary per point, with the values of the hyperparameters by name. For a grid study, the result has all
        points of the grid. For another study, it has the points listed in params.yaml, followed by points of Sobol's
        sequence. This sequence spreads points evenly over the search space.
    """
    if plan.study.sampler == "grid":
        return plan.grid
    distributions = plan.distributions
    spread = qmc.Sobol(len(distributions), rng=plan.study.seeds[0]).random_base2(8)[: plan.study.startup]
    low, high = ([float(getattr(d, end)) for d in distributions.values()] for end in ("low", "high"))
    points = []
    for row in np.asarray(low) + spread * (np.asarray(high) - np.asarray(low)):
        named = zip(distributions.items(), row.tolist(), strict=True)
        points.append({name: round(v) if isinstance(d, IntDistribution) else v for (name, d), v in named})

    return [{name: values[name] for name in plan.space if name in values} for values in plan.study.first] + points


def sampler(plan: Plan, trials: int) -> BaseSampler:
    """Builds the sampler, TPE or a Gaussian process, that draws the hyperparameters of one trial.

    Both read the bound on MI from the constraint that each trial stores, and prefer values for which it holds.

    The random numbers of the sampler depend only on the first seed of the study and on the number of trials. A study
    that was killed and resumed therefore draws the same hyperparameters as a study that was not interrupted.

    Args:
        plan: Plan of the study.
        trials: Number of trials that the study has so far.
    """
    seed = int(np.random.SeedSequence([plan.study.seeds[0], trials]).generate_state(1)[0])
    with without_warnings():
        if plan.study.sampler == "gp":
            return GPSampler(n_startup_trials=1, seed=seed)

        return TPESampler(n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed)
