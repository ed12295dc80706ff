"""Pretrained weights with the settings that belong to them, and our own file format for both.

The format is one .npz of flat arrays (`params/block_3/expand/kernel`) and a JSON entry. numpy alone reads it; pickles
are refused.
"""

import dataclasses
import functools
import io
import json
import math
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from poster_jax import errors
from poster_jax.models import body as body_lib
from poster_jax.models import families, types
from poster_jax.runtime import storage

# {format of a file: the network that it is for}
FORMATS = {f"poster_jax {name} 1": name for name in families.FAMILIES}
# {source: what its weights expect}
FRAMEWORKS = {source: dict(known.fields) for family in families.FAMILIES.values() for source, known in family.sources.items()}
MAX_ENTRY_BYTES = 1 << 20  # of the JSON entry, which has less than 2 kB without a head's names
LISTED = 10  # names listed for each kind of mistake


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A body with the settings that belong to it.

    `model` is the `config.model.name` that they are for. `variables` holds float32 arrays under `params` and `batch_stats`,
    without `head` unless our own format has one. `provenance` holds the source's name, sha256, framework, resolution in px
    (None where the file does not say) and the arrays left out.
    """

    model: str
    variables: types.Variables
    width: float
    padding: str
    epsilon: float
    momentum: float
    input_range: tuple[float, float]
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]
    provenance: dict[str, Any]
    file_sha256: str = ""  # of the file that was read: for our own format not that of the source

    def __post_init__(self) -> None:
        """Raises ValueError for settings that no network has; files of strangers bring them."""
        pairs = {"input_mean": 3, "input_std": 3, "input_range": 2}
        numbers = {name: getattr(self, name) for name in ("width", "epsilon", "momentum")}
        many = {name: tuple(getattr(self, name)) for name in pairs}
        real = all(
            isinstance(value, float | int) and abs(value) < 1e6 for value in (*numbers.values(), *sum(many.values(), ()))
        )
        real = real and all(len(many[name]) == length for name, length in pairs.items())
        if not real or not (self.width > 0 and self.epsilon > 0 and 0 <= self.momentum <= 1 and min(self.input_std) > 0):
            raise ValueError(f"its settings are those of no network: {numbers | many}")

    def origin(self) -> dict[str, Any]:
        """What results.json says of where the weights came from."""
        converted = self.file_sha256 not in ("", self.provenance["sha256"])
        return self.provenance | ({"file_sha256": self.file_sha256} if converted else {})

    def fields(self) -> dict[str, Any]:
        """The fields of `body.Body` that the weights determine."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("model", "variables", "provenance", "file_sha256")
        }


def merge(variables: types.Variables, pretrained: Pretrained) -> dict[str, Any]:
    """Replaces a network's fresh arrays by the weights, each on the devices of the array that it replaces.

    The head is replaced only if `pretrained` has one. Raises UserError when names or shapes differ.
    """
    fresh: Any = traverse_util.flatten_dict(dict(variables), sep="/")
    given: Any = traverse_util.flatten_dict(pretrained.variables, sep="/")
    source = pretrained.provenance["source"]
    heads = [tree["params/head/bias"].shape[0] for tree in (given, fresh) if "params/head/bias" in tree]
    if len(set(heads)) > 1:
        raise errors.UserError(
            f"the weights of {source} have a head for {heads[0]} genres and this run has {heads[1]}: "
            "use the same genres, or weights without a head."
        )
    needed = {name: leaf.shape for name, leaf in fresh.items() if name in given or name.split("/")[1] not in body_lib.HEAD}
    shapes = {name: array.shape for name, array in given.items()}
    account(
        f"the weights of {source} do not fit the network", shapes, needed, f"it needs width {pretrained.width:g} to take them"
    )
    merged = {
        name: jax.device_put(np.asarray(given[name], leaf.dtype), leaf.sharding) if name in given else leaf
        for name, leaf in fresh.items()
    }
    return traverse_util.unflatten_dict(merged, sep="/")


def save(path: pathlib.Path, pretrained: Pretrained) -> None:
    """Writes our format atomically; equal weights give equal bytes. Raises UserError if `path` exists."""
    if path.exists():
        raise errors.UserError(f"{path} exists already: remove it or name another file.")
    flat = traverse_util.flatten_dict(pretrained.variables, sep="/")
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in flat.items()}
    form = next(form for form, name in FORMATS.items() if name == pretrained.model)
    entry = json.dumps({"format": form, "fields": pretrained.fields(), "provenance": pretrained.provenance}, sort_keys=True)
    buffer = io.BytesIO()
    np.savez(buffer, provenance=np.frombuffer(entry.encode(), np.uint8), **arrays)
    try:
        storage.write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise errors.UserError(f"{path} cannot be written ({error.strerror}): name a file in a folder that can be.") from error


def read(path: pathlib.Path) -> Pretrained:
    """Reads what `save` wrote. Raises UserError for other arrays, and numpy's and zipfile's errors for a damaged file."""
    with zipfile.ZipFile(path) as archive:
        shapes = {name.removesuffix(".npy"): _shape_in(archive, name) for name in archive.namelist()}
    with np.load(path, allow_pickle=False) as file:
        if math.prod(shapes.pop("provenance")) > MAX_ENTRY_BYTES:
            raise ValueError("its description is longer than any")
        entry = json.loads(file["provenance"].tobytes())
        if entry["format"] not in FORMATS:
            raise ValueError(f"its format is {entry['format']!r}")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entry["fields"].items()
        }
        model = FORMATS[entry["format"]]
        needed = dict(body_shapes(model, fields["width"], fields["padding"]))
        if "params/head/bias" in shapes:
            genres = shapes["params/head/bias"]
            needed |= {"params/head/kernel": (needed["params/last/scale"][0], *genres), "params/head/bias": genres}
        name = families.FAMILIES[model].network.__name__
        account(f"the weights file {path} is not exactly a {name} of poster_jax", shapes, needed, "convert it again")
        arrays = {name: file[name] for name in shapes}
    return Pretrained(model, checked(path, arrays), **fields, provenance=dict(entry["provenance"]))


def _shape_in(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape that an array of an .npz says it has, nothing of it read; raises ValueError for what numpy would unpickle."""
    with archive.open(name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is in a format that numpy.savez does not write for numbers")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > archive.getinfo(name).file_size:
        raise ValueError(f"{name} says that it holds {shape} of {dtype}, which it does not")
    return shape


def account(source: str, given: Mapping[str, Sequence[int]], needed: Mapping[str, Sequence[int]], remedy: str) -> None:
    """Raises UserError listing what is missing, extra or misshaped; both arguments are {name: shape}."""
    misshaped = [name for name in needed if name in given and tuple(given[name]) != tuple(needed[name])]
    wrong = {
        "missing": [name for name in needed if name not in given],
        "extra": [name for name in given if name not in needed],
        "misshaped": [f"{name} {tuple(given[name])}, not {tuple(needed[name])}" for name in misshaped],
    }
    counted = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in wrong.items() if names]
    if counted:
        raise errors.UserError(f"{source}, of {len(needed)} arrays {' and '.join(counted)}: {remedy}.")


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*names[:LISTED], *more])


@functools.cache
def body_shapes(model: str, width: float, padding: str) -> dict[str, tuple[int, ...]]:
    """{flat name: shape} of our body's arrays, of the network of this name."""
    network = families.FAMILIES[model].network(
        num_genres=1,
        width=width,
        padding=padding,
        epsilon=1.0,
        momentum=1.0,
        input_range=(0.0, 1.0),
        input_mean=(0.0, 0.0, 0.0),
        input_std=(1.0, 1.0, 1.0),
        pooling="max",
        dropout=0.0,
        bn_mode="frozen",
    )
    flat: Any = traverse_util.flatten_dict(body_lib.shapes(network), sep="/")
    return {name: leaf.shape for name, leaf in flat.items() if name.split("/")[1] not in body_lib.HEAD}


def checked(path: pathlib.Path, flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The nested float32 variables; raises UserError for other types, and for values that are not finite or no variances."""
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in flat.items() if array.dtype.kind == "f"}
    for name in flat:
        if name not in arrays or not np.isfinite(arrays[name]).all() or name.endswith("/var") and arrays[name].min() < 0:
            raise errors.UserError(
                f"the weights file {path} has values in {name} that are not finite numbers, or variances below zero: "
                "give weights of a training that ended well."
            )
    return traverse_util.unflatten_dict(arrays, sep="/")
