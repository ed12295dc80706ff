"""Folders of a stranger: a packed cache or a workdir with one file that no run writes there, made to harm who reads it."""

import io
import json
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Spoil = Callable[[pathlib.Path], object]


class Payload:
    """Makes the file EXECUTED where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch EXECUTED",)


def array_file(header: dict[str, Any] | str, data: bytes = b"") -> bytes:
    """An .npy file of version 1 with any header."""
    text = (header if isinstance(header, str) else repr(header)).ljust(117) + "\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode() + data


def of_shape(*shape: int, kind: str = "|u1", data: bytes = b"") -> bytes:
    return array_file({"descr": kind, "fortran_order": False, "shape": shape}, data)


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def bomb(name: str) -> Spoil:
    """An archive of 400 kB that unpacks to 400 MB."""

    def spoil(folder: pathlib.Path) -> None:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("image.npy", "w", force_zip64=True) as file:
                file.write(of_shape(400 << 20))
                for _ in range(400):
                    file.write(bytes(1 << 20))

    return spoil


def put(name: str, content: bytes | str) -> Spoil:
    def spoil(folder: pathlib.Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def change(name: str, make: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: (folder / name).write_bytes(make((folder / name).read_bytes()))


def link(name: str, target: str) -> Spoil:
    def spoil(folder: pathlib.Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


def pipe(name: str) -> Spoil:
    def spoil(folder: pathlib.Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def change_json(file: str, /, **values: Any) -> Spoil:
    def make(content: bytes) -> bytes:
        return json.dumps({**json.loads(content), **values}).encode()

    return change(file, make)


def change_rows(make: Callable[[list[str]], list[str]]) -> Spoil:
    return change("table.csv", lambda content: "\n".join(make(content.decode().splitlines())).encode())


PICKLED = saved(np.array([Payload()], object))
TERABYTE = zipped(test_id=of_shape(1 << 40))
# {what it is: how a packed cache of posters becomes it}
CACHES: dict[str, Spoil] = {
    "packed.json of {}": put("packed.json", "{}"),
    "packed.json of a list": put("packed.json", "[]"),
    "packed.json cut": change("packed.json", lambda content: content[:-9]),
    "packed.json nested a million times": put("packed.json", "[" * 1_000_000),
    "packed.json of a number of a million digits": put("packed.json", '{"name": ' + "9" * 1_000_000 + "}"),
    "packed.json with a name of a number": change_json("packed.json", name=5),
    "packed.json with an empty name": change_json("packed.json", name=""),
    "packed.json with a path as fingerprint": change_json("packed.json", fingerprint="../../etc/passwd"),
    "packed.json with repairs of texts": change_json("packed.json", repaired={"grey": "many"}),
    "packed.json not UTF-8": put("packed.json", b"\xff\xfe{}"),
    "packed.json a link to a device": link("packed.json", "/dev/zero"),
    "packed.json a link to another file": link("packed.json", "/etc/hostname"),
    "images short": change("images.npy", lambda content: content[:-1]),
    "images empty": put("images.npy", b""),
    "images pickled": put("images.npy", PICKLED),
    "images a pickle without a header": put("images.npy", pickle.dumps(Payload())),
    "images of a terabyte": put("images.npy", of_shape(1 << 21, 1 << 9, 1 << 9, 3)),
    "images of more bytes than there are": put("images.npy", of_shape(1 << 40, 1 << 40, 1 << 40, 3)),
    "images of a negative shape": put("images.npy", of_shape(-1, 18, 16, 3)),
    "images of floats": put("images.npy", saved(np.zeros((60, 18, 16, 3), np.float32))),
    "images of two dimensions": put("images.npy", saved(np.zeros((60, 18), np.uint8))),
    "images of four colours": put("images.npy", saved(np.zeros((60, 18, 16, 4), np.uint8))),
    "images of one poster": put("images.npy", saved(np.zeros((1, 18, 16, 3), np.uint8))),
    "images turned": put("images.npy", saved(np.zeros((3, 16, 18, 60), np.uint8).T)),
    "images of no pixels": put("images.npy", saved(np.zeros((60, 0, 0, 3), np.uint8))),
    "images an archive": put("images.npy", zipped(a=PICKLED)),
    "images with code in the header": put("images.npy", array_file("__import__('os').system('touch EXECUTED')")),
    "images a link to a device": link("images.npy", "/dev/zero"),
    "images a pipe": pipe("images.npy"),
    "images a folder": lambda folder: ((folder / "images.npy").unlink(), (folder / "images.npy").mkdir()),
    "images a link to nothing": link("images.npy", "nowhere"),
    "table empty": put("table.csv", ""),
    "table of another file": link("table.csv", "/etc/passwd"),
    "table a pipe": pipe("table.csv"),
    "table not UTF-8": put("table.csv", b"id,genres,group,split\n\xff\xfe,a,b,c\n"),
    "table without a column": put("table.csv", "id,genres\n1,Drama\n"),
    "table of one poster fewer": change_rows(lambda rows: rows[:-1]),
    "table with ids of texts": change_rows(lambda rows: [rows[0], "x" + rows[1], *rows[2:]]),
    "table with an id twice": change_rows(lambda rows: [*rows[:-1], rows[-2]]),
    "table with an id beyond int32": change_rows(lambda rows: [*rows[:-1], "9999999999,Drama,1,"]),
    "table with another split": change_rows(lambda rows: [*rows[:-1], rows[-1] + "elsewhere"]),
    "table with escapes in a label": change_rows(lambda rows: [rows[0], rows[1].replace(",", ",\x1b[2J", 1), *rows[2:]]),
    "refused with other columns": put("refused.csv", "why\nnone\n"),
    "refused a link to a device": link("refused.csv", "/dev/zero"),
}
# {what it is: (the command that reads it, the file that the sentence names, how a finished run becomes it)}
WORKDIRS: dict[str, tuple[str, str, Spoil]] = {
    "results of lists": ("predict", "results.json", put("results.json", "[[]]")),
    "results nested a million times": ("report", "results.json", put("results.json", '{"a":' * 1_000_000)),
    "results a link to a device": ("predict", "results.json", link("results.json", "/dev/zero")),
    "results a pipe": ("report", "results.json", pipe("results.json")),
    "results with seeds of texts": ("report", "results.json", change_json("results.json", seeds=["a"])),
    "results with data of texts": ("predict", "results.json", change_json("results.json", data="a")),
    "results with steps of a text": ("report", "results.json", change_json("results.json", num_steps="7")),
    "results with a body of code": ("predict", "results.json", change_json("results.json", body={"epsilon": "open('/etc')"})),
    "config of a list": ("predict", "config.json", put("config.json", "[]")),
    "config with a path as protocol": ("predict", "config.json", change_json("config.json", protocol="../../x")),
    "config a pipe": ("predict", "config.json", pipe("config.json")),
    "labels a link to a device": ("predict", "labels.json", link("labels.json", "/dev/zero")),
    "labels of numbers": ("predict", "labels.json", change_json("labels.json", genres=[1, 2, 3])),
    "predictions pickled": ("compare", "predictions.npz", put("predictions.npz", zipped(test_id=PICKLED))),
    "predictions a pickle": ("compare", "predictions.npz", put("predictions.npz", pickle.dumps(Payload()))),
    "predictions that unpack to 400 MB": ("compare", "predictions.npz", bomb("predictions.npz")),
    "predictions of a declared terabyte": (
        "compare",
        "predictions.npz",
        put("predictions.npz", TERABYTE),
    ),
    "predictions a pipe": ("compare", "predictions.npz", pipe("predictions.npz")),
    "samples pickled": ("report", "samples.npz", put("samples.npz", zipped(image=PICKLED))),
    "samples that unpack to 400 MB": ("report", "samples.npz", bomb("samples.npz")),
    "metrics a link to a device": ("report", "metrics.jsonl", link("metrics.jsonl", "/dev/zero")),
    "refused a link to a device": ("report", "refused.csv", link("refused.csv", "/dev/zero")),
    "checkpoint a text": (
        "predict",
        "checkpoint",
        change("checkpoints/best/2/variables/manifest.ocdbt", lambda _: b"no checkpoint"),
    ),
    "checkpoint without its metadata": ("predict", "checkpoint", put("checkpoints/best/2/_CHECKPOINT_METADATA", "{}")),
    "checkpoint a pipe": ("predict", "_CHECKPOINT_METADATA", pipe("checkpoints/best/2/_CHECKPOINT_METADATA")),
    "checkpoint a link to a device": ("predict", "_METADATA", link("checkpoints/best/2/variables/_METADATA", "/dev/zero")),
}
