"""The stage `evaluate`: measures a trained model on the test set."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from duvae import devices
from duvae.config import Exact, Params, SyntheticDataset
from duvae.data import store
from duvae.data.splits import Array, Split, unseen
from duvae.inference import model_files
from duvae.metrics.decoder_use import decoder_use, use_measures
from duvae.metrics.dimensions import dimension_measures
from duvae.metrics.encoding import Encoded, encode
from duvae.metrics.exact import LATENT, bias_curve, exact_measures, exact_nll
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll, nll_indices, perplexity, unseen_measures
from duvae.metrics.statistics import standard_error
from duvae.metrics.transformed import transformed_measures
from duvae.project import array_files
from duvae.project.files import write_json
from duvae.project.progress import Bar
from duvae.project.provenance import Stopwatch
from duvae.vae import VAE

DRAWN_LATENT = 2
"""Number of dimensions that a latent space must have so that the pages can draw it."""


def run(params: Params, dataset: str, setting: str, seed: int, root: Path = Path()) -> None:
    """Measures NLL, KL, MI, AU, MPD and CE of a trained model; docs/metrics.md defines these metrics.

    MPD is the mutual posterior diversity, and CE is the conditional entropy. For a flow, the command also measures MPD
    and CE of the flow's output z^T. The NLL is measured on all test examples, or on a random choice of them if
    `nll_examples` in params.yaml limits their number. The other five metrics use all test examples. The command also
    measures how much the decoder uses z (see `duvae.metrics.decoder_use`). If z has two dimensions and params.yaml has
    a quadrature for the data set, the command computes the exact NLL of the first test sentences (see
    `duvae.metrics.exact`).

    The command writes `metrics.json`, `per_example.json` and `evaluate.run.json` to the folder
    `results/<dataset>/<setting>/<seed>`. `evaluate.run.json` holds the code, the machine and the time of this run.
    `per_example.json` holds these arrays, in which `measured` is the number of examples with a measured NLL:

    - `nll`: NLL in nats of each measured test example, shape (measured,); missing if the posterior has no density;
    - `steps`: index of each measured test example minus the index of the previous one, shape (measured,); the first
      value is the first index itself;
    - `unseen`: 1 if the measured test example does not stand in the training set, otherwise 0, shape (measured,);
    - `use`: use of z by the decoder in nats, of each test example whose length another test example has, shape
      (paired,); missing if there is no such example;
    - `use_steps`: indices of these examples in the form of `steps`, shape (paired,);
    - `exact`: exact NLL in nats of each of the first test sentences, shape (sentences,); only for synthetic data, and
      only if z has two dimensions and the posterior has a density;
    - `label`, `mean`: label and posterior mean of every test example; only for two-dimensional latent spaces;
    - `variance`: posterior variances of every test example; only for two-dimensional latent spaces, and only if the
      posterior is Gaussian.

    Args:
        params: All parameters of params.yaml.
        dataset: Name of the data set.
        setting: Name of the setting, which is a system with its hyperparameters.
        seed: Seed of the training.
        root: Folder of the project.
    """
    watch = Stopwatch("evaluate", params.setting(setting).system)
    job, evaluation = params.job(dataset, setting, seed), params.evaluation
    train = f"duvae train --dataset {dataset} --setting {setting} --seed {seed}"
    results = root / "results" / job.folder
    prepared = store.read(root / "data/prepared" / dataset)
    model, description = model_files.load(
        root / "models" / job.folder, train, params.setting(setting).system, len(prepared.vocabulary)
    )
    weights = model_files.digest(model)
    test = prepared.split("test")
    torch.set_num_threads(params.threads)
    device = model_files.device(params.precision.evaluation)
    model.to(device)
    encoded = encode(model, test, device, evaluation.seed)
    density = encoded.density
    indices = nll_indices(len(test), params.dataset(dataset).nll_examples, evaluation.seed)
    part = test if len(indices) == len(test) else test.only(indices)
    new = unseen(part, prepared.split("train"))
    nll = np.full(len(part), np.nan)
    if density:
        with Bar(f"{job.name}: NLL", len(part)) as bar:
            nll = importance_weighted_nll(model, part, evaluation.importance_samples, device, evaluation.seed, bar.done)

    with Bar(f"{job.name}: use of z", len(test)) as bar:
        use = decoder_use(model, test, encoded, device, evaluation.seed, bar.done)
    paired = np.flatnonzero(~np.isnan(use))
    integrated: dict[str, Any] | None = None
    exact = np.empty(0)
    quadrature = _quadrature(params, dataset)
    if density and quadrature is not None and encoded.mean.shape[1] == LATENT:
        count = min(quadrature.sentences, len(test))
        known = nll[:count] if len(part) == len(test) else None
        integrated, exact = _exact(job.name, model, test, encoded, known, quadrature, params, seed, device)

    def if_density(value: float | None) -> float | None:
        return value if density else None

    metrics = {
        "dataset": dataset,
        "setting": setting,
        "system": description.system,
        "seed": seed,
        "weights": weights,
        "hyperparameters": description.hyperparameters,
        "sentences": len(test),
        "importance_samples": evaluation.importance_samples,
        "nll": if_density(float(nll.mean())),
        "nll_stderr": if_density(standard_error(nll)),
        "nll_examples": len(part),
        "perplexity": if_density(perplexity(nll, part)),
        **unseen_measures(nll, new),
        "reconstruction": float(encoded.reconstruction.mean(dtype=np.float64)),
        **measures(encoded, evaluation.active_threshold),
        **dimension_measures(model, test, encoded, device, evaluation.seed),
        **transformed_measures(model, test, device, evaluation.seed),
        **use_measures(use),
        "exact": integrated,
        **(description.training or {}),
    }
    arrays: dict[str, Array] = {"steps": _steps(indices), "unseen": new.astype(np.uint8)}
    if len(paired):
        arrays |= {"use": use[paired].astype(np.float32), "use_steps": _steps(paired)}
    if density:
        arrays["nll"] = nll.astype(np.float32)
    if integrated is not None:
        arrays["exact"] = exact.astype(np.float32)
    if encoded.mean.shape[1] == DRAWN_LATENT:
        arrays |= {"label": test.labels.astype(np.int32), "mean": encoded.mean.astype(np.float32)}
        if encoded.variance is not None:
            arrays["variance"] = encoded.variance.astype(np.float32)
    documents = {name: len(split) for name, split in prepared.splits.items()}
    head = {"dataset": dataset, "setting": setting, "seed": seed, "weights": weights, "documents": documents}
    array_files.write(results / "per_example.json", head, arrays)
    write_json(results / "metrics.json", metrics)
    outputs = [results / "metrics.json", results / "per_example.json"]
    watch.write(
        results / "evaluate.run.json",
        outputs,
        weights=weights,
        device=str(device),
        precision=devices.used(device, params.precision.evaluation),
        threads=params.threads,
    )


def _quadrature(params: Params, dataset: str) -> Exact | None:
    """Parameters of the exact NLL on a data set; None: params.yaml asks for none."""
    return params.exact if isinstance(params.dataset(dataset), SyntheticDataset) else None


def _exact(
    name: str,
    model: VAE,
    test: Split,
    encoded: Encoded,
    known: Array | None,
    quadrature: Exact,
    params: Params,
    seed: int,
    device: torch.device,
) -> tuple[dict[str, Any], Array]:
    """Computes the exact NLL of the first test examples, and the bias of their importance-weighted NLL.

    Args:
        name: Name of the job, for the progress bars.
        model: Trained model with a two-dimensional z.
        test: Split of the test examples on which the model is measured.
        encoded: Result of `encode` for the test examples.
        known: Importance-weighted NLL of the first test examples in nats; None: it is not known, and is computed.
        quadrature: Parameters of the exact NLL.
        params: All parameters of params.yaml.
        seed: Seed of the training.
        device: Device to compute on.

    Returns:
        The value of `exact` in metrics.json, and the exact NLL of each of these examples, shape (sentences,).
    """
    count, evaluation = min(quadrature.sentences, len(test)), params.evaluation
    first = test.only(np.arange(count))
    codes = np.stack([encoded.mean[:count], encoded.z[:count]], 1)
    with Bar(f"{name}: exact NLL", count) as bar:
        nll, twice = exact_nll(model, first, codes, quadrature.spacing, quadrature.halfwidth, device, bar.done)
    if known is None:
        known = importance_weighted_nll(model, first, evaluation.importance_samples, device, evaluation.seed)
    measured: dict[str, Any] = dict(exact_measures(nll, twice, known))
    if seed in quadrature.seeds and quadrature.samples:
        with Bar(f"{name}: bias of the NLL", count * sum(quadrature.samples)) as bar:
            measured["curve"] = bias_curve(model, first, nll, quadrature.samples, device, evaluation.seed, bar.done)

    return measured, nll


def _steps(indices: Array) -> Array:
    """Differences of ascending indices, shape (indices,). The first value is the first index itself."""
    return np.diff(indices, prepend=0).astype(np.int32)
