"""The stage `truth`: computes the NLL of synthetic test sentences under the generator that produced them.

No system can have a lower expected NLL than the generator.
"""

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
    """Computes the NLL of the first test sentences under the generator that produced the data.

    The number of these sentences is `truth.sentences` of the data set in params.yaml. The likelihood of a sentence is
    an integral over z, computed as a sum over a lattice of points z. The stage writes three files to the folder
    `results/<dataset>`. `truth.json` holds the mean NLL of these sentences and the standard error of this mean. As a
    check, it also holds the mean NLL on a lattice with twice the spacing. `truth.run.json` holds the code, the machine
    and the time of this computation.

    `per_example.json` holds these arrays:

    - `nll`: NLL of each of these sentences in nats, shape (sentences,);
    - `z`: latent code of every test sentence, shape (test sentences, 2);
    - `label`: index of the mixture component that generated each test sentence, shape (test sentences,).

    Args:
        params: All parameters of params.yaml.
        dataset: Name of a data set of the kind `synthetic`.
        root: Folder of the project.

    Raises:
        UserError: If the data set is not synthetic or is not prepared, or if params.yaml has no quadrature for it.
    """
    watch = Stopwatch("truth")
    chosen = params.dataset(dataset)
    if not isinstance(chosen, SyntheticDataset):
        raise UserError(
            f"params.yaml: datasets.{dataset}: expected the kind synthetic; found {chosen.kind}."
            " The likelihood is known for a generator only; choose a synthetic data set."
        )
    if chosen.truth is None:
        raise UserError(
            f"params.yaml: datasets.{dataset}.truth: expected a quadrature; found null, which means none."
            " Write its keys as for the data set 'synthetic', or leave out this step."
        )
    folder = root / "data/prepared" / dataset
    test = store.read(folder).documents("test")
    generator = Generator.of({name: store.read_array(folder, f"generator.{name}") for name in Generator.names()})
    count = min(chosen.truth.sentences, len(test))
    words = np.stack([test[n][1:-1] for n in range(count)])
    z = store.read_array(folder, "test.z")
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
            "label": store.read_array(folder, "test.labels").astype(np.int32),
        },
    )
    folder = root / "results" / dataset
    outputs = [folder / "truth.json", folder / "per_example.json"]
    watch.write(folder / "truth.run.json", outputs, device="cpu", threads=params.threads)
