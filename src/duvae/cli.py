"""The command line: `duvae <stage>`, each stage a function of `duvae.commands`.

Nothing heavy is imported before a command has read its parameters and found them right.
"""

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duvae.errors import TEMPORARY_FAILURE, Interrupted, TemporaryError, UserError

if TYPE_CHECKING:
    from duvae.config import Params

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "False",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""What keeps the libraries that run here from reporting home."""

app = typer.Typer(
    name="duvae",
    help="Rebuild the results of DU-VAE, stage by stage.\n\n"
    "The stages run in this order: fetch, prepare, binarize (images), validate, truth, train, evaluate, probe, "
    "samples, figure1, report, examples. 'dvc repro' runs those that are out of date; each command below runs one "
    "of them. "
    "All read params.yaml in the folder they are called in; docs/parameters.md explains its keys.",
    epilog="Examples:\n\n"
    "\b\n"
    "  duvae prepare --dataset synthetic\n"
    "  duvae train --dataset synthetic --setting du_vae --seed 1\n"
    "  duvae train --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

ParamsFile = Annotated[Path, typer.Option("--params", metavar="PATH", help="The file of parameters.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="NAME", help="A data set of params.yaml.")]
Setting = Annotated[str, typer.Option("--setting", metavar="NAME", help="A setting of params.yaml.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="The seed of the training.")]
DEFAULT = Path("params.yaml")


def examples(*lines: str) -> str:
    """The end of a command's help, its lines kept as they are."""
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in lines)


def read(params: Path) -> "Params":
    """params.yaml, checked."""
    from duvae import config

    return config.load(params)


def run(stage: str, *args: Any, **options: Any) -> None:
    """Calls `duvae.commands.<stage>.run`, imported only now."""
    importlib.import_module(f"duvae.commands.{stage}").run(*args, **options)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"duvae {version('duvae')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of `duvae` itself."""


@app.command(epilog=examples("duvae graph", "duvae graph --check"))
def graph(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the list is out of date.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Write pipelines/jobs.yaml, what DVC's graph runs over.

    The jobs are the valid triples of data set, setting and seed that `run` in params.yaml names, and Figure 1's five.
    Call it after a change of `run` or `figure1`, and commit the file.
    """
    run("graph", read(params), check=check)


@app.command(epilog=examples("duvae parameters", "duvae parameters --check"))
def parameters(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the page is out of date.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Write docs/parameters.md, the page of all parameters.

    Run it after a change of params.yaml, and commit the page.
    """
    run("parameters", read(params), check=check)


@app.command(epilog=examples("duvae fingerprint", "duvae fingerprint && dvc repro --dry"))
def fingerprint() -> None:
    """Write fingerprints.yaml, hashes of the code of each stage.

    Comments, docstrings, formatting and annotations of functions count for nothing. Run it after a change of the code:
    'git diff fingerprints.yaml' shows what will run again, and 'dvc repro --dry' lists the stages.
    """
    run("fingerprint")


@app.command(name="own-files", epilog=examples("duvae own-files"))
def own_files(params: ParamsFile = DEFAULT) -> None:
    """Write data/own.yaml, digests of your own files.

    There is one for each data set that is fetched.

    DVC runs it every time. Where no digest has changed, nothing that was made of your files is made again.
    """
    run("own_files", read(params))


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
            envvar="DUVAE_MIRROR", metavar="PLACE", help="A folder or URL that holds the files under the same paths."
        ),
    ] = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """Get a data set's files, checked, into data/raw.

    They come from where they were published, or from a mirror; each is compared with its known checksum.
    """
    known = read(params)
    known.dataset(dataset)
    run("fetch", known, dataset, mirror=mirror)


@app.command(epilog=examples("duvae prepare --dataset synthetic", "duvae prepare --dataset short_yelp_resampled"))
def prepare(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """Make a data set's vocabulary and word ids, in data/prepared.

    Texts are read from data/raw; the synthetic data set is drawn from its generator. Images become grey values, in
    data/grey.
    """
    known = read(params)
    known.dataset(dataset)
    run("prepare", known, dataset)


@app.command(epilog=examples("duvae binarize --dataset omniglot"))
def binarize(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """Draw the bits of an image data set's validation and test, once.

    From data/grey into data/prepared. Training stays grey: its bits are drawn each time an image is used.
    """
    known = read(params)
    if known.dataset(dataset).kind not in {"omniglot", "images"}:
        raise UserError(f"--dataset {dataset}: only data sets of the kinds 'omniglot' and 'images' are binarized.")
    run("binarize", known, dataset)


@app.command(epilog=examples("duvae validate --dataset synthetic"))
def validate(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """Check a prepared data set against what is expected of it.

    Sizes, lengths, word ids, unknown words, labels, sentences shared by training and test; of images, pixels, ink,
    drawings of each character.
    Writes data/validated, and Data Docs to read in reports/data_docs.
    """
    known = read(params)
    known.dataset(dataset)
    run("validate", known, dataset)


@app.command(epilog=examples("duvae truth --dataset synthetic"))
def truth(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """Integrate a synthetic data set's true negative log-likelihood.

    By quadrature over z under the generator itself: the floor for every system.
    """
    known = read(params)
    if known.dataset(dataset).kind != "synthetic":
        raise UserError(f"--dataset {dataset}: only data sets of the kind 'synthetic' have a known truth.")
    run("truth", known, dataset)


@app.command(epilog=examples("duvae train --dataset synthetic --setting du_vae --seed 1"))
def train(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = DEFAULT) -> None:
    """Train a setting on a data set.

    Weights go to models, the history of its epochs to results.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    run("train", known, dataset, setting, seed)


@app.command(epilog=examples("duvae evaluate --dataset synthetic --setting du_vae --seed 1"))
def evaluate(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = DEFAULT) -> None:
    """Measure a trained model on the test set.

    NLL by importance weighting, KL, MI, AU, MPD and CE, as docs/metrics.md defines them.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    run("evaluate", known, dataset, setting, seed)


@app.command(epilog=examples("duvae probe --dataset synthetic --setting du_vae --seed 1"))
def probe(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = DEFAULT) -> None:
    """Classify from a trained model's latent means, linearly."""
    known = read(params)
    known.job(dataset, setting, seed)
    run("probe", known, dataset, setting, seed)


Output = Annotated[
    Path | None, typer.Option("--output", metavar="PATH", help="The file; below reports/generated if not given.")
]
DrawSeed = Annotated[int, typer.Option("--draw-seed", metavar="N", min=0, max=2**31 - 1, help="The seed of the draws.")]
Likely = Annotated[bool, typer.Option("--likely", help="Draw nothing from p(x|z): each pixel or word the likeliest.")]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", metavar="T", help="Of the draws from p(x|z), 1 if not given; likelier ones below 1."),
]
Sentence = Annotated[
    list[str] | None, typer.Option("--sentence", metavar="TEXT", help="A sentence; may be given several times.")
]


def heat(temperature: float | None, likely: bool = False) -> float:
    """The temperature of the draws, where anything is drawn."""
    if temperature is not None and likely:
        raise UserError("--temperature, --likely: expected one of them; the likeliest is not drawn.")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise UserError(f"--temperature: expected a number above 0; found {temperature}.")

    return temperature or 1.0


@app.command(
    epilog=examples(
        "duvae generate --dataset omniglot --setting du_vae --seed 1",
        "duvae generate --dataset omniglot --setting du_vae --seed 1 --likely --output samples.png",
        "duvae generate --dataset short_yelp --setting du_vae --seed 1 --rows 20 --columns 1 --temperature 0.7",
    )
)
def generate(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="Of the grid.")] = 8,
    columns: Annotated[int, typer.Option("--columns", metavar="N", min=1, help="Of the grid.")] = 8,
    draw_seed: DrawSeed = 1,
    likely: Likely = False,
    temperature: Temperature = None,
    output: Output = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """Draw samples of a trained model's prior (Figure S1).

    Images become a grid, texts a line each; the same seed gives the same samples.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    degrees, arguments = heat(temperature, likely), (dataset, setting, seed, output, rows, columns, draw_seed, likely)
    run("generate", known, *arguments, interpolate=False, temperature=degrees)


@app.command(
    epilog=examples(
        "duvae interpolate --dataset omniglot --setting du_vae --seed 1 --steps 9",
        "duvae interpolate --dataset short_yelp --setting du_vae --seed 1 --likely \\",
        '    --from "the food was good ." --to "never again !"',
    )
)
def interpolate(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    pairs: Annotated[int, typer.Option("--pairs", metavar="N", min=1, help="Pairs of test examples.")] = 8,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=2, help="From one to the other, both counted.")] = 8,
    one: Annotated[str | None, typer.Option("--from", metavar="TEXT", help="A sentence, with --to another.")] = None,
    other: Annotated[str | None, typer.Option("--to", metavar="TEXT", help="The other sentence.")] = None,
    draw_seed: DrawSeed = 1,
    likely: Likely = False,
    temperature: Temperature = None,
    output: Output = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """Draw what lies between two sentences, or pairs of test examples (Figure S1).

    From one's posterior mean to the other's in even steps, a pair a row. The seed of the draws chooses the pairs too.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    if (one is None) != (other is None):
        raise UserError("--from, --to: expected both, a sentence each, or neither; found one.")
    ends = (one, other) if one is not None else ()
    degrees, arguments = heat(temperature, likely), (dataset, setting, seed, output, pairs, steps, draw_seed, likely)
    run("generate", known, *arguments, interpolate=True, temperature=degrees, ends=ends)


@app.command(
    epilog=examples(
        "duvae reconstruct --dataset short_yelp --setting du_vae --seed 1 --examples 20",
        'duvae reconstruct --dataset short_yelp --setting du_vae --seed 1 --sentence "the food was good ."',
    )
)
def reconstruct(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    sentence: Sentence = None,
    source: Annotated[
        Path | None, typer.Option("--input", metavar="PATH", help="A file of documents, one a line.")
    ] = None,
    count: Annotated[int, typer.Option("--examples", metavar="N", min=1, help="Else so many test examples.")] = 8,
    draw_seed: DrawSeed = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", metavar="T", help="Draw, at this temperature; else each pixel or word likeliest."
        ),
    ] = None,
    output: Output = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """Decode sentences or test examples from their own posterior means.

    Each is written with what becomes of it.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    if sentence and source:
        raise UserError("--sentence, --input: expected one of them; found both.")
    arguments = (dataset, setting, seed, output, sentence or [], source, count, draw_seed, temperature is None)
    run("reconstruct", known, *arguments, heat(temperature))


@app.command(
    epilog=examples(
        "duvae encode --dataset short_yelp --setting du_vae --seed 1 --input new.txt --output codes.csv",
        "duvae encode --dataset omniglot --setting du_vae --seed 1 --input pictures --ink dark",
        "duvae encode --dataset synthetic --setting du_vae --seed 1 --split test",
    )
)
def encode(
    dataset: Dataset,
    setting: Setting,
    seed: Seed,
    source: Annotated[
        Path | None,
        typer.Option("--input", metavar="PATH", help="A file of documents, - for standard input; a folder or .npz."),
    ] = None,
    sentence: Sentence = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="A split of the prepared data set, such as test.")
    ] = None,
    ink: Annotated[
        str | None,
        typer.Option("--ink", metavar="dark|light", help="Of images: drawn dark on light, or light on dark."),
    ] = None,
    draw_seed: DrawSeed = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="PATH", help="A .parquet or .csv; below reports/generated if not given."),
    ] = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """Write mu, sigma and features of sentences or images.

    One row per example: its label or name, the words that the vocabulary lacks, and the parameters of q(z|x). Features
    are what the probes see: mu, and of a flow also what it is mapped to.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    if ink not in {None, "dark", "light"}:
        raise UserError(f"--ink {ink}: expected dark or light.")
    run("encode", known, dataset, setting, seed, output, sentence or [], source, ink, draw_seed, split)


@app.command(epilog=examples("duvae samples --dataset omniglot --setting du_vae --seed 1"))
def samples(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = DEFAULT) -> None:
    """Draw a trained model's samples and interpolations for the report.

    As many as `generation` in params.yaml says, both drawn and likeliest; they go to generated.
    """
    known = read(params)
    known.job(dataset, setting, seed)
    run("samples", known, dataset, setting, seed)


@app.command(epilog=examples("duvae figure1", "dvc repro figure1"))
def figure1(params: ParamsFile = DEFAULT) -> None:
    """Draw Figure 1 and write its page, reports/figure1.html.

    From the results of AE, VAE, Agg-VAE, BN-VAE and DU-VAE on the synthetic data.
    """
    run("figure1", read(params))


@app.command(epilog=examples("duvae figure2 --study synthetic_grid"))
def figure2(
    study: Annotated[str, typer.Option("--study", metavar="NAME", help="A study of params.yaml.")],
    params: ParamsFile = DEFAULT,
) -> None:
    """Draw Figure 2 for a study that has ended: its page in reports/studies.

    The NLL over its hyperparameters with the paper's choice, every trial, how the search went and what it cost.
    """
    read(params).study(study)
    run("figure2", study)


@app.command(epilog=examples("duvae report", "dvc repro report"))
def report(params: ParamsFile = DEFAULT) -> None:
    """Write the page on all that `run` names, reports/index.html.

    It is made of the files in results, which git keeps.
    """
    run("report", read(params))


@app.command("examples", epilog=examples("duvae examples --dataset short_yelp_small", "dvc repro examples"))
def example_page(dataset: Dataset, params: ParamsFile = DEFAULT) -> None:
    """Write the page of samples of your own data, reports/examples/NAME.html.

    The page shows test examples beside samples of the models. Git does not keep it.
    """
    known = read(params)
    known.dataset(dataset)
    run("examples", known, dataset)


@app.command(
    epilog=examples(
        "duvae search --study synthetic_tpe",
        "duvae search --study synthetic_tpe --storage postgresql://user@host/studies",
        "python -m pipelines.parallel_study --study synthetic_tpe --slots 2",
    )
)
def search(
    study: Annotated[str, typer.Option("--study", metavar="NAME", help="A study of params.yaml.")],
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="OPTUNA_STORAGE", metavar="URL", help="A database to keep it in; without it studies/journal.log."
        ),
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", help="Only work on it; another process writes.")] = False,
    params: ParamsFile = DEFAULT,
) -> None:
    """Search a system's hyperparameters by the NLL on validation.

    Writes best_params.yaml, the trials and what they cost to results/studies; 'duvae figure2' makes a page of it.
    Stopped or killed, the same command goes on; several may work on one study.
    """
    known = read(params)
    known.study(study)
    run("search", known, study, storage, worker)


@app.command(epilog=examples("duvae track", "mlflow ui"))
def track(params: ParamsFile = DEFAULT) -> None:
    """Fill MLflow from the results that are there, each once.

    Whether they were trained here, pulled or restored from the cache.
    """
    run("track", read(params))


@app.command(epilog=examples("duvae systems", "duvae systems du_vae"))
def systems(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them, with all that is said of it.")
    ] = None,
    params: ParamsFile = DEFAULT,
) -> None:
    """List and explain the systems of the paper.

    What each is made of, its equation and source, its hyperparameters with the values that the paper chose from,
    and the settings of params.yaml that have it.
    """
    known = read(params)
    from duvae import registry

    run("systems", known, name and registry.known_system(name))


@app.command(epilog=examples("duvae doctor", "DUVAE_MIRROR=../data duvae doctor"))
def doctor(params: ParamsFile = DEFAULT) -> None:
    """Say what is here, and what to do about what is not.

    Versions, devices, parameters, data, mirror, cache, interrupted trainings, leftovers, MLflow: a line each,
    marked ok, ! (not there, or not right) or x (Figure 1 cannot be rebuilt). Nothing is changed. Ends with 0 where
    all that 'dvc repro figure1' needs is here, else with 1.
    """
    run("doctor", params)


def main() -> None:
    """What `duvae` calls.

    A user's mistake ends with a message and 2, what may pass with 75, an interruption with 130.
    """
    os.environ.update(TELEMETRY_OFF)
    try:
        app()
    except UserError as error:
        first, *more = str(error).splitlines()
        print("\n       ".join([f"error: {first}", *more]), file=sys.stderr)
        sys.exit(TEMPORARY_FAILURE if isinstance(error, TemporaryError) else 2)
    except Interrupted as stopped:
        print(f"\ninterrupted: {stopped}; the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except SystemExit as leaving:
        if leaving.code == 130:
            print("interrupted: nothing half-written was left; the same command does it again", file=sys.stderr)
        raise
    except Exception as error:
        if not _passing(error):
            raise
        traceback.print_exc()
        sys.exit(TEMPORARY_FAILURE)


def _passing(error: Exception) -> bool:
    """Whether memory or a device was lost: at another time, or on another device, it may end well."""
    torch = sys.modules.get("torch")
    # AcceleratorError came with torch 2.8.
    lost = tuple(getattr(torch, name) for name in ("OutOfMemoryError", "AcceleratorError") if hasattr(torch, name))

    return isinstance(error, (MemoryError, *lost)) or "can't allocate memory" in str(error)
