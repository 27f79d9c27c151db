"""The command `claims`: writes what the results say into the README, docs/results.md and docs/which-setting.md."""

from pathlib import Path

from duvae.config import Params
from duvae.errors import UserError
from duvae.project.files import write_text
from duvae.report import claims, never_run, variants, weights, which_setting
from duvae.report.results import Result

README = Path("README.md")
CLAIMS_PAGE = Path("docs/results.md")
SETTINGS_PAGE = Path("docs/which-setting.md")


def run(params: Params, check: bool = False, root: Path = Path()) -> None:
    """Writes the tables of claims and of results into the pages, or checks them.

    The README has a summary of the claims, docs/results.md has each claim, and docs/which-setting.md has tables of
    results. A project may lack the two pages in docs.

    Args:
        params: All parameters of params.yaml.
        check: Whether to compare the pages with the results instead of writing them.
        root: The project's folder.

    Raises:
        UserError: If results are missing or broken, or if a page lacks the two lines around its tables. With `check`,
            also if the tables of a page are out of date.
    """
    existing = [README, *(page for page in (CLAIMS_PAGE, SETTINGS_PAGE) if (root / page).exists())]
    pages = {page: _read(root / page) for page in existing}
    jobs, _ = never_run.split_by_results(params, params.run_jobs(), root)
    sections: dict[str, list[Result]] = {}
    for model in weights.current_models(params, jobs, root):
        if variants.base_of(params, model.job.dataset) is None:  # a variant is not the paper's experiment
            sections.setdefault(model.job.dataset, []).append(model)
    lines = claims.read_lines(params, sections, root)
    tables = {
        README: (claims.BEGIN, claims.END, claims.summary_block(lines)),
        CLAIMS_PAGE: (claims.BEGIN, claims.END, claims.table_block(lines)),
    }
    if SETTINGS_PAGE in pages:
        tables[SETTINGS_PAGE] = (which_setting.BEGIN, which_setting.END, which_setting.block(params, sections))
    changed: dict[Path, str] = {}
    for name, text in pages.items():
        begin, end, block = tables[name]
        written = which_setting.with_block(text, begin, end, block)
        if written is None:
            what = "the table of claims" if name != SETTINGS_PAGE else "the tables of results"
            raise UserError(f"{root / name}: expected the lines '{begin}' and '{end}' around {what}. Put them back.")
        if written != text:
            changed[name] = written
    if not changed:
        print(f"{', '.join(map(str, pages))}: the tables are those of today's results.")
    elif check:
        name = next(iter(changed))
        what = "tables" if name == SETTINGS_PAGE else "claims"
        raise UserError(f"{root / name}: the {what} are not those of today's results. Run 'duvae claims'.")
    else:
        for name, text in changed.items():
            write_text(root / name, text)
        print(f"wrote the tables of {', '.join(map(str, changed))}. Commit them together with the results.")


def _read(path: Path) -> str:
    """Reads a page of the project.

    Raises:
        UserError: If the page is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a page of the project, but {error}.") from error
