"""Mutations of folders of pictures: broken and foreign files, unusual pictures, odd names, links and near splits."""

import functools
import io
import os
import random
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import drawings
from fuzzed.mutation import Mutation, job, stages

Change = Callable[[Path], object]

SPLITS = ("train", "Train", "training", "valid", "val", "validation", "dev", "test", "Test", "tests", "eval",
          "test_set", "train ", "holdout", "a", "images", "train1", "1", "extra")  # fmt: skip
NAMES = (b"-x.png", b"--output.png", b"\xff.png", "\u00fc.png".encode(), b"\x1b[2J.png", b"a\nb.png", b" .png",
         b"'.png", b'".png', b"a b.png", b"$(x).png", b"%s.png", "\U0001f600.png".encode(), "\u202e.png".encode(),
         b".png", b"x.PNG", b"x.png.txt", b"n", b"x.", b"x" * 250 + b".png", b"Thumbs.db", b"desktop.ini", b".hidden",
         b"x.svg", b"x.eps", b"x.png ", b"*.png", b"con.png", b"x.jpg", b"~x.png", b"#x.png", b"x\\y.png")  # fmt: skip


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(wide: int, high: int, depth: int = 8, colour: int = 0, pixels: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG file with any numbers in its header."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, depth, colour, 0, 0, 0))

    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)

    return file.getvalue()


@functools.cache
def base(side: int = 30) -> Image.Image:
    return Image.fromarray(~drawings.letter(1, side)).convert("L")


def contents(generator: random.Random) -> dict[str, Callable[[], bytes]]:
    """Contents of one file."""
    raw = drawings.png(drawings.letter(1, 30))
    at = generator.randrange(len(raw))
    form = generator.choice(
        ["PNG", "GIF", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PDF", "EPS", "PCX", "SGI"]
    )
    mode = generator.choice(["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "RGBX", "I", "F", "I;16"])
    wide, high = generator.choice([(1, 1), (5, 5), (30, 31), (1, 1000), (28, 28), (300, 300), (2000, 2000)])
    huge = generator.choice(
        [(60000, 60000), (2**31 - 1, 1), (1, 2**31 - 1), (0, 0), (0, 28), (20000, 20000), (9500, 9500)]
    )

    def animated(kind: str) -> bytes:
        frames = [Image.fromarray(~drawings.letter(n, 30)).convert("L") for n in range(3)]
        return saved(frames[0], kind, save_all=True, append_images=frames[1:])

    def flipped(content: bytes, count: int) -> bytes:
        bytes_ = bytearray(content)
        for _ in range(count):
            bytes_[generator.randrange(len(bytes_))] ^= 1 << generator.randrange(8)
        return bytes(bytes_)

    def moded() -> bytes:
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(base(), np.uint16) * 257)
        elif mode in {"LAB", "RGBX", "LA", "CMYK", "YCbCr", "P", "RGBA"}:
            picture = base().convert("RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (30, 30), (200, 0, 0))
        else:
            picture = base().convert(mode)
        return saved(picture, "TIFF" if mode not in {"P", "LA", "RGBA"} else "PNG")

    return {
        "empty": lambda: b"",
        "cut": lambda: raw[:at],
        "bits flipped": lambda: flipped(raw, generator.choice([1, 2, 10])),
        f"bits flipped in a {form}": lambda: flipped(saved(base().convert("RGB"), form), generator.choice([1, 3, 30])),
        f"a cut {form}": lambda: saved(base().convert("RGB"), form)[: generator.randrange(20, 1000)],
        f"a {form}": lambda: saved(base().convert("RGB"), form),
        f"the mode {mode}": moded,
        f"the size {wide} x {high}": lambda: saved(Image.new("L", (wide, high), 200), "PNG"),
        f"a header of {huge[0]} x {huge[1]}": lambda: png(*huge, pixels=b"\0" * 1000),
        "a PPM of 100000 x 100000": lambda: b"P5 100000 100000 255\n" + b"\0" * 100,
        "a PPM with odd numbers": lambda: (
            b"P5 " + generator.choice([b"-1 5 255", b"30 30 0", b"9" * 500, b"30 30 70000"])
        ),
        "a picture that unpacks to 400 million pixels": lambda: png(20000, 20000, 1, 0, b"\0" * 2501 * 20000),
        "a text that unpacks to 50 MB": lambda: png(
            30, 30, 8, 0, b"\0" * 31 * 30, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 50_000_000))
        ),
        "a broken colour profile": lambda: png(30, 30, 8, 0, b"\0" * 31 * 30, chunk(b"iCCP", b"a\0\0xxxx")),
        "an odd depth": lambda: png(
            30, 30, generator.choice([0, 3, 16, 200]), generator.choice([0, 1, 3, 6]), b"\0" * 5000
        ),
        "moving": lambda: animated(generator.choice(["GIF", "PNG", "WEBP", "TIFF"])),
        "EXIF data": lambda: saved(
            base(), "JPEG", exif=generator.choice([b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08", generator.randbytes(100)])
        ),
        "an orientation": lambda: saved(base(), "JPEG", exif=_orientation(generator.choice([0, 1, 5, 8, 9, 60000]))),
        "16 bits": lambda: saved(Image.fromarray(np.asarray(base(), np.uint16) * 257), "PNG"),
        "transparent": lambda: saved(Image.new("RGBA", (30, 30), (0, 0, 0, 0)), "PNG"),
        "black": lambda: saved(Image.new("L", (30, 30), 0), "PNG"),
        "a text": lambda: b"text\n",
        "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="30"/>',
        "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 30\nshowpage\n",
        "an archive": lambda: b"PK\x05\x06" + b"\0" * 18,
        "random bytes": lambda: generator.randbytes(500),
        "JPEG 2000": lambda: b"\x00\x00\x00\x0cjP  \r\n\x87\n" + generator.randbytes(100),
        "a TIFF that points to itself": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }


def _orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number

    return exif.tobytes()


def places(generator: random.Random) -> dict[str, Change]:
    """Changes of names and of the folder."""
    name = generator.choice(NAMES)
    first, second = generator.choice(SPLITS), generator.choice(SPLITS)
    content = drawings.png(drawings.letter(99, 30))

    def named(folder: Path) -> None:
        (folder / "pictures/a" / os.fsdecode(name)).write_bytes(content)

    def folder_named(folder: Path) -> None:
        shutil.move(folder / "pictures/a", folder / "pictures" / os.fsdecode(name.removesuffix(b".png") or b"x"))

    def deep(folder: Path) -> None:
        inside = folder.joinpath("pictures", *["d"] * generator.choice([14, 15, 16, 17, 60]))
        inside.mkdir(parents=True)
        (inside / "x.png").write_bytes(content)

    def bound(folder: Path) -> None:
        place = folder / "pictures/x.png"
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(os.path.relpath(place))

    def put(relative: str, do: Change) -> Change:
        return lambda folder: do(folder / "pictures" / relative)

    def splits(folder: Path) -> None:
        shutil.move(folder / "pictures/a", folder / "pictures" / first)
        if first != second:
            shutil.move(folder / "pictures/b", folder / "pictures" / second)
        if generator.random() < 0.5:
            third = folder / "pictures" / generator.choice([split for split in SPLITS if split not in {first, second}])
            third.mkdir()
            (third / "x.png").write_bytes(content)

    def inside(folder: Path) -> None:
        for split in {first, second}:
            (folder / "pictures/a" / split).mkdir()
            (folder / "pictures/a" / split / "x.png").write_bytes(content)

    def few(folder: Path) -> None:
        files = sorted((folder / "pictures").rglob("*.png"))
        for file in files[generator.choice([0, 1, 2, 3]) :]:
            file.unlink()

    return {
        f"the file {name!r}": named,
        f"the folder {name!r}": folder_named,
        "folders in folders": deep,
        f"the folders {first!r} and {second!r}": splits,
        f"the folders {first!r} and {second!r} inside": inside,
        "few pictures": few,
        "no folder": lambda folder: shutil.rmtree(folder / "pictures"),
        "a file as the folder": lambda folder: (
            shutil.rmtree(folder / "pictures"),
            (folder / "pictures").write_bytes(b"x"),
        ),
        "a picture as the folder": lambda folder: (
            shutil.rmtree(folder / "pictures"),
            (folder / "pictures").write_bytes(content),
        ),
        "a link as the folder": lambda folder: (
            shutil.move(folder / "pictures", folder / "moved"),
            (folder / "pictures").symlink_to("moved"),
        ),
        "a link to itself": put("a/x.png", lambda path: path.symlink_to("x.png")),
        "a link to nothing": put("a/x.png", lambda path: path.symlink_to("nothing")),
        "a link to a picture": put("a/zz.png", lambda path: path.symlink_to("x/0.png")),
        "a link to the folder above": put("a/x/up", lambda path: path.symlink_to("..")),
        "a link to a device": put(
            "a/x.png", lambda path: path.symlink_to(generator.choice(["/dev/zero", "/dev/null"]))
        ),
        "a link out of the folder": put("a/x.png", lambda path: path.symlink_to("../../params.yaml")),
        "a folder named x.png": put("a/x.png", lambda path: path.mkdir()),
        "an empty folder": put("c", lambda path: path.mkdir()),
        "a hidden folder": put(".git", lambda path: path.mkdir()),
        "a pipe": put("a/x.png", os.mkfifo),
        "a socket": bound,
        "a picture at the top": put("x.png", lambda path: path.write_bytes(content)),
        "many pictures": lambda folder: [(folder / f"pictures/a/m{n}.png").write_bytes(content) for n in range(100)],
        "all alike": lambda folder: [file.write_bytes(content) for file in (folder / "pictures").rglob("*.png")],
    }


def mutate(number: int, seed: int, generator: random.Random) -> Mutation:
    """A mutation of a folder of pictures, for training or for a trained model."""
    if generator.random() < 0.6:
        options = contents(generator)
        what = generator.choice([*options])
        raw = options[what]()
        suffix = generator.choice(["png", "png", "png", "jpg", "tif", "gif", "webp", "pbm"])
        everywhere = generator.random() < 0.2

        def change(folder: Path) -> None:
            files = sorted((folder / "pictures").rglob("*.png"))
            for file in files if everywhere else files[3:4]:
                file.unlink()
                file.with_suffix(f".{suffix}").write_bytes(raw)

        what = f"{'all files' if everywhere else 'a file'}.{suffix}: {what}"
    else:
        changes = places(generator)
        what = generator.choice([*changes])
        change = changes[what]  # type: ignore[assignment]
    setting = generator.choice(["vae", "du_vae", "iaf_bn", "ae"])
    commands = stages("pictures", job("train", "pictures", setting), images=True)
    if generator.random() < 0.25:
        commands = ((*job("encode", "pictures"), "--input", "pictures"),)

    return Mutation("pictures", f"pictures: {what}", change, commands)
