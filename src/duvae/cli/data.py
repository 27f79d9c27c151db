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
            envvar="DUVAE_MIRROR",
            metavar="PLACE",
            help="Folder or URL with copies of the files, such as PLACE/short_yelp/vocab.txt; it is tried first.",
        ),
    ] = None,
    params: ParamsFile = PARAMS_FILE,
) -> None:
    """Get the files of a data set into data/raw, and check them.

    The command takes the files from a mirror, if there is one, or else from the addresses where they were published.
    It compares each published file with its known checksum. Your own files are copied.
    """
    dispatch.run("fetch", dispatch.params_of_dataset(params, dataset), dataset, mirror=mirror)


@app.command(epilog=examples("duvae prepare --dataset synthetic", "duvae prepare --dataset short_yelp_resampled"))
def prepare(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Write a data set's vocabulary and word ids to data/prepared.

    The command reads texts from data/raw, and draws the synthetic data set from its generator. For images it writes
    grey values to data/grey instead.
    """
    known = dispatch.params_of_dataset(params, dataset)
    from duvae.project import memory

    memory.require_for_prepare(known, dataset)
    dispatch.run("prepare", known, dataset)


@app.command(epilog=examples("duvae binarize --dataset omniglot"))
def binarize(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Binarize the validation and test images of a data set.

    The command reads data/grey and writes data/prepared. It draws each pixel of the validation and test images as 0 or
    1, once for all. Training images stay grey: the training draws their pixels anew each time it uses an image.
    """
    known = dispatch.load_params(params)
    if known.dataset(dataset).kind not in {"omniglot", "images"}:
        raise UserError(
            f"--dataset {dataset}: only data sets of the kinds 'omniglot' and 'images' are binarized."
            " Leave out this step."
        )
    dispatch.run("binarize", known, dataset)


@app.command(epilog=examples("duvae validate --dataset synthetic"))
def validate(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Check a prepared data set against its expectations.

    For texts the command checks sizes, lengths, word ids, unknown words, labels, and sentences that occur both in
    training and in test. For images it checks pixels, the share of ink, and the number of drawings of each character.
    It writes the results to data/validated, and pages that show them to reports/data_docs.
    """
    dispatch.run("validate", dispatch.params_of_dataset(params, dataset), dataset)


@app.command(epilog=examples("duvae truth --dataset synthetic"))
def truth(dataset: Dataset, params: ParamsFile = PARAMS_FILE) -> None:
    """Compute the true NLL of a synthetic data set.

    NLL is the negative log-likelihood. The command computes it under the generator of the data, by numerical
    integration over z. No system has a lower expected NLL. The NLL measured on the test set can be lower by chance.
    """
    known = dispatch.load_params(params)
    if known.dataset(dataset).kind != "synthetic":
        raise UserError(
            f"--dataset {dataset}: only data sets of the kind 'synthetic' have a known true NLL. Leave out this step."
        )
    dispatch.run("truth", known, dataset)
