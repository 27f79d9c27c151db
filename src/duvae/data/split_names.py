"""Recognizes the splits train, valid and test by the names that users give them.

A user who names a folder or an array `train` or `Val` means a split. If such names were not recognized, test examples
would be drawn for training. So a name that looks like a split is either used as that split, or is an error.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from duvae.errors import UserError
from duvae.messages import show_name

SPLITS = ("train", "valid", "test")

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev", "development"),
    "test": ("test", "testing"),
}
"""Accepted names of each split. Capital letters are accepted too."""

_ALIKE = re.compile(
    r"((?P<train>train(ing)?|trn)|(?P<valid>val(id|idation|idate)?|dev(el|elopment)?)"
    r"|(?P<test>test(ing)?|tst|eval(uation)?|heldout|holdout))"
    r"(s|set|sets|data|dataset|images?|imgs?|pictures?|pics|split|folder|files?|[a-d])?"
)
"""Names that look like a split, in small letters, without digits and signs."""

_LATIN = str.maketrans(
    "\u0430\u0435\u0456\u0458\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0501\u0410\u0415\u0406\u041e\u0420\u0421\u0422\u0405"
    "\u03b1\u03b5\u03b9\u03bd\u03bf\u03c4\u0391\u0395\u0399\u039d\u039f\u03a4\u0131",
    "aeijopctyxsdAEIOPCTSaeivotAEINOTi",
)
"""The Latin letters that some Cyrillic and Greek letters look like."""


def split_of(name: str) -> str | None:
    """The split that a name stands for; None if the name is not an accepted spelling of a split."""
    small = name.casefold()

    return next((split for split, spellings in SPELLINGS.items() if small in spellings), None)


def looks_like_split(name: str) -> bool:
    """Whether a name is a spelling of a split, or resembles one, such as `Test set`, `train_2` or `eval`."""
    return _alike(name) is not None


def _alike(name: str) -> str | None:
    """The split that a name resembles; None if it resembles none."""
    found = _ALIKE.fullmatch(re.sub(r"[^a-z]", "", _in_latin(name).casefold()))

    return None if found is None else next(split for split in SPLITS if found[split])


def _in_latin(name: str) -> str:
    """A name in Latin letters: full-width letters, letters with accents and letters that look alike are replaced."""
    letters = unicodedata.normalize("NFKD", name).translate(_LATIN)

    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]*[a-z]+|[A-Z]+", _in_latin(name))


def _word_of_split(name: str) -> str | None:
    """The split that a word inside a name stands for, such as `train` for `photos_train`; None without such a word."""
    return next((split for word in _words(name) if (split := _alike(word))), None)


def _extends_another(names: Iterable[str]) -> bool:
    """Whether a name is another name with the word of a split, such as `photos_test` beside `photos`."""
    words = [tuple(word.casefold() for word in _words(name)) for name in names]
    shorter = [tuple(word for word in each if not _alike(word)) for each in words]

    return any(less and less != each and less in words for each, less in zip(words, shorter, strict=True))


def named_splits(names: Iterable[str], where: str, kind: str) -> dict[str, str] | None:
    """Finds the names of the three splits.

    Args:
        names: All names at one place, such as the folders inside a folder.
        where: The place, for errors.
        kind: What the names belong to, for errors, such as `folders`.

    Returns:
        The name of each split; None if no name looks like a split.

    Raises:
        UserError: If a name looks like a split, but the names are not exactly those of the three splits.
    """
    found = sorted(set(names))
    of_words = {split for name in found if (split := _word_of_split(name))}
    if not any(looks_like_split(name) for name in found) and len(of_words) < 2 and not _extends_another(found):
        return None
    splits = {split: name for name in found if (split := split_of(name))}
    if len(found) != len(SPLITS) or set(splits) != set(SPLITS):
        listed = [show_name(name) or "files beside the folders" for name in found[:20]] + ["…"] * (len(found) > 20)
        raise UserError(
            f"{where}: expected exactly the {kind} train, valid and test, or no name that looks like a split;"
            f" found {', '.join(listed)}. Rename or move the {kind}, so that no test example is trained on."
        )

    return {split: splits[split] for split in SPLITS}


def misplaced(files: Mapping[str, Iterable[str]]) -> list[str]:
    """Writes a warning for each file that stands under one split, while its name stands for another one.

    Args:
        files: Paths of the files of each split.

    Returns:
        The warnings; empty if all names fit.
    """
    warnings = []
    for split, paths in files.items():
        for path in paths:
            named = {found for word in _words(PurePosixPath(path).name) if (found := _alike(word))}
            if named and split not in named:
                warnings.append(
                    f"params.yaml names {path} under {split}, but the name says {' or '.join(sorted(named))}. Move it"
                    " there, unless it is meant"
                )

    return warnings


def refuse_splits_inside(folders: Iterable[PurePosixPath], where: str) -> None:
    """Checks that no folder has splits inside it, such as `cat/train` and `cat/test`.

    Args:
        folders: Paths of all folders that hold files, relative to `where`, without the folder of their split.
        where: The place, for errors.

    Raises:
        UserError: If two names inside one folder stand for different splits.
    """
    inside: dict[PurePosixPath, set[str]] = {}
    for folder in folders:
        for path in (folder, *folder.parents):
            if path != path.parent:
                inside.setdefault(path.parent, set()).add(path.name)
    for parent, names in inside.items():
        splits = {split: name for name in names if (split := _word_of_split(name))}
        if len(splits) > 1:
            raise UserError(
                f"{where}: expected the folders train, valid and test at the top; found"
                f" {', '.join(f'{parent / name}' for name in sorted(splits.values()))}. Move the folders of the splits"
                " to the top, with the folders of the classes inside them."
            )
