"""Computes fingerprints: hashes of the code that a result depends on.

There is one fingerprint for each kind of stage in dvc.yaml. A kind of stage that trains or loads a model has one
fingerprint for each system (a kind of model, such as `du_vae`). A definition is a function, a class or a constant. A
fingerprint covers every definition that the stage's function can reach. A result is stale if DVC must compute it again.
A change of the code makes a result stale only if the result's fingerprint covers the changed code. If it is not certain
whether code can be reached, the fingerprint covers it: a missed dependency is worse than an unnecessary rerun. The
rules are:

- A definition reaches every definition whose name its code contains. The name may also be an attribute of a module, or
  be in an annotation.
- A fingerprint covers a class as a whole, with all its methods. The exception is a class of parameters (a pydantic
  model), whose members (fields and methods) count separately. To count means to be covered by the fingerprint.
- A member that names another class of parameters counts only if reached code reads an attribute with the member's name,
  or reads all fields at once, for example by `model_dump`. All other members always count.
- The class `Params` holds all parameters. A member of `Params` counts only if reached code reads it from an object of
  this class.
- In a mapping whose keys are names of systems, such as `SYSTEMS`, the fingerprint for one system covers only the value
  for that system.
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
"""Path of the file with all fingerprints.

Git keeps the file. So the review of a change shows which stages must run again because of the change.
"""

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
"""For each kind of stage: the module of `duvae.commands` that runs it, and whether each system has a fingerprint."""

SYSTEMS = ("duvae.systems", "SYSTEMS")
"""Module and name of the mapping whose keys are the names of all systems."""


class Fingerprints:
    """Computes the fingerprints from the source files of the package.

    Args:
        folder: The folder of the package, `src/duvae`.
    """

    def __init__(self, folder: Path) -> None:
        self.source = Source(folder)

    @cached_property
    def systems(self) -> list[str]:
        """The names of all systems."""
        return list(self.source.definition(*SYSTEMS).entries)

    def closure(self, kind: str, system: str | None = None) -> Closure:
        """Finds the closure of a kind of stage: all definitions that the stage's function can reach.

        Args:
            kind: Kind of stage, a key of `KINDS`.
            system: Name of the system whose model the stage trains or loads; None: the closure covers all systems.
        """
        module, _ = KINDS[kind]

        return Closure(self.source, (f"duvae.commands.{module}", "run"), system, frozenset(self.systems))

    def of(self, kind: str, system: str | None = None) -> str:
        """Computes the fingerprint of a kind of stage; the arguments are those of `closure`."""
        return self.closure(kind, system).digest()

    def all(self) -> dict[str, str | dict[str, str]]:
        """Computes all fingerprints by kind of stage, and by system within kinds that train or load a model."""
        return {
            kind: {system: self.of(kind, system) for system in self.systems} if by_system else self.of(kind)
            for kind, (_, by_system) in KINDS.items()
        }


PACKAGE = Path(__file__).parents[2]
"""The folder of the running package."""


@lru_cache
def of_this_process(kind: str, system: str | None = None) -> str:
    """Computes a fingerprint of the running package; the arguments are those of `Fingerprints.closure`."""
    return _of_running_package().of(kind, system)


@lru_cache
def _of_running_package() -> Fingerprints:
    """The fingerprints of the running package, which keep the source that was read: a further one takes little time."""
    return Fingerprints(PACKAGE)


def render(fingerprints: Mapping[str, str | Mapping[str, str]]) -> str:
    """Formats all fingerprints as the text of `fingerprints.yaml`.

    Args:
        fingerprints: All fingerprints, from `Fingerprints.all`.
    """
    lines = []
    for kind, value in fingerprints.items():
        if isinstance(value, str):
            lines.append(f"{kind}: '{value}'")
        else:
            lines += [f"{kind}:", *(f"  {system}: '{one}'" for system, one in value.items())]

    return HEADER + "\n".join(lines) + "\n"


def write(root: Path = Path()) -> bool:
    """Writes `fingerprints.yaml`, if its text has changed.

    Args:
        root: The project's folder. The fingerprints cover the code in its folder `src/duvae`. If there is no such
            folder, they cover the running package.

    Returns:
        Whether the file was out of date and has been written.

    Raises:
        UserError: If a module cannot be read.
    """
    folder = root / "src" / "duvae"
    if not folder.is_dir():
        folder = PACKAGE
    try:
        text = render(Fingerprints(folder).all())
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{folder}: cannot be read as Python ({' '.join(str(error).split())}). Correct it.") from error
    path = root / FILE
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)

    return True
