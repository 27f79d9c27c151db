"""Large pictures need little more memory than their own pixels, and are averaged as small ones are."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duvae.data import user_images
from duvae.data.image_files import STRIP, read_picture
from duvae.data.user_images import read_images
from duvae.errors import UserError

ROOT = Path(__file__).parents[1]

MEASURE = """
import sys
from pathlib import Path
from duvae.data.user_images import read_images
from duvae.project import provenance

grey = read_images(Path(sys.argv[1]), 28, "dark")[0].grey
print(grey.shape, grey.min() == grey.max(), int(provenance.peak_memory()))
"""


def peak(path: Path) -> int:
    """Largest memory of a process that reads the pictures, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    shape, megabytes = done.stdout.rsplit(maxsplit=1)
    assert shape == "(1, 28, 28) True"

    return int(megabytes)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_a_picture_of_36_million_pixels_needs_little_memory(mode: str, tmp_path: Path) -> None:
    """The pixels are 36 MB or 144 MB. All of them as floating-point numbers would be 288 MB, several times."""
    (tmp_path / "pictures").mkdir()
    Image.new(mode, (6000, 6000), "white").save(tmp_path / "pictures/a.png", compress_level=1)

    assert peak(tmp_path / "pictures") < 550


def test_an_array_of_36_million_pixels_needs_little_memory(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.full((1, 6000, 6000), 255, np.uint8))

    assert peak(tmp_path / "x.npz") < 550


@pytest.mark.parametrize("ink", ["dark", "light"])
def test_columns_that_are_averaged_apart_give_the_same_image(
    ink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", images=random.integers(0, 256, (2, 90, 90), np.uint8))
    whole = read_images(tmp_path / "x.npz", 28, ink)[0].grey
    monkeypatch.setattr(user_images, "LARGEST_BLOCK", 700)  # 7 columns at a time

    np.testing.assert_allclose(read_images(tmp_path / "x.npz", 28, ink)[0].grey, whole, atol=1e-6)


def test_the_column_of_a_wrong_pixel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((2, 90, 90))
    images[1, 3, 80] = 7
    np.savez(tmp_path / "x.npz", images=images)
    monkeypatch.setattr(user_images, "LARGEST_BLOCK", 700)

    with pytest.raises(UserError, match=r"found 7\.0 \(float64\) in image 1, row 3, column 80"):
        read_images(tmp_path / "x.npz", 28, "dark")


def test_strips_are_put_together_again() -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (2 * STRIP + 5, 9, 4), np.uint8)
    content = io.BytesIO()
    Image.fromarray(drawn).save(content, "PNG")
    paper = Image.alpha_composite(Image.new("RGBA", (9, len(drawn)), "white"), Image.fromarray(drawn)).convert("L")

    np.testing.assert_array_equal(read_picture(content.getvalue(), "it").pixels, np.asarray(paper))


def test_a_picture_that_is_no_square_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A line of 80 million pixels is a file of a few kilobytes."""
    content = io.BytesIO()
    Image.new("1", (80_000_000, 1)).save(content, "PNG")

    with pytest.raises(UserError, match=r"at most 10,000 pixels a side; found 80,000,000 x 1"):
        read_picture(content.getvalue(), "it")
