"""The stage `evaluate`: a trained model on the test set."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from duvae import models
from duvae.config import Params
from duvae.data import store
from duvae.files import whole, write_json
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll, perplexity
from duvae.metrics.statistics import standard_error
from duvae.metrics.transformed import transformed_measures
from duvae.progress import Bar
from duvae.provenance import Stopwatch


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Measures NLL, KL, MI, AU, MPD and CE, of z^T too; writes them, and what is known of each test document.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        root: The project's folder.
    """
    watch = Stopwatch("evaluate")
    job, evaluation = params.job(dataset, setting, seed), params.evaluation
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    results = root / "results" / job.folder
    prepared = store.read(root / "data/prepared" / dataset)
    model, description = models.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    test = prepared.split("test")
    torch.set_num_threads(params.threads)
    device = models.device()
    model.to(device)
    encoded = encode(model, test, device, evaluation.seed)
    density = encoded.density
    nll = np.full(len(test), np.nan)
    if density:
        with Bar(f"{job.name}: NLL", len(test)) as bar:
            nll = importance_weighted_nll(model, test, evaluation.importance_samples, device, evaluation.seed, bar.done)

    def known(value: float) -> float | None:
        return value if density else None

    metrics = {
        "dataset": dataset,
        "setting": setting,
        "system": description.system,
        "seed": seed,
        "hyperparameters": description.hyperparameters,
        "sentences": len(test),
        "importance_samples": evaluation.importance_samples,
        "nll": known(float(nll.mean())),
        "nll_stderr": known(standard_error(nll)),
        "perplexity": known(perplexity(nll, test)),
        "reconstruction": float(encoded.reconstruction.mean(dtype=np.float64)),
        **measures(encoded, evaluation.active_threshold),
        **transformed_measures(model, test, device, evaluation.seed),
        **(description.training or {}),
    }
    frame = pd.DataFrame(
        {
            "sentence": np.arange(len(test)),
            "label": test.labels,
            "length": test.lengths - 1,
            "nll": nll,
            "reconstruction": encoded.reconstruction,
            "kl": encoded.kl if density else np.nan,
            **{f"mean_{d}": encoded.mean[:, d] for d in range(encoded.mean.shape[1])},
            **{
                f"variance_{d}": np.nan if encoded.variance is None else encoded.variance[:, d]
                for d in range(encoded.mean.shape[1])
            },
        }
    )
    with whole(root / "posteriors" / job.folder.with_suffix(".parquet")) as temporary:
        frame.to_parquet(temporary, index=False)
    write_json(results / "metrics.json", metrics)
    watch.write(results / "evaluate.run.json", device=str(device), threads=params.threads)
