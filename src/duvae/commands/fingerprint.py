"""The stage `fingerprint`: computes hashes of the code that each kind of stage depends on."""

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
