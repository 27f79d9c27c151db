"""Reads data sets and settings of the user from files of their own, and creates the project in which they run.

A file `datasets/NAME.yaml` declares the data set NAME, and a file `settings/NAME.yaml` the setting NAME. Such a file
holds what would stand below the name in params.yaml. A data set of the kind `text` or `images` needs only the keys that
differ from `own_defaults.yaml`. Git ignores both folders, so that private names stay private.

A data set runs in a private project (see `duvae.project.private`), whose params.yaml holds this data set alone.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from duvae import config
from duvae.config import Params, changes
from duvae.config.places import Key, Place, read_file
from duvae.data import sources
from duvae.errors import UserError
from duvae.messages import show, unknown
from duvae.project import private

DATASETS, SETTINGS = Path("datasets"), Path("settings")
"""Folders of the user's files, below the folder of the project. The name of a file is the name of what it declares."""

DEFAULTS = Path(__file__).with_name("own_defaults.yaml")
"""Values of data sets of the user, by kind."""

NAME = re.compile("[a-z0-9_]{1,60}")
"""Form of the name of a data set or setting, as in params.yaml."""

SHARED = ("threads", "precision", "checkpoint_seconds", "evaluation", "exact", "probe", "generation")
"""Keys of params.yaml that hold for every data set. A private project takes their values from the main project."""


class Selection(NamedTuple):
    """What to run: one data set with some settings and seeds.

    Attributes:
        dataset: Name of a file in `datasets`, or of an entry of `datasets` in params.yaml.
        settings: Names of files in `settings`, or of entries of `settings` in params.yaml.
        seeds: Seeds of the trainings of each setting.
        changes: Changes of single values, each as `KEY=VALUE` (see `duvae.config.changes`).
    """

    dataset: str
    settings: Sequence[str]
    seeds: Sequence[int] = (1,)
    changes: Sequence[str] = ()


class Declaration(NamedTuple):
    """What a file of the user declares.

    Attributes:
        content: Content of the file.
        place: The file, for messages.
    """

    content: dict[str, Any]
    place: Place


def read(folder: Path, root: Path = Path()) -> dict[str, Declaration]:
    """Reads all files of a folder of the user.

    Args:
        folder: Path of the folder below the project: `DATASETS` or `SETTINGS`.
        root: Folder of the project.

    Returns:
        The declarations by name, in alphabetical order; empty if the folder does not exist.

    Raises:
        UserError: If a file cannot be read or is no mapping.
    """
    declarations = {}
    for path in sorted((root / folder).glob("*.yaml")):
        if not NAME.fullmatch(path.stem):
            raise UserError(
                f"{folder / path.name}: expected a name of at most 60 lower-case letters, digits and _; found"
                f" {show(path.stem)}. Rename the file."
            )
        content, line_numbers = read_file(path, ["kind", "source"] if folder == DATASETS else ["system"])
        declarations[path.stem] = Declaration(content, Place(str(folder / path.name), 2, line_numbers))

    return declarations


def with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the default values to a data set.

    A mapping keeps the keys that the defaults lack, and a list replaces the default list. A default split or vocabulary
    is left out if the data set has files for it.

    Args:
        content: What the user's file holds.

    Returns:
        The complete entry of params.yaml. If the kind is neither `text` nor `images`, it is `content` itself.
    """
    kind, source = content.get("kind"), content.get("source")
    defaults = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    if kind not in defaults:
        return dict(content)
    default = defaults[kind]
    if not isinstance(source, Mapping):
        del default["source"]  # nothing in it can stand for the files of the user
    elif kind == "images":
        default["networks"]["size"] = source.get("size", default["source"]["size"])
    else:
        _leave_out(default["source"], source)

    merged: dict[str, Any] = _merged(default, content)
    return merged


def _leave_out(default: dict[str, Any], source: Mapping[str, Any]) -> None:
    """Deletes those default values of a text's `source` that its own values replace."""
    for split in ("valid", "test"):
        if source.get(split):
            del default["split"][split]
    if source.get("sample") or not default["split"].keys() - {"seed"}:
        del default["split"]
    if source.get("vocabulary"):
        del default["build"]


def _merged(default: Any, own: Any) -> Any:
    """The user's value, with the default values of the keys that it lacks."""
    if not isinstance(default, Mapping) or not isinstance(own, Mapping):
        return own

    return {**default, **{key: _merged(default.get(key), value) for key, value in own.items()}}


def private_path(path: str) -> str:
    """The path of a file of the user, as seen from the folder of a private project.

    Args:
        path: Path in the user's file. A relative path starts at the folder of the main project. The path of a published
            file, which `duvae fetch` gets from a mirror or the internet, stays as it is.
    """
    if path in sources.SOURCES or PurePosixPath(path).is_absolute():
        return path

    return str(PurePosixPath("..", "..", path))


def _with_private_paths(value: Any) -> Any:
    """Replaces the paths of the user's files inside a data set's `source` (see `private_path`)."""
    if isinstance(value, list):
        return [_with_private_paths(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    keys = ("path", "vocabulary")

    return {
        key: private_path(inside) if key in keys and isinstance(inside, str) else _with_private_paths(inside)
        for key, inside in value.items()
    }


def compose(
    selection: Selection, root: Path = Path(), file: Path = Path("params.yaml")
) -> tuple[dict[str, Any], Params]:
    """Composes the params.yaml of the project in which a data set runs.

    Args:
        selection: The data set, the settings and the seeds.
        root: Folder of the main project.
        file: The main project's file of parameters.

    Returns:
        The content of the params.yaml, and the same content as checked parameters.

    Raises:
        UserError: If a file has a mistake or a name is unknown. The message names the file and the line.
    """
    name, settings, seeds, asked = selection
    params = config.load(file)
    main, _ = read_file(file, list(Params.model_fields))
    own_datasets, own_settings = read(DATASETS, root), read(SETTINGS, root)
    for kind, own, entries in (
        ("datasets", own_datasets, params.datasets),
        ("settings", own_settings, params.settings),
    ):
        if twice := sorted(own.keys() & entries.keys()):
            raise UserError(
                f"{kind}/{twice[0]}.yaml: expected a name that {file} does not have in {kind}; '{twice[0]}' is there."
                " Rename your file."
            )
    places: dict[Key, Place] = {("datasets", each): declaration.place for each, declaration in own_datasets.items()}
    places |= {("settings", each): declaration.place for each, declaration in own_settings.items()}
    content: dict[str, Any] = {
        "run": {"datasets": [name], "settings": list(settings), "seeds": list(seeds)},
        "runs": {},
        "figure1": None,
        **{key: main[key] for key in SHARED if key in main},
        "datasets": {name: _dataset(name, own_datasets, main, root)},
        "settings": {each: _setting(each, own_settings, main) for each in settings},
        "setting_grids": {},
        "studies": {},
    }
    changed, changed_places = changes.applied(content, asked, name)
    checked = config.parse(changed, str(file), None, places | changed_places)
    for each in settings:
        checked.job(name, each, seeds[0])

    return changed, checked


def _dataset(name: str, own: Mapping[str, Declaration], main: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The complete entry of a data set, with the paths of its files as seen from the private project."""
    if name in own:
        content = with_defaults(own[name].content)
    elif name in main["datasets"]:
        content = main["datasets"][name]
    else:
        places = [*own, *main["datasets"]]
        raise UserError(
            f"{unknown('data set', name, places)}. Write {root / DATASETS / name}.yaml, or run 'duvae new PATH', which"
            " writes such a file."
        )

    return {key: _with_private_paths(value) if key == "source" else value for key, value in content.items()}


def _setting(name: str, own: Mapping[str, Declaration], main: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a setting. A setting that takes its hyperparameters from a study is refused."""
    if name in own:
        content: dict[str, Any] = own[name].content
    elif name in main["settings"]:
        content = main["settings"][name]
    else:
        raise UserError(f"{unknown('setting', name, [*own, *main['settings']])}. Choose one of them.")
    columns = content.get("columns")
    studies = [values for values in columns.values() if "study" in (values or ())] if isinstance(columns, dict) else []
    if studies:
        raise UserError(
            f"setting {show(name)}: expected hyperparameters of its own; it takes them from the study"
            f" {show(studies[0]['study'])}. Write its values into {SETTINGS / name}_own.yaml, and choose '{name}_own'."
        )

    return content


def folder(name: str, root: Path = Path()) -> Path:
    """The folder of the private project of a data set, whether it exists or not."""
    return root / private.FOLDER / name
