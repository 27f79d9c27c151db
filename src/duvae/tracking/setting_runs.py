"""Writes one MLflow run per setting, the parent of the runs of its seeds, with their mean and spread."""

import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

PARENT = "mlflow.parentRunId"
"""Name of the tag with which MLflow puts a run below another."""

SETTING, CHILDREN = "duvae.setting", "duvae.children"
"""Names of two tags of the run of a setting: the setting's name, and a digest of the runs below it."""

TEST, WORK, SPREAD = "test/", "work/", "spread/"
"""Prefixes of metrics: of measures on the test set, of what a training took, and of standard deviations over the seeds.

A mean over the seeds has the name that the metric has in the runs of the seeds.
"""

FORM = "means of test and work"
"""What the runs of settings hold. Another text here makes `update` write the runs anew that older code has written."""

PARAMS_PER_BATCH = 100
"""Largest number of parameters that MLflow accepts in one call."""


def update(client: MlflowClient, experiment: str, parents: Iterable[Run], runs: Mapping[str, Run]) -> None:
    """Brings the runs of the settings up to date.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        parents: The runs of settings that the experiment has.
        runs: The runs of single seeds, by the key of the job.
    """
    known: dict[str, Run] = {}
    for parent in parents:
        if parent.data.tags[SETTING] in known:
            client.delete_run(parent.info.run_id)
        else:
            known[parent.data.tags[SETTING]] = parent
    of_setting = _by_setting(runs)
    for setting, children in of_setting.items():
        digest = _digest(children)
        old = known.pop(setting, None)
        if old is not None and old.data.tags.get(CHILDREN) == digest:
            parent = old
        else:
            parent = _write(client, experiment, setting, children, digest)
            if old is not None:
                client.delete_run(old.info.run_id)
        for child in children:
            if child.data.tags.get(PARENT) != parent.info.run_id:
                client.set_tag(child.info.run_id, PARENT, parent.info.run_id)
    for parent in known.values():
        client.delete_run(parent.info.run_id)


def is_current(parents: Sequence[Run], runs: Mapping[str, Run]) -> bool:
    """Whether each setting has its run, and each run of a seed is below the run of its setting.

    Args:
        parents: The runs of settings that the experiment has.
        runs: The runs of single seeds, by the key of the job.
    """
    of_setting = _by_setting(runs)
    known = {parent.data.tags[SETTING]: parent for parent in parents}

    return len(known) == len(parents) == len(of_setting) and all(
        setting in known
        and known[setting].data.tags.get(CHILDREN) == _digest(children)
        and all(child.data.tags.get(PARENT) == known[setting].info.run_id for child in children)
        for setting, children in of_setting.items()
    )


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """Computes the means over the seeds of measures on the test set and of the work, and the spread of the measures.

    Args:
        runs: The runs of the seeds of one setting.

    Returns:
        The means of the metrics that all runs have, and, for two seeds and more, the standard deviations of the
        measures on the test set.
    """
    found: dict[str, float] = {}
    for name in runs[0].data.metrics:
        if not name.startswith((TEST, WORK)) or any(name not in run.data.metrics for run in runs):
            continue
        values = [run.data.metrics[name] for run in runs]
        found[name] = statistics.fmean(values)
        if len(values) > 1 and name.startswith(TEST):
            found[SPREAD + name.removeprefix(TEST)] = statistics.stdev(values)

    return found


def _by_setting(runs: Mapping[str, Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs.values():
        found.setdefault(run.data.tags["setting"], []).append(run)

    return found


def _write(client: MlflowClient, experiment: str, setting: str, children: Sequence[Run], digest: str) -> Run:
    """Writes the run of a setting. The tag with the digest is written last."""
    first = children[0]
    start = min(int(run.info.start_time) for run in children)
    end = max(int(run.info.end_time or start) for run in children)
    seeds = sorted((run.data.tags["seed"] for run in children), key=int)
    note = (
        f"{setting} on {first.data.tags['dataset']}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}. "
        "test/… and work/… are means over the seeds"
        + (", spread/… standard deviations of test/…." if len(seeds) > 1 else "; one seed has no spread.")
    )
    tags = {
        SETTING: setting,
        **{name: first.data.tags[name] for name in ("dataset", "setting", "system")},
        "seeds": ", ".join(seeds),
        "mlflow.note.content": note,
    }
    run = client.create_run(experiment, start, tags, setting).info.run_id
    shared = [
        Param(key, value)
        for key, value in first.data.params.items()
        if key != "seed" and all(child.data.params.get(key) == value for child in children)
    ]
    for begin in range(0, len(shared), PARAMS_PER_BATCH):
        client.log_batch(run, params=shared[begin : begin + PARAMS_PER_BATCH])
    metrics: Mapping[str, float] = summary(children)
    client.log_batch(run, metrics=[Metric(key, value, end, 0) for key, value in metrics.items()])
    client.log_batch(run, tags=[RunTag(CHILDREN, digest)])
    client.set_terminated(run, "FINISHED", end)

    return client.get_run(run)


def _digest(children: Sequence[Run]) -> str:
    """Computes a digest of the runs of a setting. A run never changes; it is replaced by another with another id."""
    return hashlib.sha256("\n".join([FORM, *sorted(run.info.run_id for run in children)]).encode()).hexdigest()
