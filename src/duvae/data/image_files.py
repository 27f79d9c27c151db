"""Reads image files: pictures in a folder, and npz files with arrays of images."""

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duvae.data.splits import Array
from duvae.data.user_files import files_in
from duvae.errors import UserError

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name extensions of pictures."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. Pillow would hand some other formats, such as EPS, to other programs."""

LARGEST = 4 * 2**30
"""Largest size in bytes of all arrays of an npz file together. Larger arrays would fill the memory of usual machines,
and a small compressed file can announce any size."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        lightness: Lightness of each pixel from 0 (black) to 1 (white), shape (height, width).
        frames: Number of frames of the file, of which only the first is read.
    """

    lightness: Array
    frames: int = 1


def pictures(path: Path) -> list[Path]:
    """Lists all pictures in a folder and in the folders below it, in sorted order. Hidden files are left out.

    Raises:
        UserError: If there is no picture, if a file does not have an extension in `PICTURES`, or if a file or folder
            cannot be read.
    """
    files = files_in(path, _check_suffix)
    if not files:
        raise UserError(f"{path}: expected pictures in this folder or in folders below it; found none. Add some.")

    return files


def _check_suffix(file: Path) -> None:
    if file.suffix.lower() not in PICTURES:
        raise UserError(f"{file}: expected a picture ({', '.join(PICTURES)}). Convert it or move it elsewhere.")


def read_picture(content: bytes, where: str) -> Picture:
    """Reads the first frame of a picture, turned as its EXIF data say. Transparent pixels are white.

    Args:
        content: Bytes of the file.
        where: Name of the picture in error messages.

    Raises:
        UserError: If the bytes are not a picture in one of `FORMATS` with 8 or 16 bits per channel, or if the picture
            is too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                frames = getattr(opened, "n_frames", 1)
                opened.seek(0)
                opened.load()
                picture = ImageOps.exif_transpose(opened)
                if picture.mode.startswith("I;16"):
                    return Picture(np.asarray(picture, np.float64) / 65535, frames)
                if picture.mode == "I" and opened.format == "PPM":  # Pillow scales 16 bits of a PGM to 0 to 65535
                    return Picture(np.asarray(picture, np.float64) / 65535, frames)
                if picture.mode in {"I", "F"}:
                    raise UserError(f"{where}: expected a picture of 8 or 16 bits; found 32. Convert it.")
                coloured = picture.convert("RGBA")
                on_paper = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
                return Picture(np.asarray(on_paper.convert("L"), np.float64) / 255, frames)
    except UnidentifiedImageError as error:
        raise UserError(
            f"{where}: expected a picture ({', '.join(FORMATS)}), but its format is another one. Convert or remove it."
        ) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: expected a picture of a usual size ({error}). Scale it down.") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise many kinds of errors for broken files
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: expected a picture, but it cannot be read ({why}). Convert or remove it.") from error


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an npz file. Their sizes are checked before any array is read.

    Raises:
        UserError: If the file is missing, cannot be read, holds Python objects or something else than arrays, or if the
            arrays together are larger than `LARGEST`.
    """
    try:
        # The file is opened here, because numpy does not close a broken file.
        with path.open("rb") as opened:
            _check_sizes(path, opened)
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there. Run 'duvae fetch' to get the file.") from error
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into the memory. Give smaller images, or fewer of them.") from error
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected an npz of plain arrays, but it cannot be read ({why}). Save it again."
        ) from error


def _check_sizes(path: Path, opened: io.BufferedReader) -> None:
    """Reads the headers of the arrays of an npz file, and checks the sizes that they announce."""
    total = 0
    with zipfile.ZipFile(opened) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                try:
                    version = np.lib.format.read_magic(stream)
                    read = {
                        (1, 0): np.lib.format.read_array_header_1_0,
                        (2, 0): np.lib.format.read_array_header_2_0,
                    }[version]
                    shape, _, dtype = read(stream)
                # NumPy reads a header as Python's text. Python's parser has other errors too, such as a MemoryError for
                # text that is nested too deeply.
                except (ValueError, KeyError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
                    raise UserError(
                        f"{path}: expected arrays that numpy.savez wrote; found {member.filename!r}, which is none."
                        " Save the file again."
                    ) from error
            if dtype.hasobject:
                raise UserError(
                    f"{path}, array {member.filename.removesuffix('.npy')}: expected plain numbers; found Python"
                    " objects. Convert them, and save the file again."
                )
            total += math.prod(shape) * dtype.itemsize
            if total > LARGEST or any(length < 0 for length in shape):
                raise UserError(
                    f"{path}, array {member.filename.removesuffix('.npy')}: expected arrays of at most"
                    f" {LARGEST // 2**30} GiB together; this one has the shape {shape} of {dtype}. Give smaller images,"
                    " or fewer of them."
                )


def read_bytes(file: Path) -> bytes:
    """Reads the bytes of a file. Raises a `UserError` if they cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Make the file readable.") from error
