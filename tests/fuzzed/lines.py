"""Mutations of command lines: arguments that are missing, empty, doubled, unknown, misplaced or of a wrong type."""

import os
import random
from itertools import pairwise
from pathlib import Path

from fuzzed.mutation import Command, Mutation, job

VALUES = (
    "", " ", "0", "-1", "1.5", "1e300", "nan", "inf", "10" * 20, "2147483648", "\u0661", "x", "x" * 5000, "null", "--",
    "-", "--help", "-h", "/", ".", "..", "folder", "odd", "empty", "loop", "dangling", "params.yaml", "nothing/x",
    "params.yaml/x", "pipe.out", "a\nb", "\x1b[2J", "\u202e", "\U0001f600", os.fsdecode(b"\xff"), "%s{}", "$(x)", "*",
    "~", "own", "pictures", "synthetic", "vae", "du_vae", "1", "2", "true", "../x", "../own", "own/../own", "@x", "=",
    "a=b", "DU_VAE", "own ", "images.npz", "train.txt", "x.csv", "x.parquet", "x.png", "x.txt", "/dev/zero",
    "/dev/null", "pictures/a/x/0.png", "word1 good", "<s>", "word1 " * 50,
)  # fmt: skip
SOUND: tuple[Command, ...] = (
    ("graph",), ("graph", "--check"), ("parameters",), ("fingerprint",), ("own-files",), ("systems",),
    ("systems", "du_vae"), ("systems", "--full"), ("doctor",), ("fetch", "--dataset", "own"),
    ("demo", "--output", "x", "--params", "params.yaml"),
    ("fetch", "--dataset", "own", "--mirror", "folder"),
    ("prepare", "--dataset", "own"), ("prepare", "--dataset", "pictures"), ("binarize", "--dataset", "pictures"),
    ("truth", "--dataset", "synthetic"), job("train", "own", "vae"), job("evaluate", "own"), job("probe", "own"),
    job("samples", "pictures"), ("examples", "--dataset", "own"), ("figure2", "--study", "synthetic_grid"),
    ("figure1",), ("figures",), ("report",), ("claims",), ("claims", "--check"), ("track",),
    ("results",), ("results", "--dataset", "own"), ("results", "--format", "json"),
    ("new", "train.txt"), ("new", "train.txt", "--name", "mine", "--tokenise", "--lower-case"),
    ("new", "pictures", "--ink", "dark"), ("new", "images.npz", "--name", "mine"),
    ("run", "own", "--settings", "vae", "--seeds", "1", "--set", "optimisation.epochs=1"),
    ("results", "--dataset", "own", "--set", "evaluation.seed=2"),
    ("search", "--study", "synthetic_grid"), ("validate", "--dataset", "own"),
    (*job("generate", "own"), "--rows", "2", "--columns", "2", "--temperature", "0.5", "--output", "x.txt"),
    (*job("generate", "pictures"), "--rows", "2", "--columns", "2", "--likely", "--output", "x.png"),
    (*job("generate", "own"), "--beams", "2", "--repetition-penalty", "1.2", "--no-repeat-ngram", "3", "--no-unknown"),
    (*job("reconstruct", "own"), "--sentence", "word1 good", "--top-p", "0.9"),
    (*job("interpolate", "own"), "--pairs", "2", "--steps", "3", "--draw-seed", "2"),
    (*job("interpolate", "own"), "--from", "word1 good", "--to", "word2 bad"),
    (*job("reconstruct", "own"), "--sentence", "word1 good", "--sentence", "word2 bad"),
    (*job("reconstruct", "own"), "--input", "train.txt", "--output", "x.txt"),
    (*job("reconstruct", "pictures"), "--examples", "2"),
    (*job("encode", "own"), "--input", "train.txt", "--output", "x.csv"),
    (*job("encode", "own"), "--input", "-"),
    (*job("encode", "own"), "--sentence", "word1 good"),
    (*job("encode", "own"), "--split", "test", "--draw-seed", "3"),
    (*job("encode", "pictures"), "--input", "pictures", "--ink", "light"),
    (*job("encode", "pictures"), "--input", "images.npz"),
)  # fmt: skip
"""Command lines that a user could give, in the sound project."""

SLOW = {"demo", "report", "figure1", "track", "search", "validate", "figure2", "figures", "new", "run"}
"""Commands that take seconds if nothing is wrong. Most of their mutations are refused before that."""


def mutate(number: int, seed: int, generator: random.Random) -> Mutation:
    """A mutation of a command line."""
    line = [*generator.choice(SOUND)]
    if line[0] in SLOW and generator.random() < 0.5:
        line = [*generator.choice(SOUND)]
    if generator.random() < 0.15:
        line += ["--params", "params.yaml"]
    done = []
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        at, value = generator.randrange(len(line)) if line else 0, generator.choice(VALUES)
        options = [index for index, part in enumerate(line) if part.startswith("--")]
        how = generator.choice(["value", "value", "value", "value", "remove", "double", "insert", "option", "join",
                                "command", "move", "append"])  # fmt: skip
        done.append(how)
        if how == "value" and options:
            place = generator.choice(options) + 1
            line[place : place + 1] = [value]
        elif how == "remove" and line:
            del line[at]
        elif how == "double" and options:
            place = generator.choice(options)
            line += [*line[place : place + 1], generator.choice([value, *line[place + 1 : place + 2]])]
        elif how == "insert":
            line.insert(at, value)
        elif how == "option" and options:
            place = generator.choice(options)
            line[place] = generator.choice(
                [line[place][:-1], line[place] + "x", line[place].upper(), line[place][1:], "--"]
            )
        elif how == "join" and options:
            place = generator.choice(options)
            line[place : place + 2] = [f"{line[place]}={value}"]
        elif how == "command":
            line[:1] = [generator.choice(["", "Train", "trai", "train ", "help", "-x", "--version", *VALUES])]
        elif how == "move" and len(line) > 1:
            line.insert(generator.randrange(len(line)), line.pop(at))
        else:
            line.append(value)
    # A reader of a pipe waits for a writer, as it must. Only an output can be a mistake.
    line = [part if part != "pipe.out" or before == "--output" else "nothing" for before, part in pairwise(["", *line])]

    def change(folder: Path) -> None:
        os.mkfifo(folder / "pipe.out")

    return Mutation(
        "lines", f"duvae {' '.join(map(repr, line))}"[:300], change, (tuple(line),), b"0\tword1 good\n1\tword2 bad\n"
    )
