"""The blocks of docs/tutorial.md run as they stand, and print what the page shows."""

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import preloaded

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
MARK = "=== end of block ==="
NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
SENTENCE = r"the \w+ was \w+ and the \w+ was \w+ \."
PROJECT = ("params.yaml", "dvc.yaml", "Makefile", "pyproject.toml", "requirements.lock", ".gitignore", ".dvcignore")


class Block(NamedTuple):
    """A block of commands.

    Attributes:
        code: The block as a script of the shell.
        shown: The lines that the page shows after the block.
        printed: The lines that the block has printed.
    """

    code: str
    shown: list[str]
    printed: list[str]


class Reader(NamedTuple):
    """A reader who has typed all blocks of the page, up to the one that deletes everything.

    Attributes:
        folder: The project's folder.
        blocks: The blocks.
        before: The files of the project that git sees or would see, before the first block.
        environment: The environment variables of the reader.
    """

    folder: Path
    blocks: list[Block]
    before: str
    environment: dict[str, str]


def scripts() -> list[tuple[str, list[str]]]:
    """The blocks of commands and of Python as scripts of the shell, each with the output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        if language == "text":
            found[-1][1].extend(text.splitlines())
        else:
            assert language in ("sh", "py")
            found.append((text if language == "sh" else f"python - <<'PY'\n{text}PY\n", []))

    return found


def shell(folder: Path, environment: dict[str, str], codes: list[str]) -> list[list[str]]:
    """Runs scripts one after the other in one shell, and returns the lines that each has printed."""
    script = f"echo '{MARK}'\n".join(codes)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    return [part.splitlines() for part in done.stdout.split(f"{MARK}\n")]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("tutorial") / "project"
    (folder / ".dvc").mkdir(parents=True)
    for name in (*PROJECT, ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    before = git(folder, "status", "--porcelain")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pages = scripts()
    with preloaded.environment(folder / ".venv", environment):
        (folder / ".venv/.installed").touch()  # the environment exists, so that 'make environment' need not install it
        printed = shell(folder, environment, [code for code, _ in pages[:-1]])
    blocks = [Block(code, shown, lines) for (code, shown), lines in zip(pages, printed, strict=False)]

    return Reader(folder, blocks, before, environment)


def skeleton(line: str) -> str:
    """A line with `#` for each number and one space for all white space, since wider numbers move columns."""
    return " ".join(re.sub(NUMBER, "#", line).split())


def test_the_commands_print_what_the_page_shows(reader: Reader) -> None:
    """All words must be equal. Numbers may differ as they do between processors: by a twentieth, or by 0.1."""
    compared = 0
    for block in reader.blocks:
        printed = iter(block.printed)
        for line in block.shown:
            if re.fullmatch(rf"{SENTENCE}|…|", line.strip()):
                continue
            same = next((each for each in printed if skeleton(each) == skeleton(line)), None)
            assert same is not None, f"{line!r} is not in, or not in this order:\n" + "\n".join(block.printed)
            pairs = zip(re.findall(NUMBER, line), re.findall(NUMBER, same), strict=True)
            for shown, real in pairs:
                assert float(real.replace(",", "")) == pytest.approx(float(shown.replace(",", "")), rel=0.05, abs=0.1)
            compared += 1
    assert compared > 10


def test_the_verdicts_of_the_page_are_those_of_the_models(reader: Reader) -> None:
    results = reader.folder / "private/reviews/results/reviews"
    use = {name: json.loads((results / name / "1/metrics.json").read_text())["use"] for name in ("vae", "du_vae")}
    assert use["vae"] < 0.1 < use["du_vae"]
    rows = {line.split()[0]: line for block in reader.blocks for line in block.shown if line.startswith(("VAE", "DU"))}
    assert [row.rstrip().endswith("not collapsed") for row in rows.values()] == [False, True]


def test_the_samples_are_sentences_of_the_text(reader: Reader) -> None:
    (block,) = [block for block in reader.blocks if block.code.startswith("duvae generate")]
    for lines in (block.shown, block.printed):
        sentences = [line for line in lines if re.fullmatch(SENTENCE, line.strip())]
        assert len(sentences) >= 3, lines


def test_the_codes_have_a_row_for_each_sentence(reader: Reader) -> None:
    with (reader.folder / "private/codes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    sentences = (reader.folder / "private/new.txt").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(sentences)


def test_the_page_names_files_that_exist(reader: Reader) -> None:
    names = set(re.findall(r"`((?:private|datasets)/[\w./-]+\.\w+)`", PAGE))
    assert "private/reviews/reports/index.html" in names
    for name in names:
        assert (reader.folder / name).is_file(), name


def test_git_sees_nothing_and_the_last_block_leaves_nothing(reader: Reader) -> None:
    assert git(reader.folder, "status", "--porcelain", "--untracked-files=all") == reader.before
    shell(reader.folder, reader.environment, [scripts()[-1][0]])
    left = [path for name in ("private", "datasets") for path in (reader.folder / name).rglob("*")]
    assert [path.name for path in left] == []
