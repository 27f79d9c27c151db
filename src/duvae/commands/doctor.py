"""What is here and what is not, on one screen."""

import sys
from pathlib import Path

from duvae.project import doctor


def run(params: Path, root: Path = Path()) -> None:
    """Prints a line for each finding, and what that means for Figure 1; leaves with 1 where it cannot be rebuilt.

    Args:
        params: The file of parameters, which may be broken.
        root: The project's folder.
    """
    findings = []
    for found in doctor.examine(params, root):
        findings.append(found)
        print(f"{found.mark:>3}  {found.about:<21} {found.said}{f'. {_upper(found.remedy)}' if found.remedy else ''}")
    if any(found.mark == "x" for found in findings):
        print("\nMend what is marked x first: 'dvc repro figure1' needs it.")
        sys.exit(1)
    print("\nAll that 'dvc repro figure1' needs is here.")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
