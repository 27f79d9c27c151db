"""Shows the results of a demonstration: a table, a picture, sentences, and what to do next."""

import textwrap
from pathlib import Path

from duvae.commands import results as command_results
from duvae.commands.demo import folder
from duvae.config import Params, SyntheticDataset
from duvae.data import store
from duvae.errors import UserError
from duvae.inference import sample_files
from duvae.metrics import verdict
from duvae.project.files import whole, write_text
from duvae.report import brief, drawings, figures, latent_spaces, page, per_example, results, site, weights
from duvae.report.per_example import Space
from duvae.report.results import Result

DEFAULT_PARAMS = Path(__file__).with_name("demo.yaml")
"""The package's own file of parameters."""

DPI = 200
"""Number of pixels of the picture per inch. The picture is as wide as the figures of the report."""

DECODING = "likeliest"
"""The way in which the sentences are decoded: the likeliest word each time, so that they differ only by z."""

LONGEST = 70
"""Largest number of characters of a sentence that are shown. A model that has learned little may never end one."""

ONE_SEED = "One seed and a small text: other sizes or seeds may give other verdicts."

CHOSEN = "We chose this text because the two systems differ on it, so it proves nothing about them."
"""Sentence about the text of `demo.yaml`."""


def show(params: Params, dataset: str, root: Path) -> None:
    """Draws the picture, writes the page, and prints the table, the sentences, and what to do next.

    Args:
        params: All parameters of the demonstration.
        dataset: Name of its data set.
        root: Folder of the demonstration.

    Raises:
        UserError: If a file of a result is missing or broken.
    """
    jobs = params.run_jobs()
    models = results.read(params, jobs, root)
    weights.require_current(models)
    spaces = [_space(model, root) for model in models]
    sentences = decoded(models, root)
    chosen = params.dataset(dataset)
    assert isinstance(chosen, SyntheticDataset)
    drawing = latent_spaces.figure1(chosen.source, _true_space(dataset, root), spaces)
    png = figures.png(drawing, dpi=DPI)
    steps = next_steps(params, root)
    notes = [verdict.RULE, ONE_SEED, *([CHOSEN] if is_default(root / folder.PARAMS) else [])]
    html = page.render(
        "demo.html",
        "duvae.commands.demo",
        site=site.header("", site.origin(models), {}),
        table=brief.table(models, chosen),
        lines=brief.lines(params, models, [per_example.read(model, root) for model in models], root),
        sentences=sentences,
        figure=drawings.inline_png(drawing, png, latent_spaces.columns(drawing)),
        notes=notes,
        steps=steps,
    )
    with whole(root / folder.PICTURE) as temporary:
        temporary.write_bytes(png)
    write_text(root / folder.PAGE, html)

    command_results.show(params, jobs, root=root)
    for note in notes:
        _print_paragraph(note)
    print("\nSentences from the prior. Each model decodes the same z, with the likeliest word each time:")
    for name, lines in sentences.items():
        print(f"\n{name}")
        print("\n".join(f"  {number}. {line}" for number, line in enumerate(lines, 1)))
    print(f"\nThe picture:  {root / folder.PICTURE}")
    print(f"The page:     {(root / folder.PAGE).absolute().as_uri()}")
    print("\nWhat to do next:")
    width = max(len(command) for command, _ in steps)
    print("\n".join(f"  {command:{width}}  {purpose}" for command, purpose in steps))


def is_default(path: Path) -> bool:
    """Whether a file of parameters is the package's own, `demo.yaml`.

    Args:
        path: The copy of the parameters in the folder of the demonstration.
    """
    return path.read_bytes() == DEFAULT_PARAMS.read_bytes()


def decoded(models: list[Result], root: Path) -> dict[str, list[str]]:
    """Reads the sentences that each model has decoded from samples of the prior, by the name of the model.

    Args:
        models: Results of the models.
        root: Folder of the demonstration.

    Raises:
        UserError: If a file of samples is missing, broken, or belongs to other weights than the results.
    """
    sentences = {}
    for model in models:
        path = sample_files.file_path(model.job, root)
        job = model.job
        made_by = f"duvae samples --dataset {job.dataset} --setting {job.setting} --seed {job.seed}"
        samples = sample_files.read(path, made_by)
        if samples is None or samples.weights != model.metrics.get("weights"):
            raise UserError(f"{path}: expected samples of the weights of metrics.json. Run '{made_by}' again.")
        sentences[model.name] = [
            textwrap.shorten(str(line), LONGEST, placeholder=" ...") for line in samples.prior.get(DECODING, [])
        ]

    return sentences


def next_steps(params: Params, root: Path) -> list[tuple[str, str]]:
    """Lists commands to try after the demonstration, each with its purpose.

    Args:
        params: All parameters of the demonstration.
        root: Folder of the demonstration.
    """
    last = params.run_jobs()[-1]
    model = f"--dataset {last.dataset} --setting {last.setting} --seed {last.seed}"

    return [
        (folder.command(root, again=True), "make this folder anew"),
        (f"cd {root} && duvae interpolate {model}", "sentences between two sentences"),
        ("make", "in a checkout: Figure 1 of the paper at full size, with all five systems"),
        ("docs/tutorial.md", "train on your own sentences, in ten minutes"),
        ("docs/metrics.md", "what NLL, KL, MI, AU and the use of z measure"),
    ]


def _space(model: Result, root: Path) -> Space:
    values = per_example.read(model, root)
    if values is None:
        raise UserError(
            f"{per_example.file_path(model.job, root)}: expected values of the weights of metrics.json; found none."
        )

    return per_example.space(model, values)


def _true_space(dataset: str, root: Path) -> Space:
    """The z from which each test sentence was generated."""
    prepared = root / "data" / "prepared" / dataset

    return Space("true z", store.read_array(prepared, "test.z"), None, store.read_array(prepared, "test.labels"))


def _print_paragraph(text: str) -> None:
    print(textwrap.fill(text, command_results.WIDTH, initial_indent="- ", subsequent_indent="  "))
