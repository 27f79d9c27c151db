"""Text data sets: files of documents and a vocabulary become word ids.

A document a line, its words apart by white space; `label<TAB>document` where the file has labels.
"""

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from duvae.config import BuiltVocabulary, Sample, TextFile, TextSource, TextSplit, path_in_folder
from duvae.data.store import END, SPECIALS, START, UNKNOWN, Documents, Prepared, shared
from duvae.errors import UserError

ALIASES = {"<bos>": "<s>", "<eos>": "</s>", "_UNK": "<unk>"}
"""Other files' spellings of the specials."""


@dataclass(frozen=True)
class Lines:
    """The documents of one or more files, words apart by one space, with where each came from.

    Attributes:
        documents: A document an entry.
        labels: -1 where there is none.
        origins: (file, line) of each, the line counted from 1.
    """

    documents: list[str]
    labels: list[int]
    origins: list[tuple[Path, int]]

    def __len__(self) -> int:
        return len(self.documents)

    def only(self, indices: Sequence[int]) -> "Lines":
        return Lines(*([column[i] for i in indices] for column in (self.documents, self.labels, self.origins)))  # type: ignore[arg-type]


def prepare(source: TextSource, folder: Path) -> Prepared:
    """Reads a text data set's files and turns them into word ids.

    Args:
        source: What params.yaml says of it.
        folder: Where its files lie, by their paths.

    Raises:
        UserError: Naming file and line of what cannot be used.
    """
    files = {"train": source.train, "valid": source.valid, "test": source.test, **source.subsets}
    lines = {name: read(chosen, folder) for name, chosen in files.items() if chosen}
    counted: dict[str, Any] = {}
    if source.longer == "leave_out":
        kept = {name: short_enough(split, source.max_words, name) for name, split in lines.items()}
        counted["left_out"] = {name: len(lines[name]) - len(kept[name]) for name in lines}
        lines = kept
    if source.split is not None:
        lines |= divide(lines["train"], source.split)
    lines = {name: lines[name] for name in files}
    vocabulary = read_vocabulary(folder / path_in_folder(source.vocabulary)) if source.vocabulary is not None else []
    sampling = None
    if source.sample is not None:
        held_out = [*lines["valid"].documents, *lines["test"].documents]
        lines["train"], sampling = resample(lines["train"], held_out, vocabulary, source.sample)
        if source.sample.valid is not None:
            lines["valid"] = draw(lines["valid"], source.sample.valid, source.sample.seed)
    if source.build is not None:
        vocabulary, counted["built"] = build_vocabulary(lines["train"], source.build)
    splits = {name: encode(split, vocabulary, source.max_words) for name, split in lines.items()}
    summary: dict[str, Any] = {
        "kind": "text",
        "vocabulary": len(vocabulary),
        "splits": {name: describe(split) for name, split in splits.items()},
        "sample": sampling,
        "shared": {
            name: {
                " or ".join(others): shared(splits[name], *(splits[other] for other in others))
                for others in (("train",), ("valid",), ("test",), ("valid", "test"))
                if name not in others
            }
            for name in splits
        },
        "files": {path: sha256((folder / path_in_folder(path)).read_bytes()).hexdigest() for path in source.paths},
        **counted,
    }

    return Prepared(vocabulary, splits, summary)


def short_enough(lines: Lines, max_words: int, split: str) -> Lines:
    """The documents of at most `max_words` words.

    Raises:
        UserError: Where there are none.
    """
    kept = [index for index, document in enumerate(lines.documents) if document.count(" ") < max_words]
    if not kept:
        path, _ = lines.origins[0]
        raise UserError(f"{path}: expected a document of at most {max_words} words (max_words) in {split}; found none.")

    return lines.only(kept)


def divide(lines: Lines, split: TextSplit) -> dict[str, Lines]:
    """Training, and those of validation and test that have a share, all copies of a document in one of them.

    Args:
        lines: All documents.
        split: The shares of the distinct ones, and the seed.

    Raises:
        UserError: Where a share has no document, or none is left for training.
    """
    number = {document: index for index, document in enumerate(dict.fromkeys(lines.documents))}
    order = np.random.default_rng(split.seed).permutation(len(number))
    shares = {name: share for name in ("valid", "test") if (share := getattr(split, name)) is not None}
    sizes = {name: round(share * len(number)) for name, share in shares.items()}
    if 0 in sizes.values() or sum(sizes.values()) >= len(number):
        wanted = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"params.yaml: source.split: expected shares that give each split a document; found {wanted} of"
            f" {len(number)} different documents. Change the shares, or give more documents."
        )
    names = ["train"] * len(number)
    taken = iter(order.tolist())
    for name, size in sizes.items():
        for _ in range(size):
            names[next(taken)] = name
    members: dict[str, list[int]] = {name: [] for name in ("train", *sizes)}
    for index, document in enumerate(lines.documents):
        members[names[number[document]]].append(index)

    return {name: lines.only(indices) for name, indices in members.items()}


def draw(lines: Lines, size: int, seed: int) -> Lines:
    """So many of the documents, in their order."""
    if size > len(lines):
        raise UserError(
            f"params.yaml: source.sample.valid: expected at most {len(lines)}, all there are; found {size}."
        )

    return lines.only(np.sort(np.random.default_rng(seed).choice(len(lines), size, replace=False)).tolist())


def build_vocabulary(lines: Lines, build: BuiltVocabulary) -> tuple[list[str], dict[str, int]]:
    """The specials, then the documents' words, the most frequent first, of the same frequency in alphabetical order.

    Args:
        lines: The training documents.
        build: How many words, and how often each has to occur.

    Returns:
        The vocabulary, and what was counted on the way.

    Raises:
        UserError: Where no word is frequent enough.
    """
    times: Counter[str] = Counter()
    for document in lines.documents:
        times.update(document.split(" "))
    for special in (*SPECIALS, *ALIASES):
        times.pop(special, None)
    frequent = sorted((word for word, count in times.items() if count >= build.at_least), key=lambda w: (-times[w], w))
    if not frequent:
        raise UserError(
            f"params.yaml: source.build.at_least: expected a word that occurs {build.at_least} times in the training"
            f" documents; the most frequent one occurs {max(times.values(), default=0)} times."
        )
    counted = {"distinct": len(times), "frequent": len(frequent), "kept": min(build.most, len(frequent))}

    return [*SPECIALS, *frequent[: build.most]], counted


def read(files: Sequence[TextFile], folder: Path) -> Lines:
    """The documents of several files, one after another."""
    lines = Lines([], [], [])
    for file in files:
        more = read_documents(folder / path_in_folder(file.path), file.label)
        lines.documents.extend(more.documents)
        lines.labels.extend(more.labels)
        lines.origins.extend(more.origins)

    return lines


def read_documents(path: Path, label: int | None = None, raw: bytes | None = None) -> Lines:
    """Reads one file of documents.

    Args:
        path: The file, in UTF-8.
        label: Of all its documents; None: each line has its own, or none has.
        raw: What was read already, of what is no file; `path` is then what errors call it.

    Raises:
        UserError: For an empty file or document, a label that is missing or not a whole number, bad UTF-8.
    """
    rows = _lines(path, raw)
    labelled = label is None and "\t" in rows[0]
    lines = Lines([], [], [])
    for number, row in enumerate(rows, 1):
        given, tab, document = row.partition("\t")
        if bool(tab) != labelled:
            raise _wrong(path, number, *_label_fault(label, labelled, row))
        if not labelled:
            document = given
        elif not re.fullmatch(r"[0-9]+", given.strip()):
            raise _wrong(path, number, "a label that is a whole number, 0 or more, before the tab", repr(given))
        words = document.split()
        if not words:
            raise _wrong(path, number, "a document", "an empty one", "Delete the line.")
        lines.documents.append(" ".join(words))
        lines.labels.append(int(given) if labelled else -1 if label is None else label)
        lines.origins.append((path, number))

    return lines


def read_vocabulary(path: Path) -> list[str]:
    """Reads a vocabulary: a word a line, `word<TAB>id` allowed, the four specials first.

    Raises:
        UserError: Where the specials are not first, a word stands twice, or an id is not its line's.
    """
    words: list[str] = []
    lines_of: dict[str, int] = {}
    for number, row in enumerate(_lines(path), 1):
        word, tab, identity = row.partition("\t")
        if tab and identity.strip() != str(number - 1):
            raise _wrong(path, number, f"the id {number - 1} after the tab (they count from 0)", repr(identity))
        if number <= len(SPECIALS):
            word = ALIASES.get(word, word)
            if word != SPECIALS[number - 1]:
                raise _wrong(path, number, f"{SPECIALS[number - 1]} (first come {', '.join(SPECIALS)})", repr(word))
        if word.split() != [word]:
            raise _wrong(path, number, "one word without white space", repr(word))
        first = lines_of.setdefault(ALIASES.get(word, word), number)
        if first != number:
            raise _wrong(path, number, "each word once", f"{word!r}, which stands on line {first} already")
        words.append(word)
    if len(words) <= len(SPECIALS):
        raise UserError(f"{path}: expected words after the specials {', '.join(SPECIALS)}; found none.")

    return words


def resample(
    lines: Lines, held_out: Sequence[str], vocabulary: Sequence[str], sample: Sample
) -> tuple[Lines, dict[str, int]]:
    """Draws training documents that are unique, under one label only and none of the held-out ones.

    Documents are compared as they are written, and with the held-out ones once more with `<unk>` for
    each word that the vocabulary lacks, since the held-out files may have it so already.

    Args:
        lines: What is drawn from.
        held_out: The documents of validation and test.
        vocabulary: The known words; none where the vocabulary is still to be made.
        sample: How many, and the seed.

    Returns:
        The documents, in the order of their first occurrence, and what was counted on the way.
    """
    known = set(vocabulary)
    first: dict[str, int] = {}
    labels: dict[str, set[int]] = {}
    for index, (document, label) in enumerate(zip(lines.documents, lines.labels, strict=True)):
        first.setdefault(document, index)
        labels.setdefault(document, set()).add(label)
    single = [document for document in first if len(labels[document]) == 1]
    written = set(held_out)
    apart = [document for document in single if document not in written]
    mapped = {_mapped(document, known) for document in written} if known else set()
    left = [document for document in apart if not known or _mapped(document, known) not in mapped]
    counted = {
        "lines": len(lines),
        "duplicates": len(lines) - len(first),
        "under_two_labels": len(first) - len(single),
        "in_valid_or_test": len(single) - len(apart),
        "in_valid_or_test_with_unknown_words": len(apart) - len(left),
        "left": len(left),
        "drawn": sample.size,
        "seed": sample.seed,
    }
    if len(left) < sample.size:
        why = ", ".join(f"{key} {counted[key]}" for key in ("duplicates", "under_two_labels", "in_valid_or_test"))
        raise UserError(
            f"params.yaml: source.sample.size: expected at most {len(left)}, the documents that are left of"
            f" {len(lines)} lines ({why}); found {sample.size}."
        )
    drawn = np.sort(np.random.default_rng(sample.seed).choice(len(left), sample.size, replace=False))

    return lines.only([first[left[i]] for i in drawn]), counted


def encode(lines: Lines, vocabulary: Sequence[str], max_words: int) -> Documents:
    """Words to ids, `<s>` before and `</s>` after each document.

    A word that the vocabulary lacks becomes `<unk>`, and so do `<unk>` and `_UNK` themselves.

    Raises:
        UserError: For a document of more than `max_words` words (cut, its likelihood would be another's),
            or with a `<pad>`, `<s>` or `</s>` inside.
    """
    ids = {word: i for i, word in enumerate(vocabulary)}
    ids |= {alias: ids[special] for alias, special in ALIASES.items()}
    tokens = array("i")
    offsets = np.zeros(len(lines) + 1, np.int64)
    for index, document in enumerate(lines.documents):
        words = document.split(" ")
        if len(words) > max_words:
            raise _wrong(
                *lines.origins[index],
                f"at most {max_words} words (max_words in params.yaml)",
                f"{len(words)}",
                "Raise max_words, shorten or delete the line, or set longer: leave_out. Documents are not cut.",
            )
        tokens.append(START)
        tokens.extend([ids.get(word, UNKNOWN) for word in words])
        tokens.append(END)
        offsets[index + 1] = len(tokens)
    joined = np.array(tokens, np.int32)
    marks = np.flatnonzero(joined < UNKNOWN)
    if len(marks) != 2 * len(lines):  # two a document, unless one holds such a word itself
        counts = np.add.reduceat((joined < UNKNOWN).astype(np.int64), offsets[:-1])
        index = int(np.flatnonzero(counts != 2)[0])
        names = [*SPECIALS[:UNKNOWN], *(alias for alias in ALIASES if ids[alias] != UNKNOWN)]
        raise _wrong(
            *lines.origins[index],
            f"words; {', '.join(names)} are put around documents, not written inside them",
            repr(lines.documents[index]),
        )

    return Documents(joined, offsets, np.array(lines.labels, np.int64))


def describe(documents: Documents) -> dict[str, Any]:
    """What a split holds: documents, distinct ones, words, unknown words, labels."""
    words = documents.lengths - 2
    unknown = int(np.count_nonzero(documents.tokens == UNKNOWN))
    labels = Counter(int(label) for label in documents.labels if label >= 0)

    return {
        "documents": len(documents),
        "distinct": len(set(documents.contents())),
        "words": int(words.sum()),
        "words_min": int(words.min()),
        "words_mean": round(float(words.mean()), 4),
        "words_max": int(words.max()),
        "unknown": unknown,
        "unknown_rate": round(unknown / int(words.sum()), 6),
        "labels": {str(label): labels[label] for label in sorted(labels)},
    }


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What became of documents and words that could not be taken as they are, a sentence a split."""
    said = [
        f"{count:,} document{'s' if count > 1 else ''} of {name} longer than max_words left out"
        for name, count in summary.get("left_out", {}).items()
        if count
    ]
    for name, split in summary["splits"].items():
        if split["unknown"]:
            share = f"{split['unknown']:,} of the {split['words']:,} words of {name} ({split['unknown_rate']:.2%})"
            said.append(f"{share} are not in the vocabulary, and are {SPECIALS[UNKNOWN]}")

    return said


def _mapped(document: str, known: set[str]) -> str:
    """The document as the vocabulary sees it."""
    return " ".join(word if word in known else SPECIALS[UNKNOWN] for word in document.split(" "))


def _lines(path: Path, raw: bytes | None = None) -> list[str]:
    """The lines of a UTF-8 file; a line ends with a line feed and nothing else."""
    try:
        raw = path.read_bytes() if raw is None else raw
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). 'duvae fetch' brings it there.") from error
    if not raw.strip():
        raise UserError(f"{path}: expected a line or more; the file is empty.")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{raw[error.start]:02x}"
        raise _wrong(path, number, "UTF-8", found, "Convert the file.") from error
    rows = content.split("\n")
    if not rows[-1]:
        rows.pop()

    return [row.removesuffix("\r") for row in rows]


def _label_fault(label: int | None, labelled: bool, row: str) -> tuple[str, str]:
    shown = repr(row if len(row) <= 60 else row[:60] + "…")
    if label is not None:
        return f"a document without a tab, since params.yaml gives the whole file the label {label}", shown
    if labelled:
        return "label<TAB>document, as on line 1", f"no label in {shown}"

    return "a document without a label, as on line 1", f"a tab in {shown}"


def _wrong(path: Path, line: int, expected: str, found: str, remedy: str = "") -> UserError:
    return UserError(f"{path}, line {line}: expected {expected}; found {found}.{' ' + remedy if remedy else ''}")
