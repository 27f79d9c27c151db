"""Reads image files: pictures in a folder, and npz files with arrays of images."""

import io
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from duvae.data.splits import Array
from duvae.errors import UserError

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name extensions of pictures."""


def pictures(path: Path) -> list[Path]:
    """Lists all pictures in a folder and in the folders below it, in sorted order. Hidden files are left out.

    Raises:
        UserError: If there is no picture, or if the extension of a file is not in `PICTURES`.
    """
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise UserError(f"{path}: expected pictures in this folder or in folders below it; found none. Add some.")
    for file in files:
        if file.suffix.lower() not in PICTURES:
            raise UserError(f"{file}: expected a picture ({', '.join(PICTURES)}). Convert it or move it elsewhere.")

    return files


def read_picture(content: bytes, where: str) -> Array:
    """Computes the lightness of a picture, shape (height, width), from 0 (black) to 1 (white).

    Transparent pixels count as white.

    Args:
        content: Bytes of the file.
        where: Name of the picture in error messages.

    Raises:
        UserError: If the bytes are not a picture of 8 or 16 bits per channel, or if the picture is too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                if picture.mode.startswith("I;16"):
                    return np.asarray(picture, np.float64) / 65535
                if picture.mode in {"I", "F"}:
                    raise UserError(f"{where}: expected a picture of 8 or 16 bits; found 32. Convert it.")
                coloured = picture.convert("RGBA")
                on_paper = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
                return np.asarray(on_paper.convert("L"), np.float64) / 255
    except UnidentifiedImageError as error:
        raise UserError(f"{where}: expected a picture, but its format is not known. Convert or remove it.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: expected a picture of a usual size ({error}). Scale it down.") from error
    except (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{where}: expected a picture, but it cannot be read ({why}). Convert or remove it.") from error


def read_npz(path: Path) -> dict[str, Array]:
    """Reads the arrays of an npz file, by name.

    Raises:
        UserError: If the file is missing, cannot be read, or holds Python objects.
    """
    try:
        # The `with` statement opens the file and closes it again. If np.load opened it, a broken file would stay open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. Run 'duvae fetch' to get the file.") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected an npz of plain arrays, but it cannot be read ({why}). Save it again."
        ) from error


def read_bytes(file: Path) -> bytes:
    """Reads the bytes of a file. Raises a `UserError` if they cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Make the file readable.") from error
