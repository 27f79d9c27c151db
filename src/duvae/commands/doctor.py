"""The command `doctor`: shows on one screen what a rebuild needs and what is missing."""

import sys
from pathlib import Path

from duvae.project import doctor


def run(params: Path, root: Path = Path()) -> None:
    """Prints one line per check of the project, and then whether Figure 1 can be rebuilt.

    The function `duvae.project.doctor.examine` runs the checks; a `finding` is the outcome of one check.

    Args:
        params: Path of the file of parameters. The file may have mistakes.
        root: The project's folder.

    Raises:
        SystemExit: With status 1, if Figure 1 cannot be rebuilt.
    """
    findings = []
    for finding in doctor.examine(params, root):
        findings.append(finding)
        remedy = f". {_upper(finding.remedy)}" if finding.remedy else ""
        print(f"{finding.status:>3}  {finding.topic:<21} {finding.message}{remedy}")
    if any(finding.status == "x" for finding in findings):
        print("\nCorrect the lines marked x first: 'dvc repro figure1' needs them.")
        sys.exit(1)
    print("\nEverything that 'dvc repro figure1' needs is here.")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
