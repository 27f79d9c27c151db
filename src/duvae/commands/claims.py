"""The command `claims`: writes what the results say into the README and into docs/which-setting.md."""

from pathlib import Path

from duvae.config import Params
from duvae.errors import UserError
from duvae.project.files import write_text
from duvae.report import claims, never_run, results, variants, weights, which_setting
from duvae.report.results import Result

README = Path("README.md")
PAGE = Path("docs/which-setting.md")


def run(params: Params, check: bool = False, root: Path = Path()) -> None:
    """Writes the table of claims into the README, and the tables of results into docs/which-setting.md, or checks both.

    A project without docs/which-setting.md has the table of claims alone.

    Args:
        params: All parameters of params.yaml.
        check: Whether to compare the two pages with the results instead of writing them.
        root: The project's folder.

    Raises:
        UserError: If results are missing or broken, or if a page lacks the two lines around its tables. With `check`,
            also if the tables of a page are out of date.
    """
    pages = {README: _read(root / README)}
    if (root / PAGE).exists():
        pages[PAGE] = _read(root / PAGE)
    jobs, _ = never_run.split_by_results(params, params.run_jobs(), root)
    current, _ = weights.current_results(results.read(params, jobs, root))
    sections: dict[str, list[Result]] = {}
    for model in results.in_paper_order(current):
        if variants.base_of(params, model.job.dataset) is None:  # a variant is not the paper's experiment
            sections.setdefault(model.job.dataset, []).append(model)
    tables = {README: (claims.BEGIN, claims.END, claims.readme_block(claims.read_lines(params, sections, root)))}
    if PAGE in pages:
        tables[PAGE] = (which_setting.BEGIN, which_setting.END, which_setting.block(params, sections))
    changed: dict[Path, str] = {}
    for name, (begin, end, block) in tables.items():
        written = which_setting.with_block(pages[name], begin, end, block)
        if written is None:
            what = "the table of claims" if name == README else "the tables of results"
            raise UserError(f"{root / name}: expected the lines '{begin}' and '{end}' around {what}. Put them back.")
        if written != pages[name]:
            changed[name] = written
    if not changed:
        print(f"{' and '.join(map(str, tables))}: the tables are those of today's results.")
    elif check:
        name = next(iter(changed))
        what = "claims" if name == README else "tables"
        raise UserError(f"{root / name}: the {what} are not those of today's results. Run 'duvae claims'.")
    else:
        for name, text in changed.items():
            write_text(root / name, text)
        print(f"wrote the tables of {' and '.join(map(str, changed))}. Commit them together with the results.")


def _read(path: Path) -> str:
    """Reads a page of the project.

    Raises:
        UserError: If the page is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a page of the project, but {error}.") from error
