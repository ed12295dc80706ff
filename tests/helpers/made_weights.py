"""Weights files that tests make: bodies in Keras's and torch's layouts, and a stand-in for torch where it is not installed."""

import collections
import os
import pathlib
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.models import mobilenet_v2, weight_files
from poster_jax.models.files import foreign

WIDTH = 0.35


def keras_arrays(width: float = WIDTH) -> dict[str, np.ndarray]:
    """{"layer/leaf": array} of a random body in Keras's layout, in the order of the forward pass."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}

    def unit(conv: str, norm: str, shape: tuple[int, ...], filters: int) -> None:
        arrays[f"{conv}/kernel"] = rng.normal(0, 1, shape)
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
            arrays[f"{norm}/{leaf}"] = rng.uniform(0.5, 1.5, filters)

    plan = mobilenet_v2.plan(width, "keras")
    channels = plan.stem
    unit("Conv1", "bn_Conv1", (3, 3, 3, channels), channels)
    for index, row in enumerate(plan.blocks):
        prefix, hidden = f"block_{index}" if index else "expanded_conv", row.expansion * channels
        if index:
            unit(f"{prefix}_expand", f"{prefix}_expand_BN", (1, 1, channels, hidden), hidden)
        unit(f"{prefix}_depthwise", f"{prefix}_depthwise_BN", (3, 3, hidden, 1), hidden)
        unit(f"{prefix}_project", f"{prefix}_project_BN", (1, 1, hidden, row.filters), row.filters)
        channels = row.filters
    last = plan.last
    unit("Conv_1", "Conv_1_bn", (1, 1, channels, last), last)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_h5(path: pathlib.Path, arrays: dict[str, np.ndarray], rename: Any = None) -> str:
    """A weights file as Keras 2 wrote it: a group per layer, layers in order, names with ":0"."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            layer, leaf = name.split("/")
            layer = rename(layer) if rename else layer
            leaf = "depthwise_kernel" if layer.endswith("depthwise") else leaf
            file[f"{layer}/{layer}/{leaf}:0"] = array
        layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
        file.attrs["layer_names"] = [
            (rename(layer) if rename else layer).encode() for layer in [*layers[:2], "input", *layers[2:]]
        ]
        file.create_group("input")
    return f"keras:{path}"


def refusal(weights: str) -> str:
    with pytest.raises(errors.UserError) as caught:
        weight_files.load(weights)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: pathlib.Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


class Tensor(np.ndarray):
    """What a torch.Tensor has that the reader asks for."""

    def detach(self) -> "Tensor":
        return self

    def float(self) -> "Tensor":
        return self.astype(np.float32)

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def load_as_torch(path: pathlib.Path, *, map_location: str, weights_only: bool = False) -> Any:
    """torch.load: everything in a file is unpickled, or, with `weights_only`, nothing but tensors is."""

    class Arrays(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.split(".")[0] in ("numpy", __name__.split(".")[0]):
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f"Weights only load failed: {module}.{name}")

    with open(path, "rb") as file:
        assert file.read(len(foreign.LEGACY_TORCH)) == foreign.LEGACY_TORCH
        return (Arrays if weights_only else pickle.Unpickler)(file).load()


def write_pth(path: pathlib.Path, content: Any) -> pathlib.Path:
    """A file that `load_as_torch` reads, with the first bytes of one of torch's."""
    path.write_bytes(foreign.LEGACY_TORCH + pickle.dumps(content))
    return path


def stand_in_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `load_as_torch`, which runs what it is not forbidden to run, read .pth files."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load_as_torch, Tensor=Tensor))


def write_weights_h5(
    path: pathlib.Path,
    arrays: dict[str, np.ndarray],
    *,
    folder: str = "layers",
    container: str = "",
    named: bool = True,
    head: bool = False,
    extra: dict[str, dict[str, np.ndarray]] | None = None,
) -> str:
    """A .weights.h5 as Keras 3 writes it: groups by class and position, the layer's name as an attribute where `named`."""
    h5py = pytest.importorskip("h5py")
    counts: collections.Counter[str] = collections.Counter()
    extra = dict(extra or {}) | ({"layers/dense": {"0": np.ones((1280, 4)), "1": np.ones(4)}} if head else {})
    with h5py.File(path, "w") as file:
        file.create_group("optimizer/vars")["0"] = np.ones(3)
        file["layers/dropout/seed_generator/vars/0"] = np.ones(2, np.uint32)
        if container:
            file.create_group(f"{folder.removesuffix('/layers')}/vars").attrs["name"] = container
        for layer in dict.fromkeys(name.partition("/")[0] for name in arrays):
            values = [array for name, array in arrays.items() if name.partition("/")[0] == layer]
            kind = "batch_normalization" if len(values) == 4 else "depthwise_conv2d" if "depthwise" in layer else "conv2d"
            place = f"{folder}/{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
            counts[kind] += 1
            group = file.create_group(f"{place}/vars")
            if named:
                group.attrs["name"] = layer
            for index, array in enumerate(values):
                dataset = group.create_dataset(str(index), data=array)
                if array.dtype.name == "bfloat16":
                    dataset.attrs["dtype"] = "bfloat16"
        for place, others in extra.items():
            for index, array in others.items():
                file[f"{place}/vars/{index}"] = array
            if named:
                file[f"{place}/vars"].attrs["name"] = place.rpartition("/")[2]
    return f"keras:{path}"
