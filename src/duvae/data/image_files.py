"""Reads image files: pictures in a folder, and npz files with arrays of images."""

import io
import lzma
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from duvae.data.splits import Array
from duvae.data.user_files import files_in
from duvae.errors import UserError
from duvae.messages import show_name
from duvae.paths import require_no_device

if TYPE_CHECKING:
    from PIL import Image

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name extensions of pictures."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. Pillow would hand some other formats, such as EPS, to other programs."""

LONGEST_SIDE = 10_000
"""Largest side of a picture in pixels. Pictures are square, and Pillow refuses those of 90 million pixels and more."""

STRIP = 256
"""Number of rows of a picture that are converted at once."""

LARGEST = 4 * 2**30
"""Largest size in bytes of all arrays of an npz file together. Larger arrays would fill the memory of usual machines,
and a small compressed file can announce any size."""

MOST_ARRAYS = 100
"""Largest number of arrays in an npz file. The file of a data set needs six."""

LONGEST_HEADER = 10_000
"""Largest length of an array's header in bytes, which is also numpy's bound."""

SAVE = "Save it again with numpy.savez."


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        pixels: Lightness of each pixel from 0 (black) to `white`, as whole numbers of shape (height, width).
        white: The value of a white pixel: 255, or 65535 in pictures of 16 bits.
        frames: Number of frames of the file, of which only the first is read.
    """

    pixels: Array
    white: int
    frames: int = 1

    @property
    def lightness(self) -> Array:
        """Lightness of each pixel from 0 (black) to 1 (white), shape (height, width)."""
        return np.asarray(self.pixels, np.float64) / self.white


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
                if max(opened.size) > LONGEST_SIDE:
                    raise UserError(
                        f"{where}: expected a picture of at most {LONGEST_SIDE:,} pixels a side; found"
                        f" {opened.width:,} x {opened.height:,}. Scale it down."
                    )
                opened.seek(0)
                opened.load()
                ImageOps.exif_transpose(opened, in_place=True)  # without a copy
                if opened.mode.startswith("I;16"):
                    return Picture(np.asarray(opened), 65535, frames)
                if opened.mode == "I" and opened.format == "PPM":  # Pillow scales 16 bits of a PGM to 0 to 65535
                    return Picture(np.asarray(opened), 65535, frames)
                if opened.mode in {"I", "F"}:
                    raise UserError(f"{where}: expected a picture of 8 or 16 bits; found 32. Convert it.")
                return Picture(np.concatenate([np.asarray(strip) for strip in _on_paper(opened)]), 255, frames)
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


def _on_paper(picture: "Image.Image") -> "Iterator[Image.Image]":
    """Yields a picture on white paper in shades of grey, as strips from top to bottom.

    A strip needs little memory, in contrast to the whole picture in three forms.
    """
    from PIL import Image

    for top in range(0, picture.height, STRIP):
        bottom = min(top + STRIP, picture.height)
        part = picture if bottom - top == picture.height else picture.crop((0, top, picture.width, bottom))
        strip = part.convert("RGBA")
        yield Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("L")


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an npz file. Names and sizes are checked before any array is read.

    Raises:
        UserError: If the file is missing, cannot be read, holds Python objects or something else than arrays, or has
            two arrays of one name. Also if the arrays together are larger than `LARGEST`, or if an array announces
            another size than it has.
    """
    try:
        require_no_device(path)
        # The file is opened here, because numpy does not close a broken file.
        with path.open("rb") as opened:
            if opened.read(2) != b"PK":  # numpy would take such a file for a pickle
                raise UserError(
                    f"{path}: expected an npz of plain arrays, which numpy.savez writes; found another file. {SAVE}"
                )
            opened.seek(0)
            _check_arrays(path, opened)
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
        RuntimeError,
        OverflowError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        why = show_name(" ".join(str(error).split()))
        raise UserError(f"{path}: expected an npz of plain arrays, but it cannot be read ({why}). {SAVE}") from error


def _check_arrays(path: Path, opened: io.BufferedReader) -> None:
    """Reads the headers of the arrays of an npz file, and checks the names and the sizes that the file announces."""
    total, names = 0, set()
    with zipfile.ZipFile(opened) as archive:
        members = archive.infolist()
        if len(members) > MOST_ARRAYS:
            raise UserError(f"{path}: expected at most {MOST_ARRAYS} arrays; found {len(members):,}. {SAVE}")
        for member in members:
            name = member.filename.removesuffix(".npy")
            where = f"{path}, array {show_name(name)}"
            if name in names:
                raise UserError(f"{path}: expected one array of each name; found two named {show_name(name)}. {SAVE}")
            names.add(name)
            if member.flag_bits & 1:
                raise UserError(f"{where}: expected an array without a password; found an encrypted one. {SAVE}")
            with archive.open(member) as stream:
                shape, dtype = _header(path, member.filename, stream)
                start = stream.tell()
            if dtype.hasobject:
                raise UserError(
                    f"{where}: expected plain numbers; found Python objects. Convert them, and save the file again."
                )
            size = math.prod(shape) * dtype.itemsize
            total += size
            announced = f"the shape {show_name(str(shape))} of {show_name(str(dtype))}"
            if total > LARGEST:
                raise UserError(
                    f"{where}: expected arrays of at most {LARGEST // 2**30} GiB together; this one has {announced}."
                    " Give smaller images, or fewer of them."
                )
            if min(shape, default=0) < 0 or start + size != member.file_size:
                raise UserError(
                    f"{where}: expected as many bytes as its header announces, {announced}; found"
                    f" {member.file_size - start:,} bytes. {SAVE}"
                )


def _header(path: Path, name: str, stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Reads the shape and the type of an array from its header.

    Args:
        path: The npz file, for errors.
        name: Name of the array's file inside the npz file, for errors.
        stream: The array's file, opened at its start. The function leaves it at the first number of the array.
    """
    try:
        version = np.lib.format.read_magic(stream)
        length = stream.read(2 if version == (1, 0) else 4)
        if version not in ((1, 0), (2, 0)) or int.from_bytes(length, "little") > LONGEST_HEADER:
            raise ValueError(f"header of version {version}")
        stream.seek(-len(length), io.SEEK_CUR)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    # numpy hands the header to Python's parser, which raises many kinds of errors for texts that are no header.
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, IndexError, tokenize.TokenError) as error:
        raise UserError(
            f"{path}: expected arrays that numpy.savez wrote; found {show_name(name)}, which is none. {SAVE}"
        ) from error
    if any(type(length) is not int for length in shape):
        raise UserError(f"{path}, array {show_name(name)}: expected a shape of whole numbers; found {shape}. {SAVE}")

    return shape, dtype


def read_bytes(file: Path) -> bytes:
    """Reads the bytes of a file. Raises a `UserError` if they cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Make the file readable.") from error
