"""The stage `fingerprint`: computes hashes of the code on which the results of each kind of DVC stage depend."""

from pathlib import Path

from duvae.project import fingerprint


def run(root: Path = Path()) -> None:
    """Writes `fingerprints.yaml` if the code has changed in a way that can change a result.

    Args:
        root: The project's folder.
    """
    if fingerprint.write(root):
        print(f"wrote {fingerprint.FILE}. Commit it together with the code: 'git diff' shows what will run again.")
    else:
        print(f"{fingerprint.FILE} is up to date.")
