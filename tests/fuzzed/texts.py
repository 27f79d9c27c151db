"""Mutations of files of documents and of vocabularies: encodings, line ends, labels, sizes, and other files."""

import gzip
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from fuzzed.mutation import Mutation, job, stages

WORDS = (
    b"", b" ", b"\t", b"\t\t", b"\0", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1b[2J", b"\x85", b"\xff", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\x8b", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xc2\x85", b"\xc2\xa0",
    "u\u0308".encode(), "\U0001f600".encode(), b"<s>", b"</s>", b"<unk>", b"<pad>", b"<UNK>", b"_UNK", b"a" * 100_000,
    b"word1 " * 2_000, b"word1 word2 word3 word4 word5 word6", b"# word", b'"', b"'", b"%s", b"{}", b"\\n", b"NaN",
)  # fmt: skip
LABELS = (
    b"", b" ", b"-1", b"+1", b"1.0", b"1e5", b"0x1", b"01", b"007", b"999999", b"1000000", b"2000000000", b"9" * 20,
    b"9" * 5000, "\u0661".encode(), "\u00b2".encode(), b"nan", b"one", b"1 ", b" 1", b"1_0", b"0" * 5000, b"true",
)  # fmt: skip

LARGE = 100_000
"""Size in bytes above which a file is only prepared: a training on so many documents rightly takes minutes."""


def _lines(lines: list[bytes], generator: random.Random) -> dict[str, Callable[[], bytes]]:
    """Changes of a file of lines."""
    raw = b"\n".join(lines) + b"\n"
    text = raw.decode()
    at, cut = generator.randrange(len(lines)), generator.randrange(len(raw))
    word, label = generator.choice(WORDS), generator.choice(LABELS)
    first, tab, document = lines[at].rpartition(b"\t")

    def line(new: bytes) -> bytes:
        return b"\n".join([*lines[:at], new, *lines[at + 1 :]]) + b"\n"

    return {
        f"the word {word[:20]!r}": lambda: line(first + tab + document + b" " + word),
        f"the document {word[:20]!r}": lambda: line(first + tab + word),
        f"{word[:20]!r} before a line": lambda: line(word + lines[at]),
        f"{word[:20]!r} in the first line": lambda: word + raw,
        f"the label {label[:20]!r}": lambda: line(label + b"\t" + document),
        f"the label {label[:20]!r} everywhere": lambda: b"".join(
            label + b"\t" + each.rpartition(b"\t")[2] + b"\n" for each in lines
        ),
        "no label in one line": lambda: line(document),
        "no labels": lambda: b"".join(each.rpartition(b"\t")[2] + b"\n" for each in lines),
        "a different label in each line": lambda: b"".join(
            str(number * 7919).encode() + b"\t" + each.rpartition(b"\t")[2] + b"\n" for number, each in enumerate(lines)
        ),
        "one line": lambda: lines[0] + b"\n",
        "one line without an end": lambda: lines[0],
        "no line end at the end": lambda: raw[:-1],
        "empty": lambda: b"",
        "white space": lambda: generator.choice([b"\n", b" \n \n", b"\t\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\0"]),
        "other line ends": lambda: raw.replace(b"\n", generator.choice([b"\r\n", b"\r", b"\n\n", b"\n\r", b"\x0b"])),
        "a byte-order mark": lambda: b"\xef\xbb\xbf" + raw,
        "another encoding": lambda: text.replace("good", "gööd").encode(
            generator.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp037"])
        ),
        "cut": lambda: raw[:cut],
        "a bit flipped": lambda: raw[:cut] + bytes([raw[cut] ^ 1 << generator.randrange(8)]) + raw[cut + 1 :],
        "bytes removed": lambda: raw[:cut] + raw[cut + generator.randrange(1, 40) :],
        "random bytes": lambda: generator.randbytes(generator.choice([1, 10, 10_000])),
        "one line many times": lambda: (lines[at] + b"\n") * generator.choice([2, 1000, 50_000]),
        "twice": lambda: raw + raw,
        "shuffled": lambda: b"\n".join(generator.sample(lines, len(lines))) + b"\n",
        "a line of 5,000,000 bytes": lambda: line(first + tab + b"a " * 2_500_000),
        "an archive": lambda: gzip.compress(raw),
        "a web page": lambda: b"<!DOCTYPE html><title>x</title>",
        "tabs for spaces": lambda: raw.replace(b" ", b"\t"),
    }


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to a folder": lambda path: path.symlink_to("folder"),
    "a pipe": os.mkfifo,
    "missing": lambda path: None,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "an empty device": lambda path: path.symlink_to("/dev/null"),
    "50 MB without content": lambda path: (path.touch(), os.truncate(path, 50_000_000)),
}


def _place(path: Path, put: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    put(path)


def mutate(number: int, seed: int, generator: random.Random) -> Mutation:
    """A mutation of a file of documents, for training or for a trained model."""
    import tiny

    dataset = generator.choice(["own", "own", "halves", "sampled"])
    name = generator.choice(["good.txt"] if dataset == "halves" else ["train.txt", "valid.txt", "test.txt"])
    if dataset == "own" and generator.random() < 0.2:
        name = "vocab.txt"
    setting = generator.choice(["vae", "du_vae", "iaf_bn", "ae", "bn_vae"])
    later = (job("train", dataset, setting), job("probe", dataset, setting))
    commands = stages(dataset, *later)
    if use := generator.random() < 0.25:
        dataset, name = "own", "test.txt"
        command = generator.choice(["encode", "reconstruct"])
        commands = ((*job(command, dataset), "--input", name),)
    if generator.random() < 0.12:
        place = generator.choice([*PLACES])
        if use and place == "a pipe":  # a pipe is a sound input, and its reader waits for a writer
            place = "missing"
        what, change = place, lambda folder: _place(folder / name, PLACES[place])
    else:
        options = _lines(_base(name, tiny), generator)
        what = generator.choice([*options])
        raw = options[what]()
        change = lambda folder: (folder / name).write_bytes(raw)  # noqa: E731
        if not use and len(raw) > LARGE:
            commands = stages(dataset)

    return Mutation("texts", f"{name} of {dataset}: {what}", change, commands)


def _base(name: str, tiny: object) -> list[bytes]:
    """The lines of a sound file."""
    words = [word.encode() for word in tiny.WORDS]  # type: ignore[attr-defined]
    if name == "vocab.txt":
        return [*(word.encode() for word in tiny.SPECIALS), *words, b"good", b"bad"]  # type: ignore[attr-defined]
    if name == "good.txt":
        return [word + b" good" for word in words]
    number = ("train.txt", "valid.txt", "test.txt").index(name)

    return tiny.sentences(number).splitlines()  # type: ignore[attr-defined]
