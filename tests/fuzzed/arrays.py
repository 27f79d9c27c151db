"""Mutations of npz files: types, shapes, headers that lie, members that are none, and damaged archives."""

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

import drawings
from fuzzed.mutation import Mutation, job, stages

TYPES = ("u1", "i1", "u2", "i2", "i4", "i8", "u8", "f2", "f4", ">f4", "f8", "g", "c8", "c16", "?", "U5", "S5", "V4",
         "M8[s]", "m8[s]", "u1,f4", "O")  # fmt: skip
NAMES = ("train", "Train", "TRAIN", "valid", "val", "Valid", "validation", "test", "Test", "test2", "eval", "dev",
         "images", "Images", "image", "labels", "train_images", "train_labels", "test_labels", "x_train", "arr_0", "",
         "a/b", "../x", "\x1b[2J", "\u00fc", "images_labels", "labels_labels", "train.npy", "x" * 300)  # fmt: skip


def sound(generator: random.Random) -> dict[str, Any]:
    """The arrays of a sound file, without splits or with them."""
    images = np.stack([255 * ~drawings.letter(n, 28) for n in range(12)]).astype(np.uint8)
    labels = np.arange(12) % 2
    if generator.random() < 0.6:
        return {"images": images, "labels": labels}
    parts = {"train": slice(0, 8), "valid": slice(8, 10), "test": slice(10, 12)}
    named: dict[str, Any] = {split: images[part] for split, part in parts.items()}

    return named | {f"{split}_labels": labels[part] for split, part in parts.items()}


def member(array: Any) -> bytes:
    """The bytes of one array in an npz file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)

    return file.getvalue()


def header(text: bytes, version: tuple[int, int] = (1, 0), length: int | None = None, body: bytes = b"") -> bytes:
    """The bytes of an array with any text as its header."""
    size = len(text) if length is None else length
    count = struct.pack("<H", size % 65536) if version[0] == 1 else struct.pack("<I", size % 2**32)

    return b"\x93NUMPY" + bytes(version) + count + text + body


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, content in members:
            opened.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, compression)

    return file.getvalue()


def _arrays(arrays: dict[str, Any], name: str, generator: random.Random) -> dict[str, Callable[[], Any]]:
    """Changes of one array; None removes it."""
    array = arrays[name]
    type_ = np.dtype(generator.choice(TYPES))
    shape = generator.choice([(), (0,), (12,), (12, 784), (0, 28, 28), (12, 0, 0), (12, 28, 28, 1), (12, 28, 28, 3),
                              (1, 28, 28), (12, 27, 28), (12, 1, 1), (12, 5, 5), (2, 200, 200),
                              (3, 28, 28)])  # fmt: skip
    value = generator.choice([np.nan, np.inf, -np.inf, -0.0, -1.0, 1.5, 255.0, 1e300, 1e-320, 1e-9])
    number = generator.choice([-1, -(2**63), 2**31, 2**63 - 1, 10**6, 999_999, 0])

    def typed() -> Any:
        return array.astype(type_) if type_.names is None else np.zeros(array.shape, type_)

    def one(new: Any) -> Any:
        copy = array.astype(np.float64 if isinstance(new, float) else np.int64)
        copy.reshape(-1)[generator.randrange(copy.size)] = new
        return copy

    return {
        f"the type {type_}": typed,
        f"zeros of the type {type_}": lambda: np.zeros(array.shape, type_),
        f"the shape {shape}": lambda: np.resize(array, shape),
        f"one {value}": lambda: one(float(value)),
        f"one {value}, in 0 to 1": lambda: np.where(
            np.arange(array.size).reshape(array.shape) == 3, value, array / 255
        ),
        f"one {number}": lambda: one(number),
        f"all {number}": lambda: np.full(array.shape, number, np.int64),
        "bits as numbers": lambda: (array > 0).astype(generator.choice(["u1", "i8", "f4", "f8"])),
        "shares": lambda: array / 255,
        "shares divided twice": lambda: array / 255 / 255,
        "in Fortran's order": lambda: np.asfortranarray(array),
        "of objects": lambda: array.astype(object),
        "None": lambda: np.array(None),
        "removed": lambda: None,
        "black": lambda: np.zeros_like(array),
        "white": lambda: np.full_like(array, 255),
        "all alike": lambda: np.stack([array[0]] * len(array)),
        "one example": lambda: array[:1],
        "large": lambda: np.zeros((3000, 64, 64), np.uint8) + np.uint8(200),
    }


def _headers(generator: random.Random) -> bytes:
    """An array whose header lies or is none."""
    shape = generator.choice(["(1099511627776,)", "(1000000, 1000, 1000)", "(-1, 28, 28)", "(12, 28)", "12", "()",
                              "(2.5,)", "(True, 28, 28)", "('a',)", "(" + "9" * 5000 + ",)", "((((12,),),),)",
                              "(0, 99999999999999999999)", "(4294967296, 4294967296)", "(13, 28, 28)"])  # fmt: skip
    descr = generator.choice(["'|u1'", "'<f8'", "'|O'", "'|V0'", "'|S0'", "'<U99999999'", "'x'", "None", "1", "''",
                              "[('a', '|u1')]", "[('a', '<f8', (1000, 1000))]", "'|u1' * 100", "{}", "'<M8[9999999s]'",
                              "__import__('os')"])  # fmt: skip
    order = generator.choice(["False", "True", "None", "2", "'no'"])
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    odd = [text, text + b" " * 60 + b"\n", b"", b"\n", b"{" * 1000, b"[" * 5000, text[:30], text * 2, b"\xff" * 50]
    odd += [
        b"{'shape': (1,)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (12, 28, 28), 'more': 1}",
        b"\0" * 100,
    ]
    version = generator.choice([(1, 0), (1, 0), (2, 0), (3, 0), (9, 9), (0, 0)])
    length = generator.choice([None, None, None, 0, 5, 65535, 2**31])

    return header(generator.choice(odd), version, length, b"\xc8" * generator.choice([0, 1, 9408, 20000]))


def _archives(arrays: dict[str, Any], generator: random.Random) -> dict[str, Callable[[], bytes]]:
    """Changes of the file as a whole."""
    members = [(f"{name}.npy", member(array)) for name, array in arrays.items()]
    raw = archive(members)
    at = generator.randrange(len(raw))
    name = generator.choice([*arrays])

    def replaced(content: bytes) -> bytes:
        return archive([(f"{name}.npy", content), *(each for each in members if each[0] != f"{name}.npy")])

    def flipped(count: int) -> bytes:
        bytes_ = bytearray(raw)
        for _ in range(count):
            # The directory at the end and the headers matter more than pixels.
            where = generator.choice([generator.randrange(len(raw)), len(raw) - 1 - generator.randrange(200),
                                      generator.randrange(180)])  # fmt: skip
            bytes_[where] ^= 1 << generator.randrange(8)
        return bytes(bytes_)

    other = generator.choice(NAMES)

    return {
        "cut": lambda: raw[:at],
        "cut at the end": lambda: raw[: -generator.randrange(1, 60)],
        "bytes flipped": lambda: flipped(generator.choice([1, 1, 2, 10, 100])),
        "bytes in front": lambda: b"x" * 1000 + raw,
        "bytes behind": lambda: raw + b"x" * 1000,
        "bytes removed": lambda: raw[:at] + raw[at + generator.randrange(1, 500) :],
        "a strange header": lambda: replaced(_headers(generator)),
        "a pickle": lambda: replaced(pickle.dumps(arrays[name].tolist())),
        "a pickle in an array": lambda: replaced(member(np.array([{"a": 1}], object))),
        "a text as a member": lambda: replaced(b"text"),
        "an empty member": lambda: replaced(b""),
        "a cut member": lambda: replaced(member(arrays[name])[: generator.choice([4, 9, 60, 200])]),
        "a member with too much": lambda: replaced(member(arrays[name]) + b"x" * 5000),
        f"another member {other[:20]!r}": lambda: archive([*members, (f"{other}.npy", member(arrays[name]))]),
        f"the name {other[:20]!r}": lambda: archive(
            [(f"{other}.npy" if each[0] == f"{name}.npy" else each[0], each[1]) for each in members]
        ),
        "a name twice": lambda: archive([*members, members[0]]),
        "another file inside": lambda: archive([*members, ("readme.txt", b"text")]),
        "a folder inside": lambda: archive([*members, ("folder/", b"")]),
        "compressed": lambda: archive(
            members, generator.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        ),
        "no member": lambda: archive([]),
        "a plain array": lambda: member(arrays[name]),
        "a pickle as the file": lambda: pickle.dumps(arrays),
        "empty": lambda: b"",
        "a text": lambda: b"0\tgood word\n",
        "random bytes": lambda: generator.randbytes(1000),
        "a picture": lambda: drawings.png(drawings.letter(1, 28)),
        "200 MB of zeros": lambda: archive(
            [("images.npy", member(np.zeros((200, 1000, 1000), np.uint8)))], zipfile.ZIP_DEFLATED
        ),
    }


def mutate(number: int, seed: int, generator: random.Random) -> Mutation:
    """A mutation of an npz file, for training or for a trained model."""
    import warnings

    arrays = sound(generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if generator.random() < 0.5:
            name = generator.choice([*arrays])
            options = _arrays(arrays, name, generator)
            what = generator.choice([*options])
            new = options[what]()
            parts = {key: value for key, value in {**arrays, name: new}.items() if value is not None}
            raw, what = (
                archive([(f"{key}.npy", member(value)) for key, value in parts.items()]),
                f"array {name}, {what}",
            )
        else:
            wholes = _archives(arrays, generator)
            what = generator.choice([*wholes])
            raw = wholes[what]()
    setting = generator.choice(["vae", "du_vae", "iaf_bn", "ae"])
    commands = stages("arrays", job("train", "arrays", setting), images=True)
    if generator.random() < 0.25:
        commands = ((*job("encode", "pictures"), "--input", "images.npz"),)

    return Mutation("arrays", f"images.npz: {what}", lambda folder: (folder / "images.npz").write_bytes(raw), commands)
