"""Writes a project with many settings, seeds and results, for the benchmark of `benchmarks.scale`.

A setting is a system, such as DU-VAE, with hyperparameters. Each result is a copy of a result that git keeps, with
small random changes. So its files have the sizes and the content of real results, and no model has to be trained.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from duvae import config
from duvae.config import Job, Params
from duvae.inference import model_files, sample_files
from duvae.inference.model_files import Description
from duvae.inference.sample_files import Samples
from duvae.project import array_files, job_list, provenance
from duvae.project.files import as_json, file_digest
from duvae.report import per_example

ROOT = Path(__file__).parents[1]
DATASET = "synthetic"
SYSTEMS = ("bn_vae", "du_vae", "agg_vae", "vae")
"""The systems whose settings and results are copied, in turns. Git keeps one result of each system."""
SENTENCES = 3
"""Number of distinct sentences in the samples of a setting."""


def write_params(folder: Path, settings: int, seeds: int) -> Params:
    """Writes params.yaml and the list of jobs for many settings on the synthetic data.

    Args:
        folder: Folder of the project.
        settings: Number of settings.
        seeds: Number of seeds of each setting.

    Returns:
        The parameters.
    """
    raw: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    known = raw["settings"]
    raw["settings"] = {
        **{name: known[name] for name in known},
        **{name: varied(known[system], number) for number, (name, system) in enumerate(names(settings))},
    }
    run = [name for name, _ in names(settings)]
    raw["run"] = {"datasets": [DATASET], "settings": run, "seeds": list(range(1, seeds + 1)), "studies": []}
    write(folder / "params.yaml", yaml.safe_dump(raw, sort_keys=False))
    params = config.load(folder / "params.yaml")
    job_list.write(params, folder / job_list.JOBS)

    return params


def names(settings: int) -> list[tuple[str, str]]:
    """Names the settings; returns pairs of a name and a system."""
    systems = [SYSTEMS[number % len(SYSTEMS)] for number in range(settings)]

    return [(f"{system}_{number:04d}", system) for number, system in enumerate(systems)]


def varied(setting: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Copies a setting, and changes its γ if it has one, so that the settings of a system differ."""
    values = dict(setting["columns"][DATASET])
    if "gamma" in values:
        values["gamma"] = round(0.5 + number / 1000, 3)

    return {**setting, "columns": {DATASET: values}}


def write_results(folder: Path, params: Params, jobs: Iterable[Job]) -> None:
    """Writes the results, the models and the samples of jobs that have none; a job is a data set, a setting and a seed.

    All models of one system have the same weights, at the real size. The files of the weights are links to one file.

    Args:
        folder: Folder of the project.
        params: The parameters that `write_params` returned for this folder.
        jobs: The jobs.
    """
    for name in ("truth.json", "per_example.json"):
        write(folder / "results" / DATASET / name, (ROOT / "results" / DATASET / name).read_text(encoding="utf-8"))
    words = [f"w{number}" for number in range(params.dataset(DATASET).source.words + 4)]  # type: ignore[union-attr]
    write(folder / "data" / "prepared" / DATASET / "vocabulary.txt", "\n".join(words) + "\n")
    weights = {system: write_model(folder, params, system, len(words)) for system in SYSTEMS}
    for number, job in enumerate(jobs):
        system = params.setting(job.setting).system
        if (folder / "results" / job.folder).exists():
            continue
        write_result(folder, params, job, weights[system], number)
        if job.seed == 1:
            write_samples(folder, params, job, weights[system], words, number)


def write_model(folder: Path, params: Params, system: str, words: int) -> str:
    """Writes a model with random weights to `models/<system>`, if there is none; returns the digest of the weights."""
    description = Description(
        system,
        params.hyperparameters(system, DATASET).model_dump(),
        params.setting(system).parts.model_dump(),
        params.dataset(DATASET).networks.model_dump(),
        words,
        {"epochs": 50, "best_epoch": 50, "warmup_ended": True, "stopped": "after 50 epochs"},
    )
    torch.manual_seed(1)
    model, _ = description.build()
    target = folder / "models" / system
    if not target.exists():
        target.mkdir(parents=True)
        model_files.save(target, model, description)

    return model_files.digest(model)


def write_result(folder: Path, params: Params, job: Job, weights: str, number: int) -> None:
    """Writes the files of one result.

    Args:
        folder: Folder of the project.
        params: The parameters that `write_params` returned for this folder.
        job: The data set, the setting and the seed.
        weights: Digest of the weights of the model.
        number: Seed of the random changes.
    """
    random, system = np.random.default_rng(number), params.setting(job.setting).system
    source, target = ROOT / "results" / DATASET / system / "1", folder / "results" / job.folder
    model = folder / "models" / job.folder
    model.mkdir(parents=True, exist_ok=True)
    os.link(folder / "models" / system / "weights.safetensors", model / "weights.safetensors")
    own = {"hyperparameters": params.hyperparameters(job.setting, DATASET).model_dump()}
    write(model / "model.json", as_json(content(folder / "models" / system / "model.json") | own))

    def shaken(value: float) -> float:
        return float(value * (1 + 0.02 * random.standard_normal()))

    history = pd.read_csv(source / "history.csv")
    real = history.columns[history.columns.str.match("train_|valid_") & (history.columns != "valid_au")]
    history[real] *= 1 + 0.02 * random.standard_normal((len(history), len(real)))
    write(target / "history.csv", history.to_csv(index=False))
    about = {"setting": job.setting, "seed": job.seed, "weights": weights}
    write(target / "metrics.json", as_json({**changed(content(source / "metrics.json"), shaken), **about, **own}))
    write(target / "probe.json", as_json({**changed(content(source / "probe.json"), shaken), **about}))
    described, arrays = array_files.read(source / per_example.FILE, "duvae evaluate")
    arrays = {
        name: array * (1 + 0.02 * random.standard_normal(array.shape)).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in arrays.items()
    }
    array_files.write(target / per_example.FILE, {**described, **about}, arrays)
    outputs = {"train": ["history.csv"], "evaluate": ["metrics.json", per_example.FILE], "probe": ["probe.json"]}
    for stage, files in outputs.items():
        (record,) = content(source / f"{stage}.run.json")["record"]
        digests = {name: file_digest(target / name) for name in files}
        record |= {"weights": weights, "wall_seconds": shaken(record["wall_seconds"]), "outputs": digests}
        if stage == "train":
            record["parameters"] |= own
        record[provenance.DIGEST] = provenance.record_digest(record)
        write(target / f"{stage}.run.json", as_json({provenance.RECORD: [record]}))


def changed(value: Any, change: Callable[[float], float]) -> Any:
    """Applies a change to each number with a fraction in nested lists and dictionaries, also to optional ones."""
    if isinstance(value, dict):
        return {key: part if key == "hyperparameters" else changed(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [changed(part, change) for part in value]

    return change(value) if isinstance(value, float) else value


def write_samples(folder: Path, params: Params, job: Job, weights: str, words: list[str], number: int) -> None:
    """Writes the samples of a setting: as many as params.yaml names, of random words."""
    options, random = params.generation, np.random.default_rng(number)
    length = params.dataset(DATASET).source.length  # type: ignore[union-attr]

    def lines(count: int) -> list[str]:
        return [" ".join(random.choice(words, length)) for _ in range(count)]

    samples = Samples(
        are_images=False,
        columns=options.columns,
        prior={decoding: lines(options.rows) for decoding in ("drawn", "likeliest")},
        interpolations={
            decoding: [lines(options.steps) for _ in range(options.pairs)] for decoding in ("drawn", "likeliest")
        },
        test=lines(options.rows),
        endpoints=[lines(2) for _ in range(options.pairs)],
        weights=weights,
    )
    path = sample_files.file_path(job, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    sample_files.write(path, samples, apart=False)


def content(path: Path) -> Any:
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, text: str) -> None:
    """Writes a text file, and creates its folder. Unlike the commands, it does not wait for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
