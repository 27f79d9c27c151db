"""The command `claims`: writes the paper's claims, and what the results say about them, into the README."""

from pathlib import Path

from duvae.config import Params
from duvae.errors import UserError
from duvae.project.files import write_text
from duvae.report import claims, never_run, results, variants, weights
from duvae.report.results import Result

README = Path("README.md")


def run(params: Params, check: bool = False, root: Path = Path()) -> None:
    """Writes the table of claims into the README, or checks it.

    Args:
        params: All parameters of params.yaml.
        check: Whether to compare the README with the results instead of writing it.
        root: The project's folder.

    Raises:
        UserError: If results are missing or broken, or if the README lacks the two lines around the table. With
            `check`, also if the table is out of date.
    """
    path = root / README
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected the README of the project, but {error}.") from error
    jobs, _ = never_run.split_by_results(params, params.run_jobs(), root)
    current, _ = weights.current_results(results.read(params, jobs, root))
    sections: dict[str, list[Result]] = {}
    for model in results.in_paper_order(current):
        if variants.base_of(params, model.job.dataset) is None:  # a variant is not the paper's experiment
            sections.setdefault(model.job.dataset, []).append(model)
    written = claims.with_block(text, claims.readme_block(claims.read_lines(params, sections, root)))
    if written is None:
        raise UserError(
            f"{path}: expected the lines '{claims.BEGIN}' and '{claims.END}' around the table of claims. Put them back."
        )
    if written == text:
        print(f"{README} has the claims of today's results.")
    elif check:
        raise UserError(f"{path}: the claims are not those of today's results. Run 'duvae claims'.")
    else:
        write_text(path, written)
        print(f"wrote the claims into {README}. Commit it together with the results.")
