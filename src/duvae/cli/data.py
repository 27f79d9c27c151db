"""The commands that fetch, prepare and check data sets."""

from typing import Annotated

import typer

from duvae.cli import dispatch
from duvae.cli.options import PARAMS_FILE, Dataset, ParamsFile, examples, new_app
from duvae.errors import UserError

app = new_app()


@app.command(
    epilog=examples(
        "duvae fetch --dataset short_yelp",
        "duvae fetch --dataset short_yelp_resampled --mirror ../data",
        "DUVAE_MIRROR=https://mirror.example.org/data duvae fetch --dataset short_yelp",
    )
)
def fetch(
    dataset: Dataset,
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="DUVAE_MIRROR", metavar="PLACE", help="A folder or URL that has the files under the same paths."
        ),
    ] = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Get the files of a data set into data/raw, and check them.

    The files come from the place where they were published, or from a mirror. Each file is compared with its known
    checksum.
    """
    dispatch.run("fetch", dispatch.params_of_dataset(params, dataset), dataset, mirror=mirror)


@app.command(epilog=examples("duvae prepare --dataset synthetic", "duvae prepare --dataset short_yelp_resampled"))
def prepare(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Make the vocabulary and word ids of a data set, in data/prepared.

    Texts are read from data/raw; the synthetic data set is drawn from its generator. Images become grey values, in
    data/grey.
    """
    dispatch.run("prepare", dispatch.params_of_dataset(params, dataset), dataset)


@app.command(epilog=examples("duvae binarize --dataset omniglot"))
def binarize(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Draw the bits of the validation and test images of a data set, once.

    The command reads data/grey and writes data/prepared. Training images stay grey: each use of an image draws new
    bits.
    """
    known = dispatch.load_params(params)
    if known.dataset(dataset).kind not in {"omniglot", "images"}:
        raise UserError(f"--dataset {dataset}: only data sets of the kinds 'omniglot' and 'images' are binarized.")
    dispatch.run("binarize", known, dataset)


@app.command(epilog=examples("duvae validate --dataset synthetic"))
def validate(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Check a prepared data set against its expectations.

    For texts, it checks sizes, lengths, word ids, unknown words, labels, and sentences that training and test share.
    For images, it checks pixels, ink, and drawings of each character. The command writes the results to
    data/validated, and pages for reading to reports/data_docs.
    """
    dispatch.run("validate", dispatch.params_of_dataset(params, dataset), dataset)


@app.command(epilog=examples("duvae truth --dataset synthetic"))
def truth(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Compute the true negative log-likelihood of a synthetic data set.

    The command integrates over z by quadrature under the generator itself. No system can have a lower NLL.
    """
    known = dispatch.load_params(params)
    if known.dataset(dataset).kind != "synthetic":
        raise UserError(f"--dataset {dataset}: only data sets of the kind 'synthetic' have a known truth.")
    dispatch.run("truth", known, dataset)
