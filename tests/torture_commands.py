"""Kills `duvae track` while it creates MLflow's store, and two `duvae search` that work on one study.

After the kills the same commands must succeed, and the store and the study must be those of an undisturbed run.
"""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import TrialState

import forked
import tiny
from duvae import config
from duvae.commands import evaluate, probe, train
from duvae.data import store
from duvae.data.synthetic import prepared_synthetic
from duvae.search.storage import Worker, open_storage
from duvae.tracking.trial_runs import TRIAL

SETTINGS = ("vae", "du_vae")

GRID = {"dataset": "synthetic", "setting": "du_vae", "seeds": [1], "sampler": "grid", "min_mi": 0.001}
STUDIES = {
    "grid": {**GRID, "values": {"gamma": [0.5, 1.0], "p": [0.3, 0.7]}},
    # The first trials of TPE are spread evenly and depend on the seed alone. So two processes draw the same ones.
    "tpe": {**GRID, "sampler": "tpe", "trials": 4, "startup": 4, "values": {"gamma": [0.5, 1.0], "p": [0.3, 0.7]}},
}


def create(folder: Path) -> Path:
    """Creates a project with the results of two small trainings and with two small studies, and without a store."""
    raw = tiny.small()
    del raw["datasets"]["own"], raw["datasets"]["pictures"]
    raw["datasets"]["synthetic"]["optimisation"].update(epochs=2)
    raw["run"].update(datasets=["synthetic"], settings=list(SETTINGS))
    raw |= {"studies": STUDIES, "checkpoint_seconds": 0.0}
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    params = config.load(folder / "params.yaml")
    source = params.datasets["synthetic"].source
    assert isinstance(source, config.SyntheticSource)
    store.write(folder / "data/prepared/synthetic", *prepared_synthetic(source))
    (folder / "data/validated").mkdir()
    (folder / "data/validated/synthetic.json").write_text("{}", encoding="utf-8")
    for setting in SETTINGS:
        for stage in (train, evaluate, probe):
            stage.run(params, "synthetic", setting, 1, folder)

    return folder


def check(actual: Any, expected: Any, message: str) -> None:
    """Ends the program if two values differ."""
    if actual != expected:
        raise SystemExit(f"{message}\nexpected {expected}\nfound    {actual}")


# ---------------------------------------------------------------------------------- MLflow's store


def runs(folder: Path) -> list[tuple[Any, ...]]:
    """Reads the active runs of a project's store, in order.

    Returns:
        For each run: experiment, name, status, parameters, metrics with their steps, and names of the files.
    """
    found = []
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "SELECT run_uuid, runs.name, status, artifact_uri, experiments.name FROM runs"
        query += " JOIN experiments USING (experiment_id) WHERE runs.lifecycle_stage = 'active'"
        for run, name, status, files, experiment in database.execute(query).fetchall():
            parameters = database.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run]).fetchall()
            metrics = database.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", [run]).fetchall()
            place = Path(files.removeprefix("file://"))
            names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
            found.append((experiment, name, status, sorted(parameters), sorted(metrics), names))

    return sorted(found)


def models(folder: Path) -> list[tuple[Any, ...]]:
    """Reads the active logged models, the versions of registered models and the aliases of a project's store, in order.

    Returns:
        For each logged model: its name, its status and the names of its files. For each version: the name of its run.
        For each alias: the name of the run of its version.
    """
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "SELECT name, status, artifact_location FROM logged_models WHERE lifecycle_stage = 'active'"
        logged = [
            ("model", name, str(status), *sorted(p.name for p in Path(place.removeprefix("file://")).rglob("*")))
            for name, status, place in database.execute(query).fetchall()
        ]
        versions = database.execute(
            "SELECT 'version', model_versions.name, runs.name FROM model_versions JOIN runs ON run_uuid = run_id"
        ).fetchall()
        aliases = database.execute(
            "SELECT 'alias', alias, runs.name FROM registered_model_aliases"
            " JOIN model_versions USING (name, version) JOIN runs ON run_uuid = run_id"
        ).fetchall()

    return sorted([*logged, *versions, *aliases])


class Tracking:
    """Rounds in which `duvae track` is killed while it creates MLflow's store and fills it.

    Args:
        project: The project, whose folder has no store.
        place: Folder for copies of the project.
    """

    def __init__(self, project: Path, place: Path) -> None:
        self.project, self.place = project, place
        folder = shutil.copytree(project, place / "undisturbed-store")
        command = forked.Command(folder, "track")
        self.creation = command.wait_for(folder / "mlflow.db")
        command.succeed()
        self.expected, self.models = runs(folder), models(folder)
        # Each setting has a run of one seed and a run of its own; each model has a version, and its setting an alias.
        check(len(self.expected), 2 * len(SETTINGS), "the undisturbed store has the wrong number of runs")
        check(len(self.models) - 3 * len(SETTINGS) in (0, 1), True, "the undisturbed store has the wrong models")

    def round(self, seed: int) -> str:
        """Kills one command alone, and then one or both of two, each time on a project without a store."""
        moments, killed, half_made = random.Random(seed), 0, 0
        for how in ("one", "both" if seed % 2 else "one of two"):
            folder = shutil.copytree(self.project, self.place / f"store-{seed}-{how.replace(' ', '-')}")
            # A few kills come after the creation, while the command writes the first run.
            first, second = (moments.uniform(0.0, 1.3 * self.creation) for _ in range(2))
            command = forked.Command(folder, "track")
            if how == "one":
                killed += command.kill_at(first)
            else:
                other = forked.Command(folder, "track")
                killed += forked.kill_pair(command, other, (first, second if how == "both" else None))
            half_made += bool(list(folder.glob(".mlflow.db.*")))
            for again in [forked.Command(folder, "track") for _ in range(2 if how == "both" else 1)]:
                again.succeed()
            check(runs(folder), self.expected, f"seed {seed}, {how}: the store differs from an undisturbed one")
            check(models(folder), self.models, f"seed {seed}, {how}: the models differ from undisturbed ones")
            shutil.rmtree(folder)

        return f"store: {killed} kills, {half_made} during the creation; {len(self.expected)} runs, each once"


# ---------------------------------------------------------------------------------- two searches


class Searching:
    """Rounds in which two `duvae search` work on one study and are killed.

    Args:
        project: The project, whose folder has no study.
        place: Folder for copies of the project.
    """

    def __init__(self, project: Path, place: Path) -> None:
        self.place, self.seconds, self.expected = place, dict[str, float](), dict[str, pd.DataFrame]()
        self.project = shutil.copytree(project, place / "searched")
        forked.Command(self.project, "track").succeed()
        folder = shutil.copytree(self.project, place / "undisturbed-search")
        for name in STUDIES:
            self.seconds[name] = forked.Command(folder, "search", "--study", name).succeed()
            self.expected[name] = table(folder, name)
            check(len(self.expected[name]), 4, f"the undisturbed study {name} has the wrong number of trials")

    def round(self, seed: int) -> str:
        """Kills both searches, then one of them, then both again, and lets two searches end the study."""
        moments, killed, lost = random.Random(seed), 0, 0
        name = list(STUDIES)[seed % 2]
        folder = shutil.copytree(self.project, self.place / f"search-{seed}")
        for how in ("both", "both", "one"):
            pair = [forked.Command(folder, "search", "--study", name) for _ in range(2)]
            first, second = (moments.uniform(0.0, self.seconds[name]) for _ in range(2))
            killed += forked.kill_pair(*pair, (first, None if how == "one" else second))
            if how == "both":
                lost += self.recovered(folder, f"seed {seed}")
        for command in [forked.Command(folder, "search", "--study", name) for _ in range(2)]:
            command.succeed()
        self.verify(folder, name, killed, f"seed {seed}, study {name}")
        shutil.rmtree(folder)

        return f"two searches: {killed} kills, {lost} trials resumed; {len(self.expected[name])} trials, each once"

    def recovered(self, folder: Path, where: str) -> int:
        """Looks for trials as the next process does; returns the number of trials of dead processes.

        All running trials belong to dead processes. They must go back into the queue under their numbers.
        """
        storage = open_storage(None, folder)
        summaries = storage.get_all_studies()
        if not summaries:  # both were killed before they created the study
            return 0
        study = optuna.load_study(study_name=summaries[0].study_name, storage=storage)
        with Worker(folder) as worker:
            running = [trial.number for trial in study.trials if trial.state == TrialState.RUNNING]
            with worker.guard:
                check(worker.recover(storage, study), running, f"{where}: not all lost trials were found")
            states = {study.trials[number].state for number in running}
            check(states <= {TrialState.WAITING}, True, f"{where}: lost trials do not wait: {states}")

        return len(running)

    def verify(self, folder: Path, name: str, kills: int, where: str) -> None:
        """Compares a study with the undisturbed one, and looks for anything that is left."""
        actual, expected = table(folder, name), self.expected[name]
        same = actual.drop(columns="trained").equals(expected.drop(columns="trained"))
        check(same, True, f"{where}: the trials differ:\n{actual}\nexpected:\n{expected}")
        again = actual["trained"] - actual["epochs"]  # an epoch at whose end a process was killed counts again
        check(bool((again >= 0).all() and again.sum() <= kills), True, f"{where}: epochs trained twice: {list(again)}")
        left = [*(folder / "checkpoints/studies").iterdir(), *(folder / "studies").glob("worker-*.lock")]
        check(left, [], f"{where}: files were left")
        with closing(sqlite3.connect(folder / "mlflow.db")) as database:
            query = "SELECT value, status FROM runs JOIN tags USING (run_uuid)"
            query += f" WHERE lifecycle_stage = 'active' AND key = '{TRIAL}'"
            shown = sorted(database.execute(query).fetchall())
        numbers = ["", *map(str, actual["trial"])]
        check(shown, [(number, "FINISHED") for number in numbers], f"{where}: runs in MLflow")


def table(folder: Path, name: str) -> pd.DataFrame:
    """Reads the trials of a study."""
    return pd.read_csv(folder / f"results/studies/{name}/trials.csv")
