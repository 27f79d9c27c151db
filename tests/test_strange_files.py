"""Files, devices and names that no sound program writes get an error with exit status 2, at once and in few words."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from duvae.cli.options import checked_output
from duvae.config import load
from duvae.data.corpus import read_documents
from duvae.data.image_files import read_npz
from duvae.data.user_images import read_images
from duvae.data.vocabulary import read_vocabulary
from duvae.errors import UserError
from fuzzed import arrays

ROOT = Path(__file__).parents[1]
SPECIALS = "<pad>\n<s>\n</s>\n<unk>\n"


@pytest.mark.parametrize("content", ["\ufeff", "\ufeff\n", "\ufeff \r\n\n"])
@pytest.mark.parametrize("read", [read_documents, read_vocabulary])
def test_a_file_with_nothing_behind_its_byte_order_mark_is_empty(tmp_path: Path, read, content: str) -> None:
    (tmp_path / "x.txt").write_text(content, encoding="utf-8")

    with pytest.raises(UserError, match="the file is empty"):
        read(tmp_path / "x.txt")


@pytest.mark.parametrize("label", ["0" * 5000, "0" * 5000 + "1", "9" * 5000, "\u0661"])
def test_labels_that_python_cannot_convert_are_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(UserError, match="expected a label") as error:
        read_documents(tmp_path / "x.txt", raw=f"1\tgood\n{label}\tbad\n".encode())
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("label", ["007", " 7", "7 ", "\x1c7", "\u00a07\u2003"])
def test_white_space_and_zeros_around_a_label_are_no_part_of_it(tmp_path: Path, label: str) -> None:
    assert read_documents(tmp_path / "x.txt", raw=f"{label}\tgood\n".encode()).labels == [7]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        SPECIALS + "two words" * 10_000,
        SPECIALS + f"word\t{'9' * 100_000}",
        SPECIALS + f"{'x' * 100_000}\n{'x' * 100_000}",
    ],
)
def test_messages_about_a_vocabulary_are_short(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")

    with pytest.raises(UserError, match=r"x\.txt, line ") as error:
        read_vocabulary(tmp_path / "x.txt")
    assert len(str(error.value)) < len(str(tmp_path)) + 500


@pytest.mark.parametrize(
    "header",
    ["{" * 1000, "[" * 5000, "(" * 200, "'", '"""', "\\", "{'shape': (", "  {\n {", "-" * 9000 + "1"],
)
def test_headers_of_arrays_that_are_no_python_are_refused(tmp_path: Path, header: str) -> None:
    content = arrays.header(header.encode())
    (tmp_path / "x.npz").write_bytes(arrays.archive([("images.npy", content)]))

    with pytest.raises(UserError, match="expected arrays that numpy"):
        read_npz(tmp_path / "x.npz")


def test_large_images_need_little_memory(tmp_path: Path) -> None:
    """An npz file of a few megabytes can hold images of gigabytes. They are converted some at a time."""
    np.savez_compressed(tmp_path / "x.npz", images=np.full((120, 600, 600), 200, np.uint8))
    tracemalloc.start()
    try:
        drawings, _ = read_images(tmp_path / "x.npz", 6, "dark")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert drawings.grey.shape == (120, 6, 6)
    assert np.allclose(drawings.grey, 55 / 255)
    assert most < 600 * 2**20


@pytest.mark.parametrize(
    ("name", "content", "warning"),
    [
        ("x.csv", 'label,text\n0,"good, film"\n', "looks like .csv, but each line is read as plain text"),
        ("x.txt", '{"text": "good"}\n{"text": "bad"}\n', "looks like JSON, but each line is read as plain text"),
        ("x.txt", "a { b }\n{ c\n", ""),
        ("x.tsv", "0\tgood\n1\tbad\n", ""),
    ],
)
def test_tables_and_json_are_not_taken_for_plain_text_unseen(
    tmp_path: Path, name: str, content: str, warning: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    warnings = read_documents(tmp_path / name).warnings

    assert len(warnings) == bool(warning)
    assert all(warning in each and "save the documents as text with one document per line" in each for each in warnings)


def limited(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Calls a few lines of Python with bounds that reading an endless device would break."""
    bounds = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (60, 60)); "
    bounds += "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); "
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    code = f"import sys; {bounds} sys.argv = ['duvae', *sys.argv[1:]]; from duvae.__main__ import main; main()"

    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )


def test_parameters_from_an_endless_device_are_refused() -> None:
    done = limited("graph", "--params", "/dev/zero")

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: /dev/zero")
    assert "expected parameters of at most 4,000,000 bytes" in done.stderr


def test_parameters_from_a_pipe_are_read(tmp_path: Path) -> None:
    """A shell passes the output of a program as a pipe: --params <(sed s/32/16/ params.yaml)."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write((ROOT / "params.yaml").read_bytes())
    try:
        assert load(Path(f"/dev/fd/{reading}")).settings
    finally:
        os.close(reading)


def test_documents_from_an_endless_device_are_refused() -> None:
    for read in (read_documents, read_vocabulary):
        with pytest.raises(UserError, match="/dev/zero: expected a file; found a device"):
            read(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 300] * 3), "x" * 5000 + ".csv"])
def test_outputs_with_names_that_no_disk_takes_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected a path of at most 1,000 bytes, with a name of at most 200 bytes"):
        checked_output(Path(name))


def test_outputs_do_not_replace_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("/dev/null")

    for name in ("pipe.csv", "link.csv"):
        with pytest.raises(UserError, match="expected the name of a file to write; found a device or a pipe"):
            checked_output(tmp_path / name)
    assert checked_output(tmp_path / "new.csv") == tmp_path / "new.csv"
