"""Changes single values of the parameters, as the option `--set KEY=VALUE` of the command line asks for.

A key is the path of a value in params.yaml, with dots between its parts: `datasets.synthetic.optimisation.epochs`. If a
command works on one data set, a key may also begin below this data set: `optimisation.epochs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from duvae.config import yaml_text
from duvae.config.params import Params
from duvae.config.places import Key, Place
from duvae.errors import UserError
from duvae.messages import show, unknown

FORM = "Write --set KEY=VALUE, such as --set optimisation.epochs=5."


def applied(
    content: Mapping[str, Any], changes: Sequence[str], dataset: str | None = None
) -> tuple[dict[str, Any], dict[Key, Place]]:
    """Changes values in the content of params.yaml.

    Args:
        content: Content of the file, which stays as it is. Several of its keys can share one object (a YAML anchor);
            a change of one key leaves the others as they are.
        changes: The changes, each as `KEY=VALUE`. The value is read as YAML.
        dataset: Name of the data set below which a key may begin; None: each key begins at the top.

    Returns:
        The changed content, and the place of each changed value for messages: the option of the command line.

    Raises:
        UserError: If a change has no `=`, if its value is not YAML, or if its key is in no part of the content.
    """
    result, places = dict(content), dict[Key, Place]()
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not all(name.split(".")):
            raise UserError(f"--set {name}: expected a key, '=' and a value. {FORM}")
        key = _key(content, name, dataset)
        try:
            value, _ = yaml_text.read(text)
        except yaml.YAMLError as error:
            raise UserError(
                f"--set {name}: expected a value in YAML, such as 5, 0.1 or true; found {show(text)}"
                f" ({yaml_text.describe(error)[1]}). Correct the value."
            ) from error
        _change(result, key, value, name)
        places[key] = Place(f"--set {name}={text}", len(key))

    return result, places


def _key(content: Mapping[str, Any], name: str, dataset: str | None) -> Key:
    """The path of a key from the top of params.yaml."""
    key = tuple(name.split("."))
    below = content.get("datasets", {}).get(dataset, {}) if dataset is not None else {}
    if dataset is not None and key[0] not in content and isinstance(below, Mapping) and key[0] in below:
        return "datasets", dataset, *key
    if key[0] not in content and key[0] not in Params.model_fields:
        raise UserError(f"--set {name}: {unknown('key', key[0], [*content, *below])}. {FORM}")

    return key


def _change(content: dict[str, Any], key: Key, value: Any, name: str) -> None:
    """Replaces one value. Each mapping and list above the value is copied, because other keys may share it."""
    inside: Any = content
    for part, following in zip(key, [*key[1:], None], strict=True):
        index = _index(inside, part, name, new=following is None)
        if following is None:
            inside[index] = value
            return
        inner = inside[index]
        if not isinstance(inner, dict | list):
            raise UserError(f"--set {name}: expected a key of a value; {part} is {show(inner)}, which has no keys.")
        inside[index] = dict(inner) if isinstance(inner, dict) else list(inner)
        inside = inside[index]


def _index(inside: Any, part: str, name: str, new: bool) -> Any:
    """The index of a part of a key in a mapping or a list. If `new`, a mapping may lack the key."""
    if isinstance(inside, list):
        if part.isdecimal() and int(part) < len(inside):
            return int(part)
        raise UserError(f"--set {name}: expected a number from 0 to {len(inside) - 1}; found {show(part)}.")
    if part not in inside and not new:
        raise UserError(f"--set {name}: {unknown('key', part, list(inside))}. {FORM}")

    return part
