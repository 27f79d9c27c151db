"""Reads files of documents, and converts them to splits of a text data set. A split holds the words as word ids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from duvae.config import Sample, TextSource, TextSplit, path_in_folder
from duvae.data.corpus import Corpus, read_corpus
from duvae.data.splits import SPECIALS, UNKNOWN, Documents, count_shared
from duvae.data.store import Prepared
from duvae.data.vocabulary import build_vocabulary, read_vocabulary, word_ids
from duvae.errors import UserError


def prepared_text(source: TextSource, folder: Path) -> Prepared:
    """Reads the files of a text data set, and converts their documents to word ids.

    Args:
        source: The data set's `source` in params.yaml.
        folder: Folder into which `duvae fetch` copied the files.

    Raises:
        UserError: If a file cannot be used; the message names the file and the line.
    """
    files = {"train": source.train, "valid": source.valid, "test": source.test, **source.subsets}
    corpora = {name: read_corpus(listed, folder) for name, listed in files.items() if listed}
    warnings_of_files = list(dict.fromkeys(each for corpus in corpora.values() for each in corpus.warnings))
    counts: dict[str, Any] = {}
    if source.longer == "leave_out":
        short = {name: without_long_documents(corpus, source.max_words, name) for name, corpus in corpora.items()}
        counts["left_out"] = {name: len(corpora[name]) - len(short[name]) for name in corpora}
        corpora = short
    if source.split is not None:
        corpora |= split_by_shares(corpora["train"], source.split)
    corpora = {name: corpora[name] for name in files}
    vocabulary = read_vocabulary(folder / path_in_folder(source.vocabulary)) if source.vocabulary is not None else []
    sample_counts = None
    if source.sample is not None:
        held_out = [*corpora["valid"].documents, *corpora["test"].documents]
        corpora["train"], sample_counts = training_sample(corpora["train"], held_out, vocabulary, source.sample)
        if source.sample.valid is not None:
            corpora["valid"] = validation_sample(corpora["valid"], source.sample.valid, source.sample.seed)
    if source.build is not None:
        vocabulary, counts["built"] = build_vocabulary(corpora["train"], source.build)
    splits = {name: word_ids(corpus, vocabulary, source.max_words) for name, corpus in corpora.items()}
    summary: dict[str, Any] = {
        "kind": "text",
        "vocabulary": len(vocabulary),
        "splits": {name: describe(split) for name, split in splits.items()},
        "sample": sample_counts,
        "shared": {
            name: {
                " or ".join(others): count_shared(splits[name], *(splits[other] for other in others))
                for others in (("train",), ("valid",), ("test",), ("valid", "test"))
                if name not in others
            }
            for name in splits
        },
        "files": {path: sha256((folder / path_in_folder(path)).read_bytes()).hexdigest() for path in source.paths},
        "warnings": warnings_of_files,
        **counts,
    }

    return Prepared(vocabulary, splits, summary)


def without_long_documents(corpus: Corpus, max_words: int, split: str) -> Corpus:
    """Selects the documents of at most `max_words` words.

    Args:
        corpus: Documents of one split.
        max_words: Largest number of words of a document.
        split: Name of the split, for the error message.

    Raises:
        UserError: If no document is left.
    """
    indices = [index for index, document in enumerate(corpus.documents) if document.count(" ") < max_words]
    if not indices:
        path, _ = corpus.origins[0]
        raise UserError(
            f"{path}: expected a document of at most {max_words} words (max_words) in {split}; found none."
            " Raise max_words, or give shorter documents."
        )

    return corpus.only(indices)


def split_by_shares(corpus: Corpus, split: TextSplit) -> dict[str, Corpus]:
    """Draws validation and test documents from the training files.

    All copies of a document go to the same split.

    Args:
        corpus: All documents of the training files.
        split: Shares of the distinct documents, and the seed of the draw.

    Returns:
        Documents of each split: always `train`, and `valid` or `test` if the argument `split` gives a share for it.

    Raises:
        UserError: If one of these splits would have no document.
    """
    number = {document: index for index, document in enumerate(dict.fromkeys(corpus.documents))}
    order = np.random.default_rng(split.seed).permutation(len(number))
    shares = {name: share for name in ("valid", "test") if (share := getattr(split, name)) is not None}
    sizes = {name: round(share * len(number)) for name, share in shares.items()}
    if 0 in sizes.values() or sum(sizes.values()) >= len(number):
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"params.yaml: source.split: expected shares that give each split at least one document; found {shown} of"
            f" {len(number)} different documents. Change the shares, or give more documents."
        )
    names = ["train"] * len(number)
    remaining = iter(order.tolist())
    for name, size in sizes.items():
        for _ in range(size):
            names[next(remaining)] = name
    members: dict[str, list[int]] = {name: [] for name in ("train", *sizes)}
    for index, document in enumerate(corpus.documents):
        members[names[number[document]]].append(index)

    return {name: corpus.only(indices) for name, indices in members.items()}


def validation_sample(corpus: Corpus, size: int, seed: int) -> Corpus:
    """Draws `size` validation documents. The drawn documents keep their order in `corpus`.

    Args:
        corpus: All validation documents.
        size: Number of documents to draw.
        seed: Seed of the draw.

    Raises:
        UserError: If there are fewer than `size` documents.
    """
    if size > len(corpus):
        raise UserError(
            f"params.yaml: source.sample.valid: expected at most {len(corpus)}, the number of validation documents;"
            f" found {size}. Lower it, or set null for all."
        )

    return corpus.only(np.sort(np.random.default_rng(seed).choice(len(corpus), size, replace=False)).tolist())


def training_sample(
    corpus: Corpus, held_out: Sequence[str], vocabulary: Sequence[str], sample: Sample
) -> tuple[Corpus, dict[str, int]]:
    """Draws training documents that are distinct, have one label only, and are not in validation or test.

    Two documents are equal if they have the same words in the same order. If the vocabulary is known, training
    documents are compared with validation and test documents a second time, after `<unk>` has replaced all unknown
    words. The reason is that the files for validation and test may already have `<unk>` in the place of unknown words.

    Args:
        corpus: Documents to draw from.
        held_out: Validation and test documents.
        vocabulary: Known words; empty if the vocabulary is built from the drawn documents later.
        sample: Number of documents to draw, and the seed of the draw.

    Returns:
        The documents in the order of their first occurrence, and counts of the left-out documents for `summary.json`.

    Raises:
        UserError: If too few documents are left.
    """
    known = set(vocabulary)
    first: dict[str, int] = {}
    labels: dict[str, set[int]] = {}
    for index, (document, label) in enumerate(zip(corpus.documents, corpus.labels, strict=True)):
        first.setdefault(document, index)
        labels.setdefault(document, set()).add(label)
    one_label = [document for document in first if len(labels[document]) == 1]
    held_out_documents = set(held_out)
    apart = [document for document in one_label if document not in held_out_documents]
    masked = {_mask_unknown(document, known) for document in held_out_documents} if known else set()
    left = [document for document in apart if not known or _mask_unknown(document, known) not in masked]
    counts = {
        "lines": len(corpus),
        "duplicates": len(corpus) - len(first),
        "under_two_labels": len(first) - len(one_label),
        "in_valid_or_test": len(one_label) - len(apart),
        "in_valid_or_test_with_unknown_words": len(apart) - len(left),
        "left": len(left),
        "drawn": sample.size,
        "seed": sample.seed,
    }
    if len(left) < sample.size:
        why = ", ".join(f"{key} {counts[key]}" for key in ("duplicates", "under_two_labels", "in_valid_or_test"))
        raise UserError(
            f"params.yaml: source.sample.size: expected at most {len(left)}, the number of documents that are left of"
            f" {len(corpus)} lines ({why}); found {sample.size}. Lower it, or give more documents."
        )
    chosen = np.sort(np.random.default_rng(sample.seed).choice(len(left), sample.size, replace=False))

    return corpus.only([first[left[index]] for index in chosen]), counts


def describe(documents: Documents) -> dict[str, Any]:
    """Describes one split for `summary.json`.

    The description holds these values:

    - the numbers of documents, distinct documents, words and unknown words;
    - the share of unknown words;
    - the smallest, mean and largest number of words in a document;
    - the number of documents with each label.
    """
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
    """Writes one warning for each split from which documents were left out, and one for each split with unknown words.

    Args:
        summary: Summary of a prepared text data set (`Prepared.summary`).
    """
    messages = [
        f"{count:,} document{'s' if count > 1 else ''} of {name} left out: more than max_words words"
        for name, count in summary.get("left_out", {}).items()
        if count
    ]
    for name, split in summary["splits"].items():
        if split["unknown"]:
            share = f"{split['unknown']:,} of the {split['words']:,} words of {name} ({split['unknown_rate']:.2%})"
            messages.append(f"{share} are not in the vocabulary and become {SPECIALS[UNKNOWN]}")

    return messages


def _mask_unknown(document: str, known: set[str]) -> str:
    """Replaces each unknown word of a document by `<unk>`."""
    return " ".join(word if word in known else SPECIALS[UNKNOWN] for word in document.split(" "))
