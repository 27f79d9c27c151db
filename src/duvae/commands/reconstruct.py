"""`duvae reconstruct`: what a trained model makes of given sentences, or of test examples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duvae.commands.generate import longest_of, opened, told, write_grid
from duvae.config import Params
from duvae.data.corpus import read_documents
from duvae.data.store import Documents, Images, Split
from duvae.errors import UserError
from duvae.project.files import write_text


def run(
    params: Params,
    dataset: str,
    setting: str,
    seed: int,
    output: Path | None,
    sentences: Sequence[str],
    source: Path | None,
    count: int,
    draw_seed: int,
    likely: bool,
    temperature: float,
    root: Path = Path(),
) -> None:
    """Writes each x and, decoded from its posterior mean, what becomes of it: lines of text, or a grid of images.

    Args:
        params: All of params.yaml.
        dataset: The data set's name.
        setting: The setting's name.
        seed: The training's.
        output: The file; None: below `reports/generated`.
        sentences: What is reconstructed; none: the documents of `source`.
        source: A file of documents; None: test examples.
        count: How many of those, drawn.
        draw_seed: Of which test examples, and of what is drawn.
        likely: Each pixel or word the likeliest.
        temperature: Of the draws.
        root: The project's folder.
    """
    job = params.job(dataset, setting, seed)
    trained, prepared = opened(params, dataset, setting, seed, root)
    chosen: Split
    if (sentences or source) and trained.size is not None:
        raise UserError("--sentence, --input: expected only with texts; of images test examples are reconstructed.")
    with told():
        if sentences:
            chosen = trained.split(sentences, "--sentence")
        elif source is not None:
            chosen = trained.documents(read_documents(source))
        else:
            test = prepared.split("test")
            indices = np.random.default_rng(draw_seed).choice(len(test), min(count, len(test)), replace=False)
            chosen = test.only(np.sort(indices))
    z = trained.z_of(chosen, draw_seed)
    found = trained.decode(z, likely, temperature, draw_seed, longest_of(prepared))
    path = output or root / "reports/generated" / f"{job.name}-reconstructions"
    if isinstance(chosen, Images):
        both = np.stack([np.asarray(chosen.pixels, np.float32), np.asarray(found)], 1).reshape(-1, *np.shape(found)[1:])
        path = write_grid(both, path, 2)
    elif isinstance(chosen, Documents):
        path = path if path.suffix else path.with_suffix(".txt")
        pairs = [(" ".join(prepared.words(chosen[n])), became) for n, became in enumerate(found)]
        write_text(path, "\n".join(f"{one}\n{became}\n" for one, became in pairs))
    print(f"{path}: {len(chosen)} reconstructions by {job.name}, each behind what it is of")
