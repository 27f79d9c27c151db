"""params.yaml at a reduced size, for tests and for the reduced end-to-end run."""

import copy
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import drawings

ROOT = Path(__file__).parents[1]
WORDS = [f"word{n}" for n in range(30)]
SPECIALS = "<pad>", "<s>", "</s>", "<unk>"


def remembering(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function that parses each of the last texts only once, and returns a new copy of the result each time."""
    parsed = functools.lru_cache(maxsize=32)(parse)

    return lambda text: copy.deepcopy(parsed(text))


def block(raw: dict[str, Any]) -> Any:
    """The block under the key `run` of the parameters, which the caller may change.

    If the value of `run` is only a name, a copy of a block under `runs` replaces the name: the named run's block with
    the most settings. The copy gets the data sets of all blocks of this run.
    """
    if isinstance(raw["run"], str):
        blocks = raw["runs"][raw["run"]]
        datasets = [name for block in blocks for name in block["datasets"]]
        raw["run"] = {**max(blocks, key=lambda block: len(block["settings"])), "datasets": datasets}

    return raw["run"]


def keep(raw: dict[str, Any], datasets: Collection[str], settings: Collection[str]) -> None:
    """Deletes all data sets and settings but some, and with them all grids, studies and named runs, in place.

    DVC reads the whole file once for each stage, so its commands are several times faster with the short file.

    Args:
        raw: Content of a params.yaml whose `run` is a block.
        datasets: Names of the data sets to keep.
        settings: Names of the settings to keep.
    """
    for kind, names in (("datasets", datasets), ("settings", settings), ("setting_grids", ()), ("studies", ())):
        for name in [name for name in raw[kind] if name not in names]:
            del raw[kind][name]
    raw["runs"] = {}


def shrink(raw: dict[str, Any]) -> None:
    """Reduces every number that costs time in the content of a params.yaml, in place."""
    block(raw)["seeds"] = [1]
    raw["figure1"]["seed"] = 1
    raw["evaluation"]["importance_samples"] = 20
    raw["exact"].update(sentences=5, samples=[1, 20, 40])
    raw["probe"].update(draws=2, folds=2, inverse_penalties=[0.1, 10.0])
    for setting in raw["settings"].values():
        if "epochs" in setting["optimisation"]:
            setting["optimisation"]["epochs"] = 3
    for dataset in raw["datasets"].values():
        # Data sets share parts through YAML anchors, so the loop sets some numbers twice.
        dataset["optimisation"].update(epochs=3, warmup=1)
        dataset["optimisation"]["decay"].update(patience=1, not_before=1)
        if dataset["kind"] in {"omniglot", "images"}:
            # With fewer channels, oneDNN writes past its buffers. The fault is in strided 1 x 1 convolutions of 2 to 6
            # channels in the memory layout "channels last".
            dataset["networks"].update(channels=[8, 8, 8], features=8, kernels=[3, 3], width=4, latent=4)
            continue
        dataset["networks"].update(embedding=8, hidden=16)
        if dataset["kind"] == "synthetic":
            dataset["source"].update(train=640, valid=160, test=160, words=200)
            if "further" in dataset["source"]:
                dataset["source"].update(further=320)
            if dataset["truth"] is not None:
                dataset["truth"].update(sentences=5, spacing=0.2)
            if "labels" in dataset["probe"]:
                dataset["probe"].update(labels=[50])
            # By chance, small splits have a greater share of sentences in common than splits of full size.
            dataset["expect"].update(max_shared_rate=1.0)
        if "sample" in dataset["source"]:
            sample = dataset["source"]["sample"]
            sample.update(size=640, **({"valid": 160} if "valid" in sample else {}))
        if dataset["kind"] == "text":
            dataset["networks"].update(latent=4)
            dataset["expect"].update(max_unknown_rate=1.0, max_shared_rate=1.0)
            if "subsets" in dataset["probe"]:
                dataset["probe"].update(subsets=["labelled_100"])
            if "labels" in dataset["probe"]:
                dataset["probe"].update(labels=[50])
    for setting in raw["settings"].values():
        for values in setting["columns"].values():
            if "max_inner" in values:
                values.update(max_inner=6, window=2)
            if "kl_start" in values and "steps" in values:  # the steps of SA-VAE's refinement
                values.update(steps=5)


def write(path: Path, more: dict[str, Any] | None = None, **run: Any) -> None:
    """Writes the reduced parameters to a file.

    Args:
        path: Path of the file.
        more: Further data sets, by name; None: no further data sets.
        run: New values for the block under the key `run`.
    """
    yaml = YAML()
    raw = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shrink(raw)
    raw["datasets"].update(more or {})
    block(raw).update(run)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(raw, file)


def params() -> Any:
    """The reduced parameters, as a checked object."""
    from duvae import config

    raw = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shrink(raw)

    return config.parse(raw)


def small() -> dict[str, Any]:
    """The reduced parameters as a dictionary, with the further data sets `own` (text) and `pictures` (images).

    These two data sets read files in the project's folder, which the functions `own` and `pictures` write.
    """
    raw = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shrink(raw)
    raw["datasets"]["synthetic"]["optimisation"]["epochs"] = 2
    files: dict[str, Any] = {split: [{"path": f"{split}.txt"}] for split in ("train", "valid", "test")}
    raw["datasets"]["own"] = {
        **raw["datasets"]["short_yelp"],
        "source": {**files, "vocabulary": "vocab.txt", "max_words": 5},
        "probe": {"labels": [2]},
    }
    raw["datasets"]["pictures"] = pictures_of(raw)

    return raw


def pictures_of(raw: dict[str, Any]) -> dict[str, Any]:
    """The data set `pictures`, made from the reduced parameters: a user's own images in a folder."""
    return {
        **{key: value for key, value in raw["datasets"]["omniglot"].items() if key != "paper"},
        "kind": "images",
        "source": {"path": "pictures", "ink": "dark", "valid": 0.2, "test": 0.2, "seed": 1, "size": 28},
        "expect": {"max_shared_rate": 1.0, "min_ink": 0.0, "max_ink": 1.0},
    }


def own(folder: Path) -> None:
    """Writes the files that the data set `own` reads."""
    for number, split in enumerate(("train", "valid", "test")):
        (folder / f"{split}.txt").write_bytes(sentences(number))
    (folder / "vocab.txt").write_text("".join(f"{w}\n" for w in (*SPECIALS, *WORDS, "good", "bad")), encoding="utf-8")


def pictures(folder: Path, count: int = 20) -> None:
    """Writes the files that the data set `pictures` reads: two alphabets with two characters each."""
    names = [f"pictures/{'ab'[n % 2]}/{'xy'[n // 2 % 2]}/{n}.png" for n in range(count)]
    drawings.folder(folder, {name: drawings.letter(n, 30) for n, name in enumerate(names)})


def sentences(number: int) -> bytes:
    """A file of sentences with labels. Each sentence has another word: every third word from word `number` on."""
    lines = [f"{label}\t{word} {'good' if label else 'bad'}\n" for label in (0, 1) for word in WORDS[number::3]]

    return "".join(lines).encode()
