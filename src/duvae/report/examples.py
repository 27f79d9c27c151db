"""What trained models draw or write, beside real test examples: pictures, or lines of text (Figure S1)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from markupsafe import Markup

from duvae.config import AnyDataset, Job
from duvae.data import store
from duvae.data.store import Array, Images, Prepared
from duvae.errors import UserError
from duvae.report import page, pictures, results
from duvae.report.results import Result

APART = {"text", "images"}
"""Kinds of data sets that are somebody's: what their examples are is not put into the page that git keeps."""

PIXEL = 2
"""Pixels of a picture a pixel of an image."""


@dataclass(frozen=True)
class Generated:
    """What `duvae illustrate` wrote of one model.

    Attributes:
        pairs: Test examples that are interpolated between, with shape (pairs, 2).
        examples: Test examples to show beside the samples, with shape (examples,).
        columns: Images a row.
        samples: Of the prior, drawn and likeliest, with shape (samples, ...); empty where there is no prior.
        between: From one of a pair to the other, drawn and likeliest, with shape (pairs, steps, ...).
    """

    pairs: Array
    examples: Array
    columns: int
    samples: Mapping[str, Array]
    between: Mapping[str, Array]


def place(job: Job, root: Path) -> Path:
    """Where what was drawn of a model lies."""
    return root / "generated" / job.folder.with_suffix(".npz")


def read(job: Job, root: Path = Path()) -> Generated:
    """Reads what was drawn of a model.

    Raises:
        UserError: Where it is missing, broken or not what is expected, with the command that makes it.
    """
    path = place(job, root)
    command = f"duvae illustrate --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
    results.need({path: command})
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        ways = {
            kind: {name.removeprefix(kind): array for name, array in held.items() if name.startswith(kind)}
            for kind in ("samples_", "between_")
        }
        if not ways["between_"]:
            raise ValueError("there is nothing between_ two examples")

        return Generated(held["pairs"], held["examples"], int(held["columns"]), ways["samples_"], ways["between_"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: expected samples, but {why}. Delete it and run '{command}' again.") from error


def shown(models: Sequence[Result], names: Mapping[str, str], dataset: AnyDataset, root: Path) -> Mapping[str, Any]:
    """What a page shows of a data set: real test examples, and each setting's samples and interpolations.

    What would be on a page of its own is left out where some of it is missing: it is not in git, and the numbers are.

    Args:
        models: Models of one data set; of several seeds of a setting the first is shown.
        names: What each setting is called.
        dataset: What params.yaml says of it.
        root: The project's folder.
    """
    first = {model.job.setting: model for model in reversed(models)}
    name, apart = models[0].job.dataset, dataset.kind in APART
    missing = {setting: path for setting in names if not (path := place(first[setting].job, root)).exists()}
    if apart and missing:
        listed = ", ".join(map(str, missing.values()))
        print(
            f"warning: {listed}: not there, and so no page of what models of {name} write or draw. 'dvc repro' makes"
            f" {'it' if len(missing) == 1 else 'them'}.",
            file=sys.stderr,
        )
        return {"apart": True, "missing": [names[setting] for setting in missing]}
    found = {setting: read(first[setting].job, root) for setting in names}
    prepared = store.read(root / "data" / "prepared" / name)
    one = next(iter(found.values()))
    if max(int(of.pairs.max()) for of in found.values()) >= len(prepared.split("test")):
        raise UserError(
            f"generated/{name}: expected samples of models of data/prepared/{name}, which has"
            f" {len(prepared.split('test'))} test examples; found more. Run 'dvc repro' to make them again."
        )
    told = {
        "apart": apart,
        "missing": [],
        "pairs": len(one.pairs),
        "steps": next(iter(one.between.values())).shape[1],
        "seeds": len({model.job.seed for model in models}),
    }
    if isinstance(prepared.split("test"), Images):
        return {**told, **_pictures(found, names, prepared)}

    return {**told, **_lines(found, names, prepared)}


def _pictures(found: Mapping[str, Generated], names: Mapping[str, str], prepared: Prepared) -> Mapping[str, Any]:
    test = prepared.images("test").pixels

    def picture(array: Array, columns: int, alt: str) -> Markup:
        return page.image(pictures.png(pictures.grid(array.reshape(-1, *array.shape[-2:]), columns, PIXEL)), alt)

    def line(of: Generated, way: str, alt: str) -> Markup:
        between = of.between[way]
        parts = [
            pictures.grid(test[of.pairs[:, 0]], 1, PIXEL),
            pictures.grid(between.reshape(-1, *between.shape[-2:]), between.shape[1], PIXEL),
            pictures.grid(test[of.pairs[:, 1]], 1, PIXEL),
        ]
        return page.image(pictures.png(pictures.beside(parts, 4 * PIXEL)), alt)

    one = next(iter(found.values()))

    return {
        "pictures": True,
        "ways": list(one.between),
        "test": picture(test[one.examples], one.columns, "Test images"),
        "settings": [
            {
                "name": name,
                "samples": [
                    picture(found[setting].samples[way], found[setting].columns, f"Samples of {name}, {way}")
                    for way in found[setting].samples
                ],
                "between": [
                    line(found[setting], way, f"Interpolations of {name}, {way}") for way in found[setting].between
                ],
            }
            for setting, name in names.items()
        ],
    }


def _lines(found: Mapping[str, Generated], names: Mapping[str, str], prepared: Prepared) -> Mapping[str, Any]:
    test = prepared.documents("test")

    def said(document: Array) -> str:
        return " ".join(prepared.words(document))

    one = next(iter(found.values()))

    return {
        "pictures": False,
        "test": [said(test[index]) for index in one.examples.tolist()],
        "settings": [
            {
                "name": name,
                "samples": [(way, [said(row) for row in rows]) for way, rows in found[setting].samples.items()],
                "between": [
                    (said(test[source]), [said(row) for row in rows], said(test[target]))
                    for (source, target), rows in zip(
                        found[setting].pairs.tolist(), found[setting].between["likeliest"], strict=True
                    )
                ],
            }
            for setting, name in names.items()
        ],
    }
