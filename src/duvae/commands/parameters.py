"""The command `parameters`: writes or checks the page of all parameters."""

from duvae.config import Params
from duvae.report import reference


def run(params: Params, check: bool = False) -> None:
    """Writes `docs/parameters.md`, or checks it.

    Args:
        params: All parameters of params.yaml.
        check: Whether to compare the page with the parameters instead of writing it.

    Raises:
        UserError: With `check`, if the page is out of date.
    """
    if check:
        reference.check(params)
    elif reference.write(params):
        print(f"wrote {reference.PAGE}. Commit it together with params.yaml.")
    else:
        print(f"{reference.PAGE} is up to date.")
