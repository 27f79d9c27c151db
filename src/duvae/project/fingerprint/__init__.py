"""Fingerprints: hashes of the code that a result depends on, one for each kind of stage.

Stages that train or load a model have a fingerprint for each system. A fingerprint covers every definition that the
stage's function can reach, so that a change of the code makes exactly those results stale that it can change. In
doubt a definition counts: a missed dependency is worse than an unnecessary rerun. The rules are:

- A definition reaches those that it names, also through modules and in annotations.
- A class is reached as a whole, with all its methods. Only of a class of parameters (a pydantic model) a method counts
  when some reached code uses an attribute of that name, and a field that holds other parameters likewise. Of `Params`,
  which holds all of them, only what is read from a variable or attribute of that type counts.
- Of a mapping from names of systems (`SYSTEMS`), the fingerprint of one system covers that system's entry alone.
- A definition that reads files beside its module reaches all data files of the module's package.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

from duvae.errors import UserError
from duvae.project.files import write_text
from duvae.project.fingerprint.closure import Closure
from duvae.project.fingerprint.source import Source

FILE = Path("fingerprints.yaml")
"""The file in the project that holds all fingerprints. Git keeps it, so that a review sees what a change reruns."""

HEADER = """\
# The code that each kind of stage depends on, by system where it trains or loads a model, as one hash each.
# Written by 'duvae fingerprint'; do not edit. A key that changes makes the stages stale that dvc.yaml gives it to.
"""

KINDS: Mapping[str, tuple[str, bool]] = {
    "binarize": ("binarize", False),
    "evaluate": ("evaluate", True),
    "examples": ("examples", False),
    "fetch": ("fetch", False),
    "figure1": ("figure1", False),
    "figure2": ("figure2", False),
    "samples": ("samples", True),
    "graph": ("graph", False),
    "prepare": ("prepare", False),
    "probe": ("probe", True),
    "report": ("report", False),
    "search": ("search", True),
    "train": ("train", True),
    "truth": ("truth", False),
    "validate": ("validate", False),
}
"""For each kind of stage the module of `duvae.commands` that runs it, and whether it is about one system."""

SYSTEMS = ("duvae.systems", "SYSTEMS")
"""The mapping from names to systems."""


class Fingerprints:
    """The fingerprints of a package's source.

    Args:
        folder: The package's folder, `src/duvae`.
    """

    def __init__(self, folder: Path) -> None:
        self.source = Source(folder)

    @cached_property
    def systems(self) -> list[str]:
        """The names of all systems."""
        return list(self.source.definition(*SYSTEMS).entries)

    def closure(self, kind: str, system: str | None = None) -> Closure:
        """What a kind of stage can reach, of one system where it is about one."""
        module, _ = KINDS[kind]

        return Closure(self.source, (f"duvae.commands.{module}", "run"), system, frozenset(self.systems))

    def of(self, kind: str, system: str | None = None) -> str:
        """The fingerprint of a kind of stage, of one system where it is about one."""
        return self.closure(kind, system).digest()

    def all(self) -> dict[str, str | dict[str, str]]:
        """Every fingerprint, as `fingerprints.yaml` has them."""
        return {
            kind: {system: self.of(kind, system) for system in self.systems} if by_system else self.of(kind)
            for kind, (_, by_system) in KINDS.items()
        }


PACKAGE = Path(__file__).parents[2]
"""The folder of the package that runs."""


@lru_cache
def of_this_process(kind: str, system: str | None = None) -> str:
    """The fingerprint of the code that runs now."""
    return Fingerprints(PACKAGE).of(kind, system)


def render(fingerprints: Mapping[str, str | Mapping[str, str]]) -> str:
    """The text of `fingerprints.yaml`."""
    lines = []
    for kind, found in fingerprints.items():
        if isinstance(found, str):
            lines.append(f"{kind}: '{found}'")
        else:
            lines += [f"{kind}:", *(f"  {system}: '{value}'" for system, value in found.items())]

    return HEADER + "\n".join(lines) + "\n"


def write(root: Path = Path()) -> bool:
    """Writes `fingerprints.yaml` into a project where it has changed; returns whether it had.

    Args:
        root: The project's folder. The fingerprints are those of its `src/duvae`; of the package that runs, where the
            project has no source of its own.

    Raises:
        UserError: Where a module cannot be read.
    """
    folder = root / "src" / "duvae"
    if not folder.is_dir():
        folder = PACKAGE
    try:
        text = render(Fingerprints(folder).all())
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{folder}: cannot be read as Python ({' '.join(str(error).split())}).") from error
    path = root / FILE
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)

    return True
