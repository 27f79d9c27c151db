"""Searching hyperparameters: a study whose trials are trainings, by any number of workers, killed at any moment.

A trial is a setting's system with other hyperparameters, trained as `duvae train` does with the same seed, and judged
by its importance-weighted NLL on validation. It keeps its number, its reports and its training's state through every
interruption, so that it is never lost and never counted twice.
"""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats import qmc

from duvae import config
from duvae.config import Job, Params
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.statistics import standard_error
from duvae.project import fingerprint
from duvae.project.progress import Bar, Row, TrainingBar
from duvae.registry import HYPERPARAMETERS
from duvae.search import reuse
from duvae.search.pruning import MI, WarmPruner, mi
from duvae.search.storage import ATTEMPTS, BEAT_SECONDS, Worker, fail, home, quiet
from duvae.tracking.trial_runs import TrialRun, study_run
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.vae import VAE

DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

BELOW = 0.25
"""The share of the trials that TPE takes for good ones."""

PARENT = "mlflow"
"""The attribute of a study that holds the id of its run in MLflow."""

SHARED = "shared"
"""The attribute of a trial that names the training of the graph that it took over."""

EPOCHS = "epochs"
"""The attribute of a trial that counts the epochs trained for it, those that a kill made be trained twice too."""

WAIT_SECONDS = 2.0
"""Between two looks at what other workers do, where this one has nothing to do."""


@dataclass(frozen=True)
class Plan:
    """All that a study is, from params.yaml.

    Attributes:
        name: The study's.
        study: Its entry.
        system: The system's name.
        base: All hyperparameters of the setting; those that are searched are replaced.
        space: What each searched hyperparameter is tried at, ascending.
        params: All of params.yaml.
        root: The project's folder.
    """

    name: str
    study: config.Study
    system: str
    base: Mapping[str, Any]
    space: Mapping[str, tuple[float, ...]]
    params: Params
    root: Path

    @classmethod
    def of(cls, params: Params, name: str, root: Path = Path()) -> "Plan":
        """The plan of a study of params.yaml."""
        study = params.study(name)
        system = params.setting(study.setting).system
        base = params.hyperparameters(study.setting, study.dataset, root).model_dump()

        return cls(name, study, system, base, config.search_space(study, system, _column(params, study)), params, root)

    @property
    def samples(self) -> int:
        """K of the validation NLL."""
        return self.study.importance_samples or self.params.evaluation.importance_samples

    @property
    def optimisation(self) -> config.Optimisation:
        return self.params.optimisation(self.study.setting, self.study.dataset)

    @property
    def grid(self) -> list[dict[str, float]]:
        """All combinations of the values."""
        return [dict(zip(self.space, values, strict=True)) for values in itertools.product(*self.space.values())]

    @property
    def grid_epochs(self) -> int:
        """What training the grid of the same values takes, at most."""
        return len(self.grid) * self.optimisation.epochs

    @property
    def budget(self) -> int | None:
        """Epochs that the study may train in all; None: any number."""
        return None if self.study.budget is None else int(self.study.budget * self.grid_epochs)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What a hyperparameter is drawn from: all between its least and its greatest value."""
        fields = HYPERPARAMETERS[self.system].model_fields

        return {
            name: IntDistribution(int(min(values)), int(max(values)))
            if fields[name].annotation is int
            else FloatDistribution(float(min(values)), float(max(values)))
            for name, values in self.space.items()
        }

    def hyperparameters(self, tried: Mapping[str, Any]) -> dict[str, Any]:
        """All hyperparameters of a trial."""
        return HYPERPARAMETERS[self.system].model_validate({**self.base, **tried}).model_dump()

    def said(self) -> str:
        """What it does, in words."""
        ranges = ", ".join(f"{name} {min(values):g} to {max(values):g}" for name, values in self.space.items())
        asked = f" among trials with MI above {self.study.min_mi:g} nats" if self.study.min_mi is not None else ""

        return (
            f"{self.system} on {self.study.dataset}, seed {self.study.seed}: {self.study.sampler} over {ranges}; the"
            f" least NLL on validation{asked}."
        )

    def determines(self) -> dict[str, Any]:
        """All that a trial's numbers depend on, data and code apart."""
        dataset, setting = self.params.dataset(self.study.dataset), self.params.setting(self.study.setting)

        return {
            "system": self.system,
            "parts": setting.parts.model_dump(),
            "base": {name: value for name, value in self.base.items() if name not in self.space},
            "networks": dataset.networks.model_dump(),
            "optimisation": self.optimisation.model_dump(),
            "nll_examples": dataset.nll_examples,
            "evaluation": {**self.params.evaluation.model_dump(), "importance_samples": self.samples},
            "seed": self.study.seed,
            "threads": self.params.threads,
            "torch": str(torch.__version__),
        }

    @cached_property
    def conditions(self) -> str:
        """A hash of all that a trial's numbers depend on, data and code too: what shares it can be compared."""
        whole = hashlib.sha256(json.dumps(self.determines(), sort_keys=True).encode())
        for kind in ("train", "evaluate"):
            whole.update(fingerprint.of_this_process(kind, self.system).encode())
        for path in sorted((self.root / "data/prepared" / self.study.dataset).iterdir()):
            whole.update(path.name.encode())
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())

        return whole.hexdigest()

    def key(self) -> str:
        """A hash of what the study is: of its conditions, and of how it searches.

        A study with another one is another study: trials of other parameters, data or source never meet in one.
        """
        # Not what ends a study: that may be raised, and the study goes on.
        names = {"sampler", "min_mi", "prune", *(("first", "startup") if self.study.sampler == "tpe" else ())}
        ours = self.study.model_dump(include=names)
        if self.study.sampler == "tpe":
            ours["below"] = BELOW
        said = json.dumps([self.conditions, ours, list(self.space.items())], sort_keys=True)

        return hashlib.sha256(said.encode()).hexdigest()


def _column(params: Params, study: config.Study) -> str:
    return params.dataset(study.dataset).column


# ---------------------------------------------------------------------------------- the study


def create(plan: Plan, storage: BaseStorage, worker: Worker) -> optuna.Study:
    """The plan's study, made with what it begins with where it is not there yet.

    Sampler and pruner are not stored: they are made here, and the sampler anew for each trial.
    """
    name = f"{plan.name}-{plan.key()[:8]}"
    pruner = WarmPruner(plan.optimisation.warmup, plan.study.prune, plan.study.min_mi)
    with worker.guard, quiet():
        parent = study_run(name, plan.study.dataset, plan.said(), home(plan.root))
        study = optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, pruner=pruner, sampler=RandomSampler()
        )
        study.set_metric_names(["validation NLL (nats)"])
        for point in first(plan):  # again after a kill: those that are there already are not added
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr(PARENT, parent)

    return study


def first(plan: Plan) -> list[dict[str, float]]:
    """What a study tries before anything is drawn: the grid, or what it is given and points spread evenly."""
    if plan.study.sampler == "grid":
        return plan.grid
    distributions = plan.distributions
    spread = qmc.Sobol(len(distributions), rng=plan.study.seed).random_base2(8)[: plan.study.startup]
    low, high = ([float(getattr(d, end)) for d in distributions.values()] for end in ("low", "high"))
    points = []
    for row in np.asarray(low) + spread * (np.asarray(high) - np.asarray(low)):
        drawn = zip(distributions.items(), row.tolist(), strict=True)
        points.append({name: round(v) if isinstance(d, IntDistribution) else v for (name, d), v in drawn})

    return [{name: values[name] for name in plan.space if name in values} for values in plan.study.first] + points


def sampler(plan: Plan, trials: int) -> BaseSampler:
    """The sampler of one trial, a function of the seed and of how many there are: the same after a kill as without."""
    seed = int(np.random.SeedSequence([plan.study.seed, trials]).generate_state(1)[0])
    with quiet():
        return TPESampler(n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed, gamma=count_below)


def count_below(trials: int) -> int:
    """How many of the trials TPE takes for good ones.

    Optuna's tenth is one trial of ten: all others then speak against where that one lies, good ones beside it too, and
    TPE goes where mutual information is known to be too low.
    """
    return math.ceil(BELOW * trials)


def take(plan: Plan, study: optuna.Study, storage: BaseStorage, worker: Worker) -> Trial | bool:
    """The next trial, this worker's from now on; True where one may come once others have got further, else False."""
    with worker.guard, quiet():
        worker.recover(storage, study)
        trials = study.get_trials(deepcopy=False)
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        begun = [trial for trial in waiting if trial.user_attrs.get(EPOCHS)]
        if plan.study.sampler == "grid" and not waiting:
            return bool(running)
        if not begun and not may_begin(plan, trials):
            return bool(running)
        study.sampler = sampler(plan, len(trials))
        trial = study.ask(plan.distributions)
        worker.claim(trial)

        return trial


def may_begin(plan: Plan, trials: list[FrozenTrial]) -> bool:
    """Whether a further trial may begin: all that were begun, and it, could then be brought to their end."""
    if plan.study.trials is not None:
        started = sum(t.state != TrialState.WAITING or EPOCHS in t.user_attrs for t in trials)
        if started >= plan.study.trials:
            return False
    if plan.budget is None:
        return True
    spent = sum(t.user_attrs.get(EPOCHS, 0) for t in trials)
    open_ = [t for t in trials if t.state not in DONE and (t.state == TrialState.RUNNING or EPOCHS in t.user_attrs)]
    reserved = sum(plan.optimisation.epochs - len(t.intermediate_values) for t in open_)

    return spent + reserved + plan.optimisation.epochs <= plan.budget


def work(
    plan: Plan,
    study: optuna.Study,
    storage: BaseStorage,
    worker: Worker,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Works on a study until there is nothing left to begin, and others have ended what they have.

    Args:
        plan: The study's.
        study: It.
        storage: Where it is kept.
        worker: Who works.
        say: Told of each trial that has ended, in a line.

    Returns:
        How many trials this worker brought to an end.

    Raises:
        Interrupted: Where the user asked for a stop; the trial goes on from there later.
    """
    prepared = store.read(plan.root / "data/prepared" / plan.study.dataset)
    torch.set_num_threads(plan.params.threads)
    ended = 0
    while True:
        taken = take(plan, study, storage, worker)
        if taken is False:
            return ended
        if taken is True:
            time.sleep(WAIT_SECONDS)
            continue
        assert isinstance(taken, Trial)
        try:
            with quiet():
                done = attempt(plan, study, storage, worker, taken, prepared)
        except BaseException:
            worker.release(storage, study, taken)
            raise
        if done:
            ended += 1
            say(line(study.get_trials(deepcopy=False)[taken.number]))


def line(trial: FrozenTrial) -> str:
    """What has become of a trial."""
    values, known = ", ".join(f"{name} {value:.4g}" for name, value in trial.params.items()), trial.user_attrs
    mi = "" if known.get("mi") is None or trial.state != TrialState.COMPLETE else f", MI {known['mi']:.2f}"
    became = {
        TrialState.COMPLETE: f"NLL {trial.value:.3f}{mi}" if trial.value is not None else "",
        TrialState.PRUNED: f"ended early: {known.get('why')}",
        TrialState.FAIL: f"failed: {known.get('why')}",
    }[trial.state]

    return f"trial {trial.number} ({values}), {len(trial.intermediate_values)} epochs: {became}"


# ---------------------------------------------------------------------------------- one trial


class Pruned(Exception):
    """A training is ended early; the text says why."""


class Lost(Exception):
    """Another worker has the trial now."""


class Watch(TrainingBar):
    """What a trial's training tells the study, and what the study says to it.

    Args:
        plan: The study's.
        study: It.
        worker: Who trains.
        trial: Which.
        run: Shows it in MLflow.
    """

    def __init__(self, plan: Plan, study: optuna.Study, worker: Worker, trial: Trial, run: TrialRun) -> None:
        super().__init__(f"{plan.name}, trial {trial.number}", plan.optimisation.epochs)
        self.plan, self.study, self.worker, self.trial, self.run = plan, study, worker, trial, run
        self.mi = mi(trial.user_attrs)[: self.reported]
        self.last = time.monotonic()

    @property
    def reported(self) -> int:
        """The epochs that the study knows of."""
        return len(self.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values)

    def beat(self) -> None:
        """A sign of life, once in a while."""
        if time.monotonic() - self.last > BEAT_SECONDS:
            self.worker.beat(self.trial)
            self.last = time.monotonic()

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        self.beat()

        return super().step(epoch, batch, batches)

    def epoch(self, row: Row) -> None:
        super().epoch(row)
        if not self.worker.has(self.study, self.trial):
            raise Lost
        self.trial.set_user_attr(EPOCHS, self.trial.user_attrs.get(EPOCHS, 0) + 1)
        if self.trial.user_attrs.get(ATTEMPTS):
            self.trial.set_user_attr(ATTEMPTS, 0)
        self.report(row)
        if why := self.verdict():
            raise Pruned(why)

    def report(self, row: Row) -> None:
        """Tells the study of an epoch that it does not know: MI first, so that no loss ever stands without it."""
        epoch, found = int(row["epoch"] or 0), row["valid_mi"]
        if epoch <= self.reported:
            return
        if self.plan.study.min_mi is not None:
            if found is None:
                raise UserError(
                    f"studies.{self.plan.name}.min_mi: the posterior of {self.plan.system} has no known mutual"
                    " information. Leave min_mi out."
                )
            self.mi = [*self.mi[: epoch - 1], round(found, 4)]
            self.trial.set_user_attr(MI, self.mi)
        self.trial.report(float(row["valid_loss"] or 0.0), epoch)
        self.run.epoch(row)

    def verdict(self) -> str | None:
        """Why the training should end here, or None."""
        pruner = self.study.pruner
        assert isinstance(pruner, WarmPruner)

        return pruner.why(self.study, self.study.get_trials(deepcopy=False)[self.trial.number])


def attempt(
    plan: Plan, study: optuna.Study, storage: BaseStorage, worker: Worker, trial: Trial, prepared: store.Prepared
) -> bool:
    """Trains and measures a trial, from where it was left, and tells the study; returns whether that was possible."""
    dataset, setting = plan.params.dataset(plan.study.dataset), plan.params.setting(plan.study.setting)
    hyperparameters = plan.hyperparameters(trial.params)
    torch.manual_seed(plan.study.seed)
    description = model_files.Description(
        plan.system,
        hyperparameters,
        setting.parts.model_dump(),
        dataset.networks.model_dump(),
        len(prepared.vocabulary),
    )
    model, system = description.build()
    device = model_files.device()
    checkpoint = Checkpoint(state(plan, study, trial.number), plan.params.checkpoint_seconds)
    tags = {"dataset": plan.study.dataset, "system": plan.system, "seed": str(plan.study.seed)}
    parent = str(study.user_attrs[PARENT])
    with TrialRun(study.study_name, parent, trial.number, tags, hyperparameters, home(plan.root)) as run:
        watch = Watch(plan, study, worker, trial, run)
        try:
            with watch:
                job = reuse.made(plan.params, plan.study, description, device, home(plan.root))
                snapshot = checkpoint.latest()
                for row in snapshot.values["state"]["history"] if snapshot else []:
                    watch.report(row)  # those of a machine that did not get to it
                if job is not None:
                    model = share(plan, job, watch).to(device)
                elif why := watch.verdict():
                    raise Pruned(why)
                else:
                    outcome = Training(
                        model,
                        system.schedule,
                        system.loop(),
                        prepared.split("train"),
                        prepared.split("valid"),
                        plan.optimisation,
                        plan.params.evaluation,
                        plan.study.seed,
                        device,
                        watch,
                        checkpoint,
                    ).run()
                    if outcome.warmup_ended:  # a training that goes on at its very end has not started it again
                        model.start()
            found = measure(plan, model, prepared, device, watch)
        except Pruned as pruned:
            run.end("pruned", {})
            trial.set_user_attr("why", str(pruned))
            _constrain(plan, trial, watch.mi[-1] if watch.mi else None)
            study.tell(trial, state=TrialState.PRUNED)
        except Lost:
            return False
        except UserError as error:
            if not str(error).startswith("training stopped"):  # not these hyperparameters' fault
                raise
            run.end("failed", {})
            fail(storage, study, trial.number, str(error))
        else:
            if not worker.has(study, trial):
                return False
            run.end("complete", found)
            for name, value in found.items():
                trial.set_user_attr(name, value)
            _constrain(plan, trial, found["mi"])
            study.tell(trial, found["nll"])
    checkpoint.remove()

    return True


def share(plan: Plan, job: Job, watch: Watch) -> VAE:
    """The model that the graph has trained; its history is the trial's, and costs no epoch."""
    root = home(plan.root)
    for row in csv(root / "results" / job.folder / "history.csv"):
        watch.report(row)
    watch.trial.set_user_attr(SHARED, job.name)

    return model_files.load(root / "models" / job.folder)[0]


def csv(path: Path) -> list[Row]:
    """The rows of a history, with None for what is not known."""
    frame = pd.read_csv(path)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")

    return [{str(key): value for key, value in row.items()} for row in rows]


def _constrain(plan: Plan, trial: Trial, value: float | None) -> None:
    """What TPE and the study's best trial go by: at most 0 where the mutual information is what is asked for."""
    if plan.study.min_mi is not None and value is not None:
        trial.set_constraint(MI, plan.study.min_mi - value)


def measure(plan: Plan, model: Any, prepared: store.Prepared, device: torch.device, watch: Watch) -> dict[str, Any]:
    """What a trained model is on validation: NLL with its standard error over sentences, KL, MI, AU."""
    valid, evaluation = prepared.split("valid"), plan.params.evaluation
    encoded = encode(model, valid, device, evaluation.seed)
    if not encoded.density:
        raise UserError(f"studies.{plan.name}: {plan.system} has no likelihood to search by.")
    wanted = plan.params.dataset(plan.study.dataset).nll_examples
    if wanted is not None and wanted < len(valid):  # the same ones in every trial
        valid = valid.only(np.sort(np.random.default_rng(evaluation.seed).choice(len(valid), wanted, replace=False)))
    with Bar(f"{plan.name}, trial {watch.trial.number}: NLL", len(valid)) as bar:

        def progress(done: int) -> None:
            bar.done(done)
            watch.beat()

        nll = importance_weighted_nll(model, valid, plan.samples, device, evaluation.seed, progress)

    return {
        "nll": float(nll.mean()),
        "nll_stderr": standard_error(nll),
        "loss": float(np.mean(encoded.reconstruction + encoded.kl, dtype=np.float64)),
        **measures(encoded, evaluation.active_threshold),
    }


def state(plan: Plan, study: optuna.Study, number: int) -> Path:
    """Where the state of a trial's training is kept."""
    return plan.root / "checkpoints" / "studies" / f"{study.study_name}-{number}.safetensors"


def tidy(plan: Plan, study: optuna.Study) -> None:
    """Removes the states that a kill between a trial's end and their removal has left."""
    for trial in study.get_trials(deepcopy=False, states=DONE):
        state(plan, study, trial.number).unlink(missing_ok=True)
