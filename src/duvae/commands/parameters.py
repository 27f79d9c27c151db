"""The page of all parameters, written or checked."""

from duvae.config import Params
from duvae.report import reference


def run(params: Params, check: bool = False) -> None:
    """Writes `docs/parameters.md`; with `check`, only compares it.

    Args:
        params: All of params.yaml.
        check: Whether nothing is written.

    Raises:
        UserError: With `check`, if the page is out of date.
    """
    if check:
        reference.check(params)
    elif reference.write(params):
        print(f"wrote {reference.PAGE}. Commit it together with params.yaml.")
    else:
        print(f"{reference.PAGE} is up to date.")
