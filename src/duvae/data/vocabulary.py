"""Reads a vocabulary from a file, or builds it from the most frequent words of the training documents."""

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duvae.config import BuiltVocabulary
from duvae.data.corpus import Corpus, file_lines, line_error, shortened
from duvae.data.splits import END, SPECIALS, START, UNKNOWN, Documents
from duvae.errors import UserError

ALIASES = {"<bos>": "<s>", "<eos>": "</s>", "_UNK": "<unk>"}
"""Other spellings of special words, which files of other authors use."""


def read_vocabulary(path: Path) -> list[str]:
    """Reads a vocabulary. Each line is a word or `word<TAB>id`. The first four lines are the words in `SPECIALS`.

    Args:
        path: The file, in UTF-8.

    Returns:
        The words, in the order of their ids.

    Raises:
        UserError: If the file cannot be read, does not begin with the special words, or has no words after them. There
            is also an error if a word occurs twice or has white space, or if an id is not the number of its line. Lines
            count from 0 for this comparison.
    """
    words: list[str] = []
    first_lines: dict[str, int] = {}
    for number, row in enumerate(file_lines(path), 1):
        word, tab, identity = row.partition("\t")
        if tab and identity.strip() != str(number - 1):
            expected = f"the id {number - 1} after the tab (ids count from 0)"
            raise line_error(path, number, expected, shortened(identity), "Correct the id, or leave out all ids.")
        if number <= len(SPECIALS):
            word = ALIASES.get(word, word)
            if word != SPECIALS[number - 1]:
                expected = f"{SPECIALS[number - 1]} (a vocabulary begins with {', '.join(SPECIALS)})"
                raise line_error(path, number, expected, shortened(word), "Put the four special words first.")
        if word.split() != [word]:
            expected = "one word without white space"
            raise line_error(path, number, expected, shortened(word), "Correct or delete the line.")
        first = first_lines.setdefault(ALIASES.get(word, word), number)
        if first != number:
            value = f"{shortened(word)}, which is on line {first} already"
            raise line_error(path, number, "a word that occurs once", value, "Delete the line.")
        words.append(word)
    if len(words) <= len(SPECIALS):
        raise UserError(
            f"{path}: expected words after the special words {', '.join(SPECIALS)}; found none."
            " Add words, or let duvae build the vocabulary (source.build)."
        )

    return words


def build_vocabulary(corpus: Corpus, build: BuiltVocabulary) -> tuple[list[str], dict[str, int]]:
    """Builds a vocabulary: the special words, followed by the most frequent words.

    Words of equal frequency are in alphabetical order.

    Args:
        corpus: Training documents.
        build: Largest number of words beside the special words, and smallest number of occurrences of a frequent word.

    Returns:
        The words in the order of their ids, and counts for `summary.json`. The counts are the numbers of distinct
        words, of frequent words, and of frequent words that the vocabulary keeps.

    Raises:
        UserError: If no word is frequent enough.
    """
    frequencies: Counter[str] = Counter()
    for document in corpus.documents:
        frequencies.update(document.split(" "))
    for special in (*SPECIALS, *ALIASES):
        frequencies.pop(special, None)
    frequent = sorted(
        (word for word, count in frequencies.items() if count >= build.at_least),
        key=lambda word: (-frequencies[word], word),
    )
    if not frequent:
        raise UserError(
            f"params.yaml: source.build.at_least: expected a word that occurs {build.at_least} times in the training"
            f" documents; the most frequent one occurs {max(frequencies.values(), default=0)} times."
            " Lower at_least, or give more documents."
        )
    counts = {"distinct": len(frequencies), "frequent": len(frequent), "kept": min(build.most, len(frequent))}

    return [*SPECIALS, *frequent[: build.most]], counts


def word_ids(corpus: Corpus, vocabulary: Sequence[str], max_words: int) -> Documents:
    """Converts words to ids, and puts `<s>` before and `</s>` after each document.

    A word that is not in the vocabulary becomes `<unk>`. So do the words `<unk>` and `_UNK` of a document.

    Args:
        corpus: The documents.
        vocabulary: Known words, in the order of their ids.
        max_words: Largest number of words of a document.

    Raises:
        UserError: If a document is longer than `max_words`, or holds one of the marks `<pad>`, `<s>`, `</s>`, `<bos>`
            and `<eos>`. Documents are not cut, because the likelihood would then be that of another document.
    """
    ids = {word: index for index, word in enumerate(vocabulary)}
    ids |= {alias: ids[special] for alias, special in ALIASES.items()}
    tokens = array("i")
    offsets = np.zeros(len(corpus) + 1, np.int64)
    for index, document in enumerate(corpus.documents):
        words = document.split(" ")
        if len(words) > max_words:
            raise line_error(
                *corpus.origins[index],
                f"at most {max_words} words (max_words in params.yaml)",
                f"{len(words)}",
                "Raise max_words, shorten or delete the line, or set longer: leave_out. Documents are not cut.",
            )
        tokens.append(START)
        tokens.extend([ids.get(word, UNKNOWN) for word in words])
        tokens.append(END)
        offsets[index + 1] = len(tokens)
    joined = np.array(tokens, np.int32)
    is_mark = joined < UNKNOWN
    # Each document gets two marks, <s> and </s>. If there are more, the words of some document hold a mark.
    if np.count_nonzero(is_mark) != 2 * len(corpus):
        counts = np.add.reduceat(is_mark.astype(np.int64), offsets[:-1])
        index = int(np.flatnonzero(counts != 2)[0])
        names = [*SPECIALS[:UNKNOWN], *(alias for alias in ALIASES if ids[alias] != UNKNOWN)]
        raise line_error(
            *corpus.origins[index],
            f"words; duvae itself puts marks around documents, so that {', '.join(names)} must not occur inside",
            repr(corpus.documents[index]),
            "Remove the mark.",
        )

    return Documents(joined, offsets, np.array(corpus.labels, np.int64))
