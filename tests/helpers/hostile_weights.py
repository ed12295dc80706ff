"""Weights files of someone who means harm: small on disk, and large, endless or elsewhere where they are believed.

`python -m tests.helpers.hostile_weights FOLDER` writes all of them and prints what each is told.
"""

import json
import os
import pathlib
import pickle
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.helpers.made_weights import Payload, keras_arrays, write_weights_h5


def _safetensors(table: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this table, or with these bytes for it, that states `length` as the table's."""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _entry(*shape: int, at: tuple[int, int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": at}


def _stem(**entry: Any) -> dict[str, Any]:
    return {"features.0.0.weight": {**_entry(32, 3, 3, 3, at=(0, 3456)), **entry}}


SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "header_of_a_terabyte": lambda: _safetensors(b"{" + b" " * 99, length=1 << 40),
    "header_beyond_the_end": lambda: _safetensors(b"{" + b" " * 99, length=1 << 20),
    "header_of_zeros": lambda: _safetensors(b"{" + b"\0" * 99),
    "header_nested": lambda: _safetensors(b'{"a":' * 100_000),
    "header_a_list": lambda: _safetensors(b"{[]}"),
    "offsets_beyond_the_end": lambda: _safetensors(_stem(data_offsets=(0, 1 << 50)), bytes(3456)),
    "offsets_backwards": lambda: _safetensors(_stem(data_offsets=(3456, 0)), bytes(3456)),
    "offsets_overlapping": lambda: _safetensors({"a": _entry(4, at=(0, 16)), "b": _entry(4, at=(8, 24))}, bytes(24)),
    "shape_negative": lambda: _safetensors(_stem(shape=(-32, -3, 3, 3)), bytes(3456)),
    "shape_overflowing": lambda: _safetensors(_stem(shape=(1 << 62, 1 << 62)), bytes(3456)),
    "shape_of_floats": lambda: _safetensors(_stem(shape=(32.0, 3, 3, 3)), bytes(3456)),
    "keys_twice": lambda: _safetensors(
        b'{"features.0.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"features.0.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
    ),
    "dtype_unknown": lambda: _safetensors(_stem(dtype="PICKLE"), bytes(3456)),
    "a_hundred_thousand_arrays": lambda: _safetensors({f"a{i}": _entry(0, at=(0, 0)) for i in range(100_000)}),
}


def _keras(path: pathlib.Path, change: Callable[[Any], None]) -> None:
    """A whole body of Keras with something changed."""
    import h5py

    write_weights_h5(path, keras_arrays())
    with h5py.File(path, "a") as file:
        change(file)


STEM = "layers/conv2d/vars/0"


def _replace(file: Any, make: Callable[[Any], None], name: str = STEM) -> None:
    del file[name]
    make(file)


def _external_link(file: Any) -> None:
    import h5py

    _replace(file, lambda file: file.__setitem__(STEM, h5py.ExternalLink("/etc/passwd", "/")))


def _soft_cycle(file: Any) -> None:
    import h5py

    file["layers/loop"] = h5py.SoftLink("/layers")


def _virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout((3, 3, 3, 16), "f4")
    layout[:] = h5py.VirtualSource("/tmp/elsewhere.h5", "x", (3, 3, 3, 16))
    _replace(file, lambda file: file.create_virtual_dataset(STEM, layout))


def _external_storage(file: Any) -> None:
    _replace(file, lambda file: file.create_dataset(STEM, (3, 3, 3, 16), "f4", external=[("/etc/passwd", 0, 1728)]))


def _huge_chunk(file: Any) -> None:
    options = {"chunks": (256, 256, 256, 16), "maxshape": (None,) * 4, "compression": "gzip"}
    _replace(file, lambda file: file.create_dataset(STEM, (3, 3, 3, 16), "f4", **options))


def _deep(file: Any) -> None:
    group = file["layers"]
    for _ in range(2000):
        group = group.create_group("g")


def _hard_cycle(file: Any) -> None:
    file["layers/again"] = file["layers"]


def _strings(file: Any) -> None:
    import h5py

    def fill(file: Any) -> None:
        dataset = file.create_dataset(STEM, (3, 3, 3, 16), h5py.string_dtype())
        dataset[...] = "x" * 10_000

    _replace(file, fill)


HDF5: dict[str, Callable[[Any], None]] = {
    "external_link": _external_link,
    "soft_link_cycle": _soft_cycle,
    "hard_link_cycle": _hard_cycle,
    "virtual_dataset": _virtual,
    "external_storage": _external_storage,
    "shape_of_a_terabyte": lambda file: _replace(
        file, lambda file: file.create_dataset(STEM, (1 << 12, 1 << 12, 1 << 7, 1 << 7), "f4", chunks=(1, 1, 64, 64))
    ),
    "chunk_of_1_GB": _huge_chunk,
    "groups_2000_deep": _deep,
    "strings_for_numbers": _strings,
    "void_for_numbers": lambda file: _replace(file, lambda file: file.create_dataset(STEM, (3, 3, 3, 16), np.dtype("V64"))),
    "attribute_for_a_name": lambda file: file["layers/conv2d/vars"].attrs.__setitem__("name", np.ones((50, 50))),
    "lines_in_a_name": lambda file: file["layers/conv2d/vars"].attrs.__setitem__(
        "name", "Conv1\n\x1b[2Jposter_jax: all is well" * 99
    ),
    "negative_variances": lambda file: file["layers/batch_normalization/vars/3"].__setitem__(..., -1.0),
    "infinite_values": lambda file: file[STEM].__setitem__(..., np.inf),
}


def _config(**norm: Any) -> bytes:
    layer = {"class_name": "BatchNormalization", "config": {"name": "bn_Conv1", "epsilon": 1e-3, "momentum": 0.9, **norm}}
    return json.dumps({"config": {"layers": [layer]}}).encode()


def _archive(path: pathlib.Path, config: bytes, weights: Callable[[Any], None] | None = None) -> None:
    """A .keras with this config around a body, or around what `weights` writes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("config.json", config)
        with archive.open("model.weights.h5", "w", force_zip64=True) as member:
            if weights:
                weights(member)
            else:
                inner = path.with_suffix(".weights.h5")
                write_weights_h5(inner, keras_arrays())
                member.write(inner.read_bytes())
                inner.unlink()


def _zeros(num_mb: int) -> Callable[[Any], None]:
    def write(member: Any) -> None:
        for _ in range(num_mb):
            member.write(bytes(1 << 20))

    return write


KERAS: dict[str, Callable[[pathlib.Path], None]] = {
    "bomb": lambda path: _archive(path, b"{}", _zeros(160)),
    "bomb_in_the_config": lambda path: _archive(path, b'{"a": "' + b" " * (32 << 20) + b'"}'),
    "config_nested": lambda path: _archive(path, b"[" * 1_000_000),
    "epsilon_not_a_number": lambda path: _archive(path, _config(epsilon=float("nan"))),
    "epsilon_negative": lambda path: _archive(path, _config(epsilon=-1.0)),
    "momentum_text": lambda path: _archive(path, _config(momentum="__import__('os')")),
}


def _npz(path: pathlib.Path, fields: dict[str, Any], **more: np.ndarray) -> None:
    """Our own format with other settings, or with arrays more."""
    from poster_jax.models import pretrained, weight_files

    source = path.with_suffix(".weights.h5")
    loaded = weight_files.load(write_weights_h5(source, keras_arrays()))
    source.unlink()
    pretrained.save(path, loaded)
    with np.load(path) as file:
        arrays = dict(file)
    entry = json.loads(arrays.pop("provenance").tobytes())
    entry["fields"] |= fields
    np.savez(path, provenance=np.frombuffer(json.dumps(entry).encode(), np.uint8), **arrays, **more)


def _npy_of(shape: str) -> bytes:
    """An array's header that states this shape, and no values."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def _npz_stating(shape: str) -> Callable[[pathlib.Path], None]:
    def write(path: pathlib.Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("provenance.npy", _npy_of("(9,)") + bytes(36))
            archive.writestr("params/stem/kernel.npy", _npy_of(shape))

    return write


OURS: dict[str, Callable[[pathlib.Path], None]] = {
    "shape_of_a_terabyte": _npz_stating("(1000000, 1000000)"),
    "shape_negative": _npz_stating("(-3, 3, 3, 16)"),
    "shape_of_code": _npz_stating("(__import__('os').mkdir('ran'),)"),
    "epsilon_zero": lambda path: _npz(path, {"epsilon": 0.0}),
    "width_text": lambda path: _npz(path, {"width": "1.0"}),
    "width_huge": lambda path: _npz(path, {"width": 1e9}),
    "mean_of_two": lambda path: _npz(path, {"input_mean": [0.0, 0.0]}),
    "an_array_more": lambda path: _npz(path, {}, **{"params/stem/other": np.ones(3)}),
}


def _pickle_of(marker: pathlib.Path) -> bytes:
    return pickle.dumps({"features.0.0.weight": Payload(marker)})


def make(folder: pathlib.Path) -> list[str]:
    """Writes every file into `folder` and returns their values of `model.weights`; code in them would make `folder`/ran."""
    marker = folder / "ran"
    made: list[str] = []

    def path(source: str, name: str, suffix: str) -> pathlib.Path:
        made.append(f"{source}:{folder / f'{source}_{name}{suffix}'}")
        return folder / f"{source}_{name}{suffix}"

    for name, content in SAFETENSORS.items():
        path("torchvision", name, ".safetensors").write_bytes(content())
    for name, change in HDF5.items():
        _keras(path("keras", name, ".weights.h5"), change)
    for name, write in KERAS.items():
        write(path("keras", name, ".keras"))
    for name, write in OURS.items():
        write(path("poster_jax", name, ".npz"))
    path("torchvision", "pickle", ".pth").write_bytes(_pickle_of(marker))
    path("torchvision", "pickle_in_safetensors", ".safetensors").write_bytes(_pickle_of(marker))
    path("keras", "pickle_in_h5", ".h5").write_bytes(_pickle_of(marker))
    with zipfile.ZipFile(path("torchvision", "bomb", ".pth"), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", _pickle_of(marker))
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            _zeros(600)(member)
    os.mkfifo(path("torchvision", "pipe", ".pth"))
    path("keras", "link_to_zeros", ".h5").symlink_to("/dev/zero")
    path("keras", "link_to_itself", ".h5").symlink_to(folder / "keras_link_to_itself.h5")
    path("keras", "folder", ".h5").mkdir()
    return made


def main(argv: list[str] | None = None) -> int:
    from poster_jax import errors
    from poster_jax.models import weight_files

    folder = pathlib.Path((sys.argv[1:] if argv is None else argv)[0])
    folder.mkdir(parents=True)
    for weights in make(folder):
        try:
            weight_files.load(weights)
            print(f"READ {weights}")
        except errors.UserError as error:
            print(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
