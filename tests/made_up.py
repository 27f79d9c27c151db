"""Writes made-up results of a whole project for tests. No model is trained.

The results are random but plausible numbers from a fixed seed. They stand in the same files that the pipeline's stages
write.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy
from pydantic import create_model

from duvae.config import APART, Frozen, ImageNetworks, Job, Params, Parts, Setting, SyntheticDataset, load
from duvae.data import store
from duvae.data.splits import END, PIXELS, SPECIALS, START, Documents, Images
from duvae.data.store import Prepared
from duvae.inference import model_files, sample_files
from duvae.project import array_files

COUNTS = {"train": 16000, "valid": 2000, "test": 300, "labelled_100": 100}
ROOT = Path(__file__).parents[1]
WORDS = [*SPECIALS, "plain", "words", "made", "up", "for", "tests"]
SIDE = 6
"""Height and width of images, in pixels."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"

ALL: dict[str, tuple[str, dict[str, float]]] = {
    "du_iaf": ("du_iaf", {"gamma": 0.6, "p": 0.7}),
    "iaf_bn": ("iaf_bn", {"gamma": 0.7}),
    "iaf_fb": ("iaf_fb", {"free_bits": 0.25}),
    "du_vae_06_08": ("du_vae", {"gamma": 0.6, "p": 0.8}),
    "du_vae": ("du_vae", {"gamma": 0.5, "p": 0.8}),
    "mae": ("mae", {"gamma": 2.0, "eta": 0.2}),
    "bn_vae": ("bn_vae", {"gamma": 0.6}),
    "bn_vae_fixed_beta_01": ("bn_vae_fixed_beta", {"gamma": 0.6, "beta": 0.1}),
    "bn_vae_fixed_beta_10": ("bn_vae_fixed_beta", {"gamma": 0.6, "beta": 1.0}),
    "delta_vae": ("delta_vae", {"delta": 0.1}),
    "fb": ("fb", {"free_bits": 0.1}),
    "agg_vae": ("agg_vae", {"window": 15}),
    "sa_vae": ("sa_vae", {"steps": 20}),
    "sa_vae_15_epochs": ("sa_vae", {"steps": 20}),
    "beta_vae": ("beta_vae", {"beta": 0.4}),
    "vae": ("vae", {}),
    "ae": ("ae", {}),
}
"""The made-up settings: the system and the hyperparameters of each.

Every system occurs, and some systems occur more than once. The order differs from the order of the report's tables.
"""

FLOWS = ("iaf_fb", "iaf_bn", "du_iaf")
"""Systems with a flow. Their results have no MI and no AU; they have measures of z^T, the flow's output, instead."""


def params(**changed: Any) -> Params:
    """Returns the parameters of params.yaml with a small `run`, the block that says which models are to be trained.

    Args:
        changed: Values that replace values of `run`. The default is the synthetic data set alone, with seed 1.
    """
    known = load(ROOT / "params.yaml")

    run = max(known.blocks(), key=lambda block: len(block.settings)).model_copy(
        update={"datasets": ["synthetic"], "seeds": [1], **changed}
    )

    return known.model_copy(update={"run": run, "figure1": known.figure1.model_copy(update={"seed": 1})})


def everything(
    datasets: Sequence[str] = ("synthetic", "short_yelp_resampled"), seeds: Sequence[int] = (1, 2)
) -> Params:
    """Returns parameters whose `run` has all settings in ALL. They do not depend on the settings in params.yaml."""
    known = params(datasets=list(datasets), settings=list(ALL), seeds=list(seeds))
    columns = dict.fromkeys(known.dataset(name).column for name in known.datasets)
    settings = {}
    for name, (system, values) in ALL.items():
        of = create_model(system, __base__=Frozen, **{key: (float, value) for key, value in values.items()})  # type: ignore[call-overload]
        settings[name] = Setting.model_construct(
            system=system, parts=Parts(init="paper"), optimisation={}, columns={column: of() for column in columns}
        )

    return known.model_copy(update={"settings": settings})


def project(root: Path, params: Params, jobs: Sequence[Job] | None = None, sentences: int = 300) -> Path:
    """Writes made-up results of jobs below `root`. A job is a data set, a setting and a seed of params.yaml.

    The posteriors of the system `vae` have collapsed. The codes of `ae` are spread out.

    Args:
        root: Folder of the made-up project.
        params: Parameters of the project.
        jobs: The jobs. None: all jobs of `params`.
        sentences: Number of test examples.
    """
    for job in params.jobs() if jobs is None else jobs:
        write(root, params, job, sentences)

    return root


def write(root: Path, params: Params, job: Job, sentences: int = 300) -> None:
    generator = np.random.default_rng([len(job.setting), sum(map(ord, job.setting)), job.seed])
    system = params.setting(job.setting).system
    latent = params.dataset(job.dataset).networks.latent
    images = isinstance(params.dataset(job.dataset).networks, ImageNetworks)
    labels, z = _truth(root, params, job.dataset, sentences)
    spread = {"ae": 2.2, "vae": 0.02, "agg_vae": 0.75, "bn_vae": 0.6, "du_vae": 0.55}.get(system, 0.5)
    variance = {"ae": np.nan, "vae": 1.0, "agg_vae": 0.25, "bn_vae": 0.4, "du_vae": 0.08}.get(system, 0.3)
    means = generator.normal(0, 0.1, (sentences, latent))
    means[:, :2] += spread * z @ _rotation(job.seed)
    variances = variance * np.exp(generator.normal(0, 0.1, (sentences, latent)))
    nll = 41.0 + generator.normal(0, 3.0, sentences) + (0.4 if system == "vae" else 0.1)
    kl = 0.5 * (means**2 + variances - np.log(variances) - 1).sum(axis=1)
    frame = pd.DataFrame({"sentence": range(sentences), "label": labels, "length": 11, "nll": nll})
    frame["reconstruction"], frame["kl"] = nll - 0.5 * kl, kl
    for d in range(latent):
        frame[f"mean_{d}"], frame[f"variance_{d}"] = means[:, d], variances[:, d]
    if system == "ae":
        frame["nll"] = np.nan
        frame["reconstruction"] = 38 + generator.normal(0, 3.0, sentences)
    kept = {"steps": np.diff(np.arange(sentences), prepend=0)}
    if system != "ae":
        kept["nll"] = nll.astype(np.float32)
    use = (0.0 if system == "vae" else 2.5 * spread) + generator.normal(0, 0.1, sentences)
    unseen = np.arange(sentences) % 3 > 0
    exact = nll[:200] - 0.02 * (1 + np.arange(min(200, sentences)) % 2)
    integrated = system != "ae" and isinstance(params.dataset(job.dataset), SyntheticDataset)
    if integrated:
        kept["exact"] = exact.astype(np.float32)
    kept |= {"unseen": unseen.astype(np.uint8), "use": use.astype(np.float32), "use_steps": kept["steps"]}
    if latent == 2:
        kept |= {"mean": means.astype(np.float32), "label": labels.astype(np.int32)}
        if system != "ae":
            kept["variance"] = variances.astype(np.float32)
    weights = digest(job)
    documents = {**COUNTS, "test": sentences}
    array_files.write(
        root / "results" / job.folder / "per_example.json", {"weights": weights, "documents": documents}, kept
    )

    history = _history(params, job, system, generator)
    folder = root / "results" / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    history.to_csv(folder / "history.csv", index=False)
    probabilistic, gaussian = system != "ae", system not in {"ae", *FLOWS}
    last = history.iloc[-1]
    _json(
        folder / "metrics.json",
        {
            "dataset": job.dataset,
            "setting": job.setting,
            "system": system,
            "seed": job.seed,
            "weights": weights,
            "hyperparameters": params.hyperparameters(job.setting, job.dataset).model_dump(),
            "sentences": sentences,
            "importance_samples": 500 if probabilistic else None,
            "nll": float(nll.mean()) if probabilistic else None,
            "nll_stderr": float(nll.std() / np.sqrt(sentences)) if probabilistic else None,
            "nll_examples": 100 if images else sentences,
            "perplexity": float(np.exp(nll.sum() / (11 * sentences))) if probabilistic else None,
            "reconstruction": float(frame["reconstruction"].mean()),
            "kl": float(kl.mean()) if probabilistic else None,
            "mi": float(last["valid_mi"]) if gaussian else None,
            "au": None if system in FLOWS else int((means.var(axis=0) > 0.01).sum()),
            "mpd": float(last["valid_mpd"]) if probabilistic else None,
            "ce": float(last["valid_ce"]) if probabilistic else None,
            "mpd_t": 7.25 + job.seed if system in FLOWS else None,
            "mpd_t_stderr": 0.125 if system in FLOWS else None,
            "ce_t": 1.5 - job.seed if system in FLOWS else None,
            "ce_t_stderr": 0.25 if system in FLOWS else None,
            "unseen": int(unseen.sum()),
            "nll_unseen": float(nll[unseen].mean()) if probabilistic else None,
            "nll_unseen_stderr": float(nll[unseen].std(ddof=1) / np.sqrt(unseen.sum())) if probabilistic else None,
            "use": float(use.mean()),
            "use_stderr": float(use.std(ddof=1) / np.sqrt(sentences)),
            "kl_by_dimension": (kl.mean() / latent * np.ones(latent)).tolist() if probabilistic else None,
            "exact": _exact(exact, nll[: len(exact)], job.seed) if integrated else None,
            "mean_variances": None if system in FLOWS else means.var(axis=0).tolist(),
            "epochs": len(history),
            "best_epoch": int(history.loc[history["best"] == 1, "epoch"].iloc[-1]),
            "warmup_ended": True,
            "stopped": f"after {len(history)} epochs"
            if system == "fb"
            else f"at the 5th decay, in epoch {len(history)}",
            "decays": 0 if system == "fb" else 5,
            "ending": "epochs" if system == "fb" else "decays",
        },
    )
    wanted = params.dataset(job.dataset).probe
    counts = wanted.labels or wanted.per_character or [100, 500, 1000, 2000, 10000]
    base = 21.0 if system == "vae" else 52.0 + 6 * spread
    repeats = 1 if wanted.subsets else 5
    draws = {
        n: [base + 4 * np.log10(n / 100) + float(generator.normal(0, 0.8)) for _ in range(repeats)] for n in counts
    }
    _json(
        folder / "probe.json",
        {
            "dataset": job.dataset,
            "setting": job.setting,
            "seed": job.seed,
            "weights": weights,
            "feature": "mean",
            "test": sentences,
            "largest_class": 21.3,
            "by_labels": {
                str(n): {"accuracy": float(np.mean(d)), "spread": float(np.std(d)) if len(d) > 1 else None, "draws": d}
                | ({"by_alphabet": {"Greek": d[0], "Latin": d[1]}} if images else {})
                for n, d in draws.items()
            },
        }
        | ({"alphabets": 2, "labels_are": "images a character"} if images else {}),
    )
    _generated(root, params, job, generator, system, weights)
    for stage, seconds in (("train", 180.0 + 20 * job.seed), ("evaluate", 21.0), ("probe", 6.0)):
        made = {
            "stage": stage,
            "commit": COMMIT,
            "dirty": False,
            "started": "2026-01-02T03:04:05+00:00",
            "wall_seconds": seconds,
            "cpu_seconds": seconds / 2,
            "peak_memory_mib": 512.0,
            "device": "cpu",
            "threads": 1,
            "weights": weights,
            "fingerprint": "0123456789abcdef",
            "versions": {"python": "3.11.2", "torch": "2.13.0+cpu", "duvae": "0.1.0", "numpy": "2.4.6"},
            "machine": {"processor": "A processor", "cores": 2, "system": "Linux x86_64"},
        }
        if stage == "train":
            made["seconds_per_epoch"] = [seconds / len(history)] * len(history)
            made["parameters"] = {
                "hyperparameters": params.hyperparameters(job.setting, job.dataset).model_dump(),
                "parts": params.setting(job.setting).parts.model_dump(),
                "networks": params.dataset(job.dataset).networks.model_dump(),
                "optimisation": params.optimisation(job.setting, job.dataset).model_dump(),
            }
        _json(folder / f"{stage}.run.json", {"record": [made]})
    model = root / "models" / job.folder
    model.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(_weights(job), model / "weights.safetensors")
    _json(model / "model.json", {"setting": job.setting})


def _exact(exact: Any, importance: Any, seed: int) -> dict[str, Any]:
    """The value of `exact` in metrics.json. Only the training with the seed 1 has a curve over numbers of samples."""
    bias, root = importance - exact, np.sqrt(len(exact))
    curve = [
        {"samples": k, "nll": float(exact.mean() + b), "bias": b, "bias_stderr": 0.1 * b}
        for k, b in ((1, 1.5), (10, 0.5), (500, 0.03), (5000, 0.004))
    ]

    return {
        "sentences": len(exact),
        "nll": float(exact.mean()),
        "nll_stderr": float(exact.std(ddof=1) / root),
        "coarse_difference": 1e-6,
        "importance_nll": float(importance.mean()),
        "bias": float(bias.mean()),
        "bias_stderr": float(bias.std(ddof=1) / root),
        **({"curve": curve} if seed == 1 else {}),
    }


def _truth(root: Path, params: Params, dataset: str, sentences: int) -> tuple[Any, Any]:
    """Draws the labels and the true z of the test examples, and writes the prepared data set.

    For a synthetic data set, it also writes the NLL under the true distribution, which no model can improve.
    """
    generator = np.random.default_rng(1)
    of = params.dataset(dataset)
    if not isinstance(of, SyntheticDataset):
        labels = generator.integers(0, 2, sentences)
        _prepared(root, dataset, labels, isinstance(of.networks, ImageNetworks))
        return labels, generator.normal(0, 1, (sentences, 2)) + 2.0 * labels[:, None]
    labels = generator.integers(0, len(of.source.means), sentences)
    z = np.asarray(of.source.means)[labels] + np.sqrt(of.source.variance) * generator.normal(0, 1, (sentences, 2))
    nll = 40.0 + generator.normal(0, 3.0, sentences)
    _prepared(root, dataset, labels, images=False, arrays={"test.z": z})
    if of.truth is None:
        return labels, z
    floor = nll[:200]
    array_files.write(
        root / "results" / dataset / "per_example.json",
        {"dataset": dataset},
        {"nll": floor.astype(np.float32), "z": z.astype(np.float32), "label": labels.astype(np.int32)},
    )
    _json(
        root / "results" / dataset / "truth.json",
        {
            "dataset": dataset,
            "sentences": 200,
            "nll": float(floor.mean()),
            "nll_stderr": float(floor.std() / np.sqrt(200)),
            "spacing": 0.05,
            "coarse_nll": float(floor.mean()) + 1e-6,
            "coarse_difference": 1e-6,
        },
    )

    return labels, z


def _history(params: Params, job: Job, system: str, generator: np.random.Generator) -> pd.DataFrame:
    optimisation = params.dataset(job.dataset).optimisation
    epochs = optimisation.epochs - (job.seed + len(system)) % 7
    epoch = np.arange(1, epochs + 1)
    weight = np.minimum(1, epoch / optimisation.warmup)
    scale = {"ae": 0.0, "vae": 0.03, "agg_vae": 1.0, "bn_vae": 0.8, "du_vae": 1.3}.get(system, 0.9)
    kl = scale * 1.6 * (1 - np.exp(-epoch / 6)) + (0.8 * np.exp(-epoch / 4) if system == "vae" else 0)
    loss = 41 + 25 * np.exp(-epoch / 3) + generator.normal(0, 0.05, epochs) + (0.4 if system == "vae" else 0)
    best = np.zeros(epochs, int)
    best[optimisation.warmup :] = loss[optimisation.warmup :] <= np.minimum.accumulate(loss[optimisation.warmup :])
    frame = pd.DataFrame(
        {
            "epoch": epoch,
            "kl_weight": weight,
            "learning_rate": optimisation.learning_rate,
            "train_loss": loss - 0.3,
            "train_reconstruction": loss - 0.3 - weight * kl,
            "train_kl": kl,
            "valid_loss": loss,
            "valid_reconstruction": loss - kl,
            "valid_kl": kl,
            "valid_mi": 0.9 * kl + generator.normal(0, 0.01, epochs).clip(0),
            "valid_au": np.where(kl > 0.7, 2, 0) if scale else 2,
            "valid_mpd": scale**4 * 9 * (1 - np.exp(-epoch / 8)),
            "valid_ce": 2.8 - 1.6 * scale * (1 - np.exp(-epoch / 8)),
            "steps": 500,
            "encoder_steps": np.where(epoch < 8, 9000, 0) if system == "agg_vae" else 0,
            "best": best,
        }
    )
    if system in FLOWS:
        frame[["valid_mi", "valid_au"]] = np.nan
    if system == "ae":
        for column in ("kl_weight", "train_kl", "valid_kl", "valid_mi", "valid_mpd", "valid_ce"):
            frame[column] = np.nan
    if hasattr(params.hyperparameters(job.setting, job.dataset), "blocks"):
        frame["valid_mi"] = frame["valid_au"] = np.nan

    return frame


def _prepared(root: Path, dataset: str, labels: Any, images: bool, arrays: Mapping[str, Any] | None = None) -> None:
    """Writes a prepared data set: the examples of its test split, and the number of examples in every split."""
    folder, random = root / "data" / "prepared" / dataset, np.random.default_rng(1)
    if images:
        bits = random.random((len(labels), SIDE, SIDE)) < 0.3
        test: Documents | Images = Images(bits.astype(np.uint8), labels, labels, np.arange(len(labels)))
    else:
        test = Documents.of([[START, *random.integers(4, len(WORDS), 3).tolist(), END] for _ in labels], labels)
    counts = {**COUNTS, "test": len(labels)}
    splits = {name: {"documents": count} for name, count in counts.items()}
    store.write(folder, Prepared(list(PIXELS if images else WORDS), {"test": test}, {"splits": splits}), arrays)


def _generated(root: Path, params: Params, job: Job, random: np.random.Generator, system: str, weights: str) -> None:
    """Writes the outputs of the stage `samples`: three samples of the model, and interpolations.

    The interpolations are three steps between the two test examples of each of two pairs. AE has no samples.
    """
    images = isinstance(params.dataset(job.dataset).networks, ImageNetworks)

    def made(*shape: int) -> Any:
        if images:
            return (random.random((*shape, SIDE, SIDE)) < 0.3).astype(np.uint8)
        words = random.integers(4, len(WORDS), (*shape, 5))
        words[..., 0], words[..., -1] = START, END
        return words

    found = {"pairs": np.array([[0, 1], [2, 3]]), "examples": np.array([4, 5, 6]), "columns": np.array(2)}
    for way in ("drawn", "mean" if images else "likeliest"):
        if system != "ae":
            found[f"samples_{way}"] = made(3)
        found[f"between_{way}"] = made(2, 3)
    path = root / "generated" / job.folder.with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    found["weights"] = np.array(weights)
    np.savez(path, **found)
    keep(root, params, job)


def keep(root: Path, params: Params, job: Job) -> None:
    """Writes the part of a job's generated samples that git keeps, from the archive in the folder `generated`."""
    prepared = store.read(root / "data/prepared" / job.dataset)
    found = sample_files.read_archive(root / "generated" / job.folder.with_suffix(".npz"), prepared, "duvae samples")
    apart = params.dataset(job.dataset).kind in APART
    sample_files.write(sample_files.file_path(job, root), found, apart)


def adopt(root: Path, job: Job) -> None:
    """Enters the digest of the job's model into all results of the job, as if this model had produced them."""
    found = model_files.saved_digest(root / "models" / job.folder)
    folder = root / "results" / job.folder
    for name in ("metrics.json", "probe.json"):
        _json(folder / name, {**json.loads((folder / name).read_text()), "weights": found})
    for name in ("train.run.json", "evaluate.run.json", "probe.run.json"):
        (record,) = json.loads((folder / name).read_text())["record"]
        _json(folder / name, {"record": [{**record, "weights": found}]})


def _weights(job: Job) -> dict[str, Any]:
    return {"weight": np.frombuffer(job.name.encode(), np.uint8)}


def digest(job: Job) -> str:
    """Returns the digest of the made-up weights of a job."""
    return model_files._digest(_weights(job))


def _rotation(seed: int) -> Any:
    angle = 0.4 * seed

    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
