"""A file that is no weights of ours is named as what it is, and nobody is sent to fetch a whole file again."""

import io
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from tests.helpers.made_weights import refusal


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


# {what is told: (name of the file, its content)}
FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "is a Git LFS pointer": ("a.safetensors", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14\n"),
    "is a web page": ("b.h5", lambda: b"\n <!DOCTYPE html><html><body>404"),
    "is an ONNX model": ("c.onnx", lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x10"),
    "is a TFLite model": ("d.tflite", lambda: b"\x1c\0\0\0TFL3" + bytes(50)),
    "is a SavedModel of TensorFlow": ("saved_model.pb", lambda: b"\x08\x01\x12\xa0\x01" + bytes(50)),
    "is a checkpoint of TensorFlow": ("model.ckpt.data-00000-of-00001", lambda: bytes(range(200, 250)) * 9),
    "is a checkpoint of TensorFlow: load": ("model.ckpt.index", lambda: b"\x00\x00\x12\x08" * 9),
    "is a Python pickle": ("e.pkl", lambda: b"\x80\x04\x95" + bytes(40)),
    "is a single numpy array": ("f.npy", _npy),
    "is an .npz of numpy arrays without the settings": ("g.npz", _npz),
    "is a TorchScript program": ("h.pt", lambda: _zip("h/data.pkl", "h/code/__torch__.py", "h/constants.pkl")),
    "is a zip archive without weights": ("i.zip", lambda: _zip("readme.txt")),
    "is a packed file: unpack it": ("j.h5.gz", lambda: b"\x1f\x8b\x08" + bytes(40)),
    "is a tar archive": ("k.tar", lambda: b"a" * 257 + b"ustar" + bytes(40)),
    "is a picture": ("l.h5", lambda: b"\xff\xd8\xff\xe0" + bytes(40)),
    "is a GGUF file": ("m.gguf", lambda: b"GGUF\3\0\0\0"),
    "is a msgpack file of Flax": ("n.msgpack", lambda: b"\x83\xa6params" + bytes(range(128, 200))),
    "is JSON": ("model.safetensors.index.json", lambda: b'{"metadata": {}, "weight_map": {}}'),
    "is text": ("o.safetensors", lambda: b"not weights at all, though long enough for a length"),
    "is of no kind that is known here": ("p.bin", lambda: bytes(range(1, 32)) * 9),
    "is empty: fetch it again": ("q.h5", lambda: b""),
}


@pytest.mark.parametrize("told", FILES)
def test_a_file_of_another_kind_is_named(tmp_path: pathlib.Path, told: str) -> None:
    name, content = FILES[told]
    (tmp_path / name).write_bytes(content())
    for framework in ("keras", "torchvision", "poster_jax"):
        message = refusal(f"{framework}:{tmp_path / name}")
        assert told in message and ("fetch it again" in message) == ("fetch" in told)


def test_folders_are_named_and_the_file_in_them_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert "is a SavedModel of TensorFlow: give a file of weights." in refusal(f"keras:{tmp_path}")
    inner = tmp_path / "hub"
    inner.mkdir()
    (inner / "model.safetensors").touch()
    assert refusal(f"timm:{inner}").endswith(f"is a folder: give a file of weights, as {inner / 'model.safetensors'}.")
