"""The sound project that the mutations change: one data set of each form, one setting of each system, small models."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import drawings
import tiny
from fuzzed.mutation import Command, job, stages

COLUMNS = {"synthetic": "synthetic", "own": "yelp", "pictures": "omniglot"}
"""Data sets with a trained model, and their columns of hyperparameters."""

IMAGES = ("pictures", "arrays", "drawn")
TEXTS = ("own", "halves", "sampled")
LARGE = 2**18
"""Files of more bytes are linked, not copied."""


def content() -> dict[str, Any]:
    """The parameters: those of `tiny.small`, with fewer data sets, settings, studies and numbers."""
    raw = json.loads(json.dumps(tiny.small()))  # every value for itself, without YAML's aliases
    known = raw["datasets"]
    own, pictures = known["own"], known["pictures"]
    known["synthetic"]["source"].update(
        train=60, valid=20, test=20, words=30, length=5, embedding=8, hidden=8, means=[[0.0, 0.0], [2.0, -2.0]]
    )
    known["synthetic"]["probe"] = {"labels": [10]}
    halves = {"train": [{"path": "good.txt", "label": 1}, {"path": "bad.txt", "label": 0}]}
    halves |= {"split": {"valid": 0.2, "test": 0.2, "seed": 1}, "build": {"most": 30, "at_least": 1}}
    sampled = {key: own["source"][key] for key in ("train", "valid", "test")}
    sampled |= {"sample": {"size": 10, "seed": 1, "valid": 5}, "subsets": {"few": [{"path": "train.txt"}]}}
    datasets = {
        "synthetic": known["synthetic"],
        "own": own,
        "halves": {**own, "source": {**halves, "max_words": 5, "longer": "leave_out"}},
        "sampled": {
            **own,
            "source": {**sampled, "build": {"most": 30}, "max_words": 5},
            "probe": {"subsets": ["few"]},
        },
        "pictures": pictures,
        "arrays": {**pictures, "source": {**pictures["source"], "path": "images.npz"}},
        "drawn": known["omniglot_small"],
    }
    datasets["drawn"]["source"].update(alphabets=["Greek"], train_drawers=2, test_drawers=1, valid=8)
    datasets["drawn"]["probe"] = {"per_character": [1]}
    raw["datasets"] = json.loads(json.dumps(datasets))
    for name, dataset in raw["datasets"].items():
        dataset["optimisation"].update(epochs=2, batch=8)
        if name in IMAGES:
            dataset["networks"].update(kernels=[3], channels=[8, 8], latent=2)
    kept = ["ae", "vae", "beta_vae", "sa_vae", "agg_vae", "fb", "delta_vae", "bn_vae", "mae", "du_vae", "iaf_fb"]
    kept += ["iaf_bn", "du_iaf", "bn_vae_fixed_beta_10"]
    raw["settings"] = {name: raw["settings"][name] for name in kept}
    for setting in raw["settings"].values():
        setting["columns"].pop("yahoo", None)
        for values in setting["columns"].values():
            values.update({key: 2 for key in ("steps", "max_inner", "window") if key in values})
    grid = raw["setting_grids"]["figure2"]
    grid.update(columns={"yelp": {}}, values={"gamma": [0.4, 0.5], "p": [0.9, 0.8]}, without=[{"gamma": 0.5, "p": 0.8}])
    raw["studies"] = {
        "synthetic_grid": {**raw["studies"]["synthetic_grid"], "values": {"gamma": [1.0], "p": [0.5]}},
        "synthetic_tpe": {**raw["studies"]["synthetic_tpe"], "trials": 1, "first": [{"gamma": 1.0, "p": 0.5}]},
    }
    raw["runs"] = {"all": [{"datasets": ["own"], "settings": ["vae", "figure2"], "seeds": [1], "studies": []}]}
    raw["run"] = {"datasets": ["synthetic"], "settings": ["vae", "du_vae"], "seeds": [1], "studies": ["synthetic_grid"]}
    raw["generation"] = {"rows": 1, "columns": 2, "pairs": 1, "steps": 2, "draws": 2, "seed": 1}

    return json.loads(json.dumps(raw))


def dumped(raw: Any) -> str:
    return yaml.dump(raw, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def write(folder: Path) -> None:
    """Writes the parameters and the user's files."""
    folder.mkdir()
    (folder / "params.yaml").write_text(dumped(content()), encoding="utf-8")
    tiny.own(folder)
    for name in ("good", "bad"):
        lines = [f"{word} {name}\n" for word in tiny.WORDS]
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    tiny.pictures(folder)
    images = np.stack([255 * ~drawings.letter(n, 28) for n in range(12)]).astype(np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.arange(12) % 2)
    from duvae.data.omniglot import read_alphabets

    count = sum(characters for _, characters in read_alphabets())
    bits = np.random.default_rng(1).random((count, 3, 28, 28)) < 0.9
    raw = folder / "data/raw/drawn/omniglot"
    raw.mkdir(parents=True)
    np.savez_compressed(raw / "images_background.npz", images=bits[:964])
    np.savez_compressed(raw / "images_evaluation.npz", images=bits[964:])
    (folder / "data/validated").mkdir()
    for name in (*TEXTS, *IMAGES, "synthetic"):
        (folder / f"data/validated/{name}.json").write_text("{}\n", encoding="utf-8")
    # Things that a path can name, and that are no sound file.
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    (folder / "folder").mkdir()
    (folder / "odd").mkdir()
    (folder / os.fsdecode(b"odd/\xff.txt")).write_text("word\n", encoding="utf-8")
    (folder / "empty").write_bytes(b"")


BUILD: tuple[Command, ...] = (
    *stages("synthetic", generated=True),
    *stages("own"),
    *stages("pictures", images=True),
    *(job(command, dataset) for dataset in COLUMNS for command in ("train", "evaluate")),
    ("graph",),
    job("probe", "own"),
    job("samples", "pictures"),
)
"""The commands that prepare three data sets, and train a model on each."""


def copied(source: Path, target: Path) -> None:
    """Copies the project. Large files are linked."""

    def copy(file: str, to: str) -> None:
        if Path(file).stat().st_size > LARGE:
            os.link(file, to)
        else:
            shutil.copyfile(file, to)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)
