"""The stage `truth`: the generator's own negative log-likelihood, the floor under every system's."""

from pathlib import Path

import numpy as np
import torch

from duvae.config import Params, SyntheticDataset
from duvae.data import store
from duvae.data.synthetic import Generator, true_nll
from duvae.errors import UserError
from duvae.metrics.statistics import standard_error
from duvae.project import array_files
from duvae.project.files import write_json
from duvae.project.progress import Bar
from duvae.project.provenance import Stopwatch


def run(params: Params, dataset: str, root: Path = Path()) -> None:
    """Integrates the first test sentences' likelihood over z; writes the mean and each sentence's.

    `results/<dataset>/per_example.json` holds what git keeps of the sentences: the `nll` of the first ones, and the `z`
    and the component (`label`) that each test sentence was written from.

    Args:
        params: All of params.yaml.
        dataset: The name of a data set of kind synthetic.
        root: The project's folder.
    """
    watch = Stopwatch("truth")
    chosen = params.dataset(dataset)
    if not isinstance(chosen, SyntheticDataset):
        raise UserError(
            f"params.yaml: datasets.{dataset} is of kind {chosen.kind};"
            " the truth is known of a synthetic data set alone."
        )
    folder = root / "data/prepared" / dataset
    test = store.read(folder).documents("test")
    generator = Generator.of({name: store.array(folder, f"generator.{name}") for name in Generator.names()})
    count = min(chosen.truth.sentences, len(test))
    words = np.stack([test[n][1:-1] for n in range(count)])
    z = store.array(folder, "test.z")
    own = z[:count]
    torch.set_num_threads(params.threads)
    with Bar(f"{dataset}: true NLL", count) as bar:
        nll, twice = true_nll(generator, chosen.source, words, own, chosen.truth, bar.done)
    write_json(
        root / "results" / dataset / "truth.json",
        {
            "dataset": dataset,
            "sentences": count,
            "nll": float(nll.mean()),
            "nll_stderr": standard_error(nll),
            "spacing": chosen.truth.spacing,
            "coarse_nll": float(twice.mean()),
            "coarse_difference": float((twice - nll).mean()),
        },
    )
    array_files.write(
        root / "results" / dataset / "per_example.json",
        {"dataset": dataset, "sentences": count},
        {
            "nll": nll.astype(np.float32),
            "z": z.astype(np.float32),
            "label": store.array(folder, "test.labels").astype(np.int32),
        },
    )
    watch.write(root / "results" / dataset / "truth.run.json", device="cpu", threads=params.threads)
