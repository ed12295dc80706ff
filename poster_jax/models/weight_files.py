"""Reads the weights that `model.weights` names: MobileNetV2 bodies from files of Keras, torchvision or our own format.

No code in a file is ever run: of Keras's configs only names and numbers are read, and pickles by torch's `weights_only` alone.
Arrays are found by name, and every one is accounted for.
"""

import hashlib
import json
import pathlib
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.models import keras_files, mobilenet_v2, pretrained

# Collection and leaf of our arrays, and the leaf's name in the frameworks: the convolution's first, then the BatchNorm's.
OUR_LEAVES = (("params", "kernel"), ("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))
THEIR_LEAVES = {
    "keras": ("kernel", *keras_files.BATCH_NORM_LEAVES),
    "torchvision": ("weight", "weight", "bias", "running_mean", "running_var"),
}
# The widths of official files first; a file may have any other on this grid.
WIDTHS = (1.0, 0.75, 0.5, 0.35, 1.3, 1.4, *(step / 100 for step in range(5, 401)))
IMAGENET = re.compile(r"imagenet(?:_(?P<width>[\d.]+)_(?P<size>\d+))?(?:@(?P<sha256>[0-9a-f]{64}))?")
IMAGENET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}


def load(weights: str) -> pretrained.Pretrained:
    """Reads `model.weights`: "keras:PATH", "torchvision:PATH", "poster_jax:PATH" or "keras:imagenet".

    "keras:imagenet" is the official file of width 1.0 and 224 px, "keras:imagenet_0.5_160" another of them; "@SHA256" after
    either has the downloader check it. Raises UserError, which lists the arrays, for a file that is not exactly a body.
    """
    framework, _, name = weights.partition(":")
    if framework not in READERS or not name:
        raise errors.UserError(
            f"config.model.weights={weights!r} is unknown: give keras:PATH, keras:imagenet, torchvision:PATH, poster_jax:PATH."
        )
    official = IMAGENET.fullmatch(name) if framework == "keras" else None
    path = _fetch(official) if official else pathlib.Path(name).expanduser()
    if not path.is_file():
        raise errors.UserError(f"the weights file {path} does not exist; give the path of one after {framework}:.")
    try:
        found = framework_of(path)
        if found not in (framework, ""):
            raise errors.UserError(f"the weights file {path} is not of {framework}: write {found}:{path}.")
        return READERS[framework](path)
    # What h5py, zipfile, zlib, numpy and json raise for files that are damaged or something else altogether.
    except (OSError, EOFError, TypeError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise errors.UserError(
            f"the weights file {path} cannot be read as one of {framework} ({why}): it is cut short or something else; "
            "fetch it again."
        ) from error


def framework_of(path: pathlib.Path) -> str:
    """The framework of a file by its first bytes, the names in its archive or its suffix; "" where none is known."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return "keras"
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
        marks = {"model.weights.h5": "keras", "provenance.npy": "poster_jax", "data.pkl": "torchvision"}
        return next((framework for mark, framework in marks.items() if mark in names), "")
    return "torchvision" if path.suffix in (".safetensors", ".pth", ".pt") else ""


def _their_layers(framework: str, unit: str) -> tuple[str, str]:
    """Names of a unit's convolution and BatchNorm."""
    block, _, part = unit.partition("/")
    index = 0 if unit == "stem" else len(mobilenet_v2.block_rows(1.0, "keras")) + 1
    if framework == "keras":
        if not part:
            return {"stem": ("Conv1", "bn_Conv1"), "last": ("Conv_1", "Conv_1_bn")}[unit]
        layer = f"expanded_conv_{part}" if block == "block_0" else f"{block}_{part}"
        return layer, f"{layer}_BN"
    if not part:
        return f"features.{index}.0", f"features.{index}.1"
    index = int(block.removeprefix("block_")) + 1
    # The first block does not expand, so its other layers are one place earlier.
    place = ("expand", "depthwise", "project").index(part) - (index == 1)
    stage = f"features.{index}.conv.{place}"
    return (stage, f"features.{index}.conv.{place + 1}") if part == "project" else (f"{stage}.0", f"{stage}.1")


def _their_names(framework: str) -> dict[str, str]:
    """{our flat name: the framework's name} of every array, in the order of the forward pass."""
    separator = {"keras": "/", "torchvision": "."}[framework]
    names = {}
    for unit in mobilenet_v2.unit_names():
        convolution, norm = _their_layers(framework, unit)
        for (collection, ours), theirs in zip(OUR_LEAVES, THEIR_LEAVES[framework], strict=True):
            names[f"{collection}/{unit}/{ours}"] = separator.join((convolution if ours == "kernel" else norm, theirs))
    return names


def _axes(framework: str, name: str) -> tuple[int, ...]:
    """Which of our axes theirs are: torch has [out, in, h, w], Keras [h, w, channels, 1] for depthwise kernels."""
    if not name.endswith("/kernel"):
        return (0,)
    return (3, 2, 0, 1) if framework == "torchvision" else (0, 1, 3, 2) if "/depthwise/" in name else (0, 1, 2, 3)


def _from_theirs(framework: str, path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], float]:
    """Our variables and the width, of arrays under the framework's names."""
    names = _their_names(framework)
    padding = pretrained.FRAMEWORKS[framework]["padding"]

    def mismatches(width: float) -> int:
        rows = enumerate(mobilenet_v2.block_rows(width, padding))
        filters = {f"block_{index}/project": row.filters for index, row in rows}
        filters |= {"stem": mobilenet_v2.stem_filters(width), "last": mobilenet_v2.last_filters(width)}
        scales = {unit: arrays.get(names[f"params/{unit}/scale"]) for unit in filters}
        return sum(scale is not None and scale.shape != (filters[unit],) for unit, scale in scales.items())

    width = min(WIDTHS, key=mismatches)
    ours = pretrained.body_shapes(width, padding)
    needed = {theirs: tuple(ours[name][axis] for axis in _axes(framework, name)) for name, theirs in names.items()}
    pretrained.account(
        f"the weights file {path} is not exactly a MobileNetV2 of {framework}",
        {name: array.shape for name, array in arrays.items()},
        needed,
        "give one that is",
    )
    flat = {name: arrays[theirs].transpose(np.argsort(_axes(framework, name))) for name, theirs in names.items()}
    return pretrained.checked(path, flat), width


def _provenance(path: pathlib.Path, framework: str, resolution: int | None, left_out: Sequence[str]) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "source": path.name,
        "sha256": digest,
        "framework": framework,
        "resolution": resolution,
        "left_out": sorted(left_out),
    }


def _read_keras(path: pathlib.Path) -> pretrained.Pretrained:
    layers = [layer for unit in mobilenet_v2.unit_names() for layer in _their_layers("keras", unit)]
    body = keras_files.read(path, layers)
    variables, width = _from_theirs("keras", path, body.arrays)
    fields = dict(pretrained.FRAMEWORKS["keras"])
    if body.epsilon is not None:
        fields |= {"epsilon": body.epsilon, "momentum": body.momentum}
    return pretrained.Pretrained(
        variables, width, **fields, provenance=_provenance(path, "keras", body.resolution, body.left_out)
    )


def _read_torchvision(path: pathlib.Path) -> pretrained.Pretrained:
    arrays = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path)
    names = _their_names("torchvision").values()
    counters = {name.replace("running_var", "num_batches_tracked") for name in names if name.endswith("running_var")}
    left_out = [name for name in arrays if name in counters or name in ("classifier.1.weight", "classifier.1.bias")]
    body = {name: array for name, array in arrays.items() if name not in left_out}
    variables, width = _from_theirs("torchvision", path, body)
    return pretrained.Pretrained(
        variables, width, **pretrained.FRAMEWORKS["torchvision"], provenance=_provenance(path, "torchvision", None, left_out)
    )


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The format is a length, a JSON table and the bytes: https://huggingface.co/docs/safetensors."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    table = json.loads(content[8:start])
    table.pop("__metadata__", None)
    arrays = {}
    for name, entry in table.items():
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(content[start + begin : start + end], SAFETENSORS_TYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    return arrays


def _read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise errors.UserError(
            f"reading {path} needs PyTorch: install torch, or save the state_dict as .safetensors where there is one."
        ) from error
    try:
        with warnings.catch_warnings():
            # torch warns of a pickle protocol that it does not write itself; what is refused is refused in our words.
            warnings.simplefilter("ignore", UserWarning)
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise errors.UserError(
            f"the weights file {path} holds more than arrays, which could run code: save model.state_dict() alone."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise errors.UserError(f"the weights file {path} is not a state_dict: save model.state_dict() alone.")
    return {name: value.float().numpy() for name, value in tensors.items()}


READERS = {"keras": _read_keras, "torchvision": _read_torchvision, "poster_jax": pretrained.read}


def _fetch(official: re.Match[str]) -> pathlib.Path:
    """The official file, through Keras's downloader and its cache. Keras publishes no hash for it: "@SHA256" gives one."""
    name = (
        f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(official['width'] or 1)}_{official['size'] or 224}_no_top.h5"
    )
    way_out = f"fetch {IMAGENET_URL}{name} where there is a network and give keras:PATH"
    try:
        from keras import utils
    except ImportError as error:
        raise errors.UserError(f"keras:imagenet needs Keras's downloader: pip install keras, or {way_out}.") from error
    try:
        return pathlib.Path(utils.get_file(name, IMAGENET_URL + name, cache_subdir="models", file_hash=official["sha256"]))
    # get_file raises bare Exception for a failed download, ValueError for a wrong hash.
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise errors.UserError(
            f"the official weights could not be fetched ({why}): {way_out}, or train the small network from drawn weights "
            "(configs/own_posters.py:small)."
        ) from error
