"""Reads the layers of a Keras file by name: legacy .h5 (weights or whole model) and .keras, with h5py, zipfile and json only.

Nothing in the file is built or called: the code of a Lambda layer is only text in a JSON tree. A .keras archive names
its arrays by class and position (`layers/functional/layers/conv2d_3/vars/0`); the model's config says which layer each one is.
"""

import collections
import dataclasses
import io
import json
import pathlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from poster_jax import errors

BATCH_NORM_LEAVES = ("gamma", "beta", "moving_mean", "moving_variance")
LEAVES = ("kernel", "bias")
FILE_NAME = re.compile(r"_kernels_[\d.]+_(\d+)(_no_top)?\.h5")


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer that has arrays. `container` is the nested model that contains it, "" for none."""

    container: str
    name: str
    arrays: dict[str, np.ndarray]

    def named(self) -> dict[str, np.ndarray]:
        """{"container/layer/leaf": array}."""
        return {"/".join(filter(None, (self.container, self.name, leaf))): array for leaf, array in self.arrays.items()}


@dataclasses.dataclass(frozen=True)
class Body:
    """The content of a file for one body: `arrays` are named "layer/leaf", those that do not belong to the body too."""

    arrays: dict[str, np.ndarray]
    left_out: list[str]  # arrays of layers after the body: a head
    epsilon: float | None  # None where the file has no config
    momentum: float | None
    resolution: int | None


def read(path: pathlib.Path, body_layers: Sequence[str]) -> Body:
    """Finds the one body in a file; `body_layers` are its layers that have arrays, in the order of the forward pass.

    Raises UserError for a file without layer names or with two bodies, and if h5py is missing; a damaged file raises errors of
    h5py or zipfile.
    """
    try:
        import h5py
    except ImportError as error:
        raise errors.UserError(
            f"reading {path} needs h5py: pip install h5py, or convert the file where there is one."
        ) from error

    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if is_archive:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                layers = _archive_layers(file, config)
    else:
        with h5py.File(path, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            if "layer_names" not in group.attrs:
                raise errors.UserError(
                    f"the weights file {path} does not name its layers, as a Keras model saved whole does: "
                    "save it by model.save(FILE.keras)."
                )
            config = json.loads(file.attrs.get("model_config", "{}"))
            layers = _legacy_layers(group)
    return _body(path, layers, config, body_layers)


def _legacy_layers(group: Any) -> list[Layer]:
    """Layers in the order of the model; groups that `layer_names` does not list come first."""
    import h5py

    listed = [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs["layer_names"]]
    layers = []
    for top in [*(name for name in group if name not in listed), *(name for name in listed if name in group)]:
        found: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)

        def collect(name: str, item: Any, found: dict[str, dict[str, np.ndarray]] = found) -> None:
            if isinstance(item, h5py.Dataset):
                layer, _, leaf = name.rpartition("/")
                # Keras 2 wrote "depthwise_kernel:0" for what Keras 3 calls "kernel".
                found[layer.rpartition("/")[2]][leaf.removesuffix(":0").removeprefix("depthwise_")] = item[()]

        if isinstance(group[top], h5py.Dataset):
            layers.append(Layer("", top, {"": group[top][()]}))
        else:
            group[top].visititems(collect)
        if len(found) == 1:
            layers.append(Layer("", top, next(iter(found.values()))))
        else:
            layers += [Layer(top, name, arrays) for name, arrays in found.items()]
    return layers


def _archive_layers(file: Any, config: Any) -> list[Layer]:
    """Layers in the order of the model; arrays of layers that the config does not know come first."""
    import h5py

    found: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)

    def collect(name: str, item: Any) -> None:
        # The optimizer and the metrics have groups of their own beside `layers`.
        if isinstance(item, h5py.Dataset) and name.startswith("layers/"):
            path, _, leaf = name.rpartition("/vars/")
            found[path][leaf] = item[()]

    file.visititems(collect)
    layers = []
    for path, container, name, class_name in _walk(config, "", ""):
        leaves = BATCH_NORM_LEAVES if class_name == "BatchNormalization" else LEAVES
        arrays = {leaves[int(i)] if i.isdigit() and int(i) < len(leaves) else i: a for i, a in found.pop(path, {}).items()}
        if arrays:
            layers.append(Layer(container, name, arrays))
    return [Layer("", path, arrays) for path, arrays in found.items()] + layers


def _walk(config: Any, path: str, container: str) -> Iterator[tuple[str, str, str, str]]:
    """(path in the file, container, name, class) of every layer, as keras/src/saving/saving_lib.py makes the paths."""
    counts: collections.Counter[str] = collections.Counter()
    for layer in _entry(_entry(config, "config"), "layers") or []:
        class_name, settings = str(_entry(layer, "class_name")), _entry(layer, "config")
        name = str(_entry(settings, "name"))
        key = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))).lower()
        place = f"{path}layers/{key}" + (f"_{counts[key]}" if counts[key] else "")
        counts[key] += 1
        if _entry(settings, "layers"):
            yield from _walk(layer, f"{place}/", name)
        else:
            yield place, container, name, class_name


def _entry(tree: Any, key: str) -> Any:
    return tree.get(key) if isinstance(tree, dict) else None


def _body(path: pathlib.Path, layers: list[Layer], config: Any, body_layers: Sequence[str]) -> Body:
    """Separates the body from the head. A layer with arrays before the body would change its input, so it counts as extra."""
    containers = [layer.container for layer in layers if layer.name == body_layers[0]]
    if len(containers) > 1:
        raise errors.UserError(
            f"the weights file {path} holds {len(containers)} MobileNetV2 bodies: give one with a single body."
        )
    inside = [layer for layer in layers if not containers or layer.container == containers[0]]
    # Early files (of the release v1.1 that Keras began with) have other layer names; Keras reads both, by their order.
    renamed = {}
    leaves = ({"kernel"}, set(BATCH_NORM_LEAVES)) * (len(body_layers) // 2)
    alike = [set(layer.arrays) for layer in inside[: len(leaves)]] == list(leaves)
    if alike and not set(body_layers[2:-2]) & {layer.name for layer in inside}:
        renamed = dict(zip(map(id, inside), body_layers, strict=False))
    arrays: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    last = max((i for i, layer in enumerate(layers) if id(layer) in renamed or layer.name in body_layers), default=-1)
    for index, layer in enumerate(layers):
        name = renamed.get(id(layer), layer.name)
        if layer in inside and name in body_layers:
            arrays.update(Layer("", name, layer.arrays).named())
        elif index > last >= 0 and all(array.ndim <= 2 for array in layer.arrays.values()):
            left_out += layer.named()
        else:
            arrays.update(layer.named())
    norms = set(_batch_norms(config, set(body_layers)))
    if len(norms) > 1:
        raise errors.UserError(
            f"the weights file {path} has BatchNorm layers of several kinds (epsilon, momentum) {sorted(norms)}."
        )
    epsilon, momentum = norms.pop() if norms else (None, None)
    return Body(arrays, left_out, epsilon, momentum, _resolution(path, config, containers[0] if containers else ""))


def _batch_norms(tree: Any, names: set[str]) -> Iterator[tuple[float, float]]:
    """(epsilon, momentum) of every BatchNormalization among `names`, at any depth of the config."""
    settings = _entry(tree, "config")
    if _entry(tree, "class_name") == "BatchNormalization" and _entry(settings, "name") in names:
        yield float(settings["epsilon"]), float(settings["momentum"])
    for branch in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _batch_norms(branch, names)


def _resolution(path: pathlib.Path, tree: Any, container: str) -> int | None:
    """The side in px that the body was built for: from the name of an official file or of the model, or the input shape."""
    for pattern, text in ((FILE_NAME, path.name), (re.compile(r"mobilenetv2_[\d.]+_(\d+)"), container)):
        match = pattern.search(text)
        if match:
            return int(match[1])
    for layer in _entry(_entry(tree, "config"), "layers") or []:
        settings = _entry(layer, "config")
        shape = _entry(settings, "batch_shape") or _entry(settings, "batch_input_shape") or ()
        if len(shape) == 4 and shape[1] == shape[2]:
            return shape[1]
    return None
