"""Reads the layers of a Keras file by name, with h5py, zipfile and json only: .h5, .weights.h5 and .keras of Keras 2 and 3.

Nothing in the file is built or called: the code of a Lambda layer is only text in a JSON tree. Keras 2 names groups by layers.
Keras 3 names them by class and position (`layers/functional/layers/conv2d_3/vars/0`); which layer each one is stands in the
attribute `name` of `vars`, in the model's config in a .keras archive, and where both are missing follows from the position.
"""

import collections
import contextlib
import dataclasses
import io
import json
import math
import pathlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from poster_jax import errors
from poster_jax.models.files import stored

BATCH_NORM_LEAVES = ("gamma", "beta", "moving_mean", "moving_variance")
LEAVES = ("kernel", "bias")
FILE_NAME = re.compile(r"_kernels_[\d.]+_(\d+)(_no_top)?\.h5")
MAX_CONFIG_BYTES = 1 << 24  # a MobileNetV2 has 160 kB
MAX_CHUNK_BYTES = 1 << 26  # HDF5 unpacks a whole chunk, however little of it an array has
MAX_DEPTH = 32
# Groups beside the layers, and a layer's own state that is no weight.
NO_LAYERS = ("optimizer", "metrics", "_metrics", "loss_tracker", "seed_generator")
OLD_LAYERS = "_layer_checkpoint_dependencies"  # what Keras 2.12 called `layers`


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer that has arrays. `container` is the nested model that contains it, "" for none.

    `placed` is False where nothing says whether it comes before or after the others.
    """

    container: str
    name: str
    arrays: dict[str, stored.Stored]
    placed: bool = True

    def named(self) -> dict[str, stored.Stored]:
        """{"container/layer/leaf": array}."""
        return {"/".join(filter(None, (self.container, self.name, leaf))): array for leaf, array in self.arrays.items()}


@dataclasses.dataclass(frozen=True)
class Body:
    """The content of a file for one body: `arrays` are named "layer/leaf", those that do not belong to the body too."""

    arrays: dict[str, stored.Stored]
    left_out: list[str]  # arrays of layers after the body: a head
    epsilon: float | None  # None where the file has no config
    momentum: float | None
    resolution: int | None


@contextlib.contextmanager
def opened(path: pathlib.Path, body_layers: Sequence[str]) -> Iterator[Body]:
    """Finds the one body in a file, whose arrays can be read inside the block.

    `body_layers` are its layers that have arrays, in the order of the forward pass: each convolution and its BatchNorm. Raises
    UserError for a file of two bodies, one that refers to other files, and if h5py is missing; a damaged file raises errors of
    h5py or zipfile.
    """
    try:
        import h5py
    except ImportError as error:
        raise errors.UserError(
            f"reading {path} needs h5py: pip install h5py, or convert the file where there is one."
        ) from error

    with open(path, "rb") as start:
        is_archive = start.read(4) == b"PK\x03\x04"
    config: Any = {}
    source: Any = path
    if is_archive:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(path, archive, "config.json", MAX_CONFIG_BYTES))
            source = io.BytesIO(_member(path, archive, "model.weights.h5", stored.MAX_FILE_BYTES // 4))
    with h5py.File(source, "r") as file:
        group = file["model_weights"] if file.get("model_weights", getclass=True, getlink=True) is h5py.HardLink else file
        if "layer_names" in group.attrs:
            config = json.loads(_text(file.attrs.get("model_config", "{}")))
            layers = _legacy_layers(path, group)
        else:
            layers = _layers(path, file, config, body_layers)
        yield _body(path, layers, config, body_layers)


def _member(path: pathlib.Path, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A part of an archive; zipfile never unpacks more than the size that the archive states."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise errors.UserError(
            f"the weights file {path} holds {size / 2**20:,.0f} MB as {name}, which no network here needs: "
            "save the weights alone, without an optimizer."
        )
    return archive.read(name)


def _text(value: Any) -> str:
    if len(value) > MAX_CONFIG_BYTES:
        raise ValueError(f"its model_config has {len(value):,} bytes")
    return value.decode() if isinstance(value, bytes) else str(value)


def _walk_file(path: pathlib.Path, group: Any) -> Iterator[tuple[str, Any]]:
    """(name, group or dataset) of everything below a group, in order of the names; raises UserError for links."""
    import h5py

    waiting, count = [("", group)], 0
    while waiting:
        name, item = waiting.pop()
        if name:
            yield name, item
        if not isinstance(item, h5py.Group):
            continue
        count += len(item)
        if count > stored.MAX_ARRAYS or name.count("/") > MAX_DEPTH:
            raise ValueError("it has more groups in groups than a network has layers")
        for key in reversed(list(item)):
            if item.get(key, getclass=True, getlink=True) is not h5py.HardLink:
                raise errors.UserError(
                    f"the weights file {path} has a link at {name}/{key} in place of an array, which Keras does not write: "
                    "save the weights again."
                )
            waiting.append((f"{name}/{key}" if name else key, item[key]))


def _stored(path: pathlib.Path, dataset: Any) -> stored.Stored:
    """One dataset; raises UserError where its values lie in other files or would unpack to far more than they are."""
    if dataset.is_virtual or dataset.external:
        raise errors.UserError(
            f"the weights file {path} keeps the values of {dataset.name} in other files, which are not read: "
            "save all in one file."
        )
    if math.prod(dataset.chunks or ()) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        raise ValueError(f"{dataset.name} is packed in chunks of more than {MAX_CHUNK_BYTES >> 20} MB")
    # HDF5 has no bfloat16: Keras writes two bytes of no kind, in .weights.h5 and .keras with an attribute beside them.
    dtype = "bfloat16" if dataset.dtype.str == "|V2" else dataset.dtype.name
    return stored.Stored(tuple(dataset.shape or ()), dtype, lambda: dataset[()])


def _legacy_layers(path: pathlib.Path, group: Any) -> list[Layer]:
    """Layers in the order of the model; groups that `layer_names` does not list come first."""
    import h5py

    names = [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs["layer_names"]]
    tops: dict[str, dict[str, dict[str, stored.Stored]]] = collections.defaultdict(lambda: collections.defaultdict(dict))
    for name, item in _walk_file(path, group):
        if isinstance(item, h5py.Dataset):
            top, _, rest = name.partition("/")
            layer, _, leaf = rest.rpartition("/")
            # Keras 2 wrote "depthwise_kernel:0" for what Keras 3 calls "kernel".
            tops[top][layer.rpartition("/")[2]][leaf.removesuffix(":0").removeprefix("depthwise_")] = _stored(path, item)
    layers = []
    for top in [*(name for name in tops if name not in names), *(name for name in names if name in tops)]:
        found = tops[top]
        if len(found) == 1:
            layers.append(Layer("", top, next(iter(found.values()))))
        else:
            layers += [Layer(top, name, arrays) for name, arrays in found.items()]
    return layers


def _layers(path: pathlib.Path, file: Any, config: Any, body_layers: Sequence[str]) -> list[Layer]:
    """Layers of Keras 3's groups: those that the config knows in the order of the model, and before them all others."""
    import h5py

    found: dict[str, dict[str, stored.Stored]] = collections.defaultdict(dict)
    names: dict[str, str] = {}
    for name, item in _walk_file(path, file):
        place, _, leaf = name.replace(OLD_LAYERS, "layers").rpartition("/")
        if isinstance(item, h5py.Group) and leaf == "vars" and "name" in item.attrs:
            names[place] = str(item.attrs["name"])
        elif isinstance(item, h5py.Dataset) and not set(place.split("/")) & {*NO_LAYERS}:
            found[place.removesuffix("vars").rstrip("/")][leaf] = _stored(path, item)
    layers = []
    for place, container, name, class_name in _walk_config(config, "", ""):
        if place in found:
            layers.append(Layer(container, name, _leaves(found.pop(place), class_name)))
    unplaced = []
    for place, arrays in found.items():
        above, _, key = place.rpartition("/")
        above = above.removesuffix("layers").rstrip("/")
        name = names.get(place) or ("" if names else _by_position(key, body_layers)) or key
        unplaced.append(Layer(names.get(above, above) if above else "", name, _leaves(arrays, key), placed=False))
    return unplaced + layers


def _leaves(arrays: dict[str, stored.Stored], class_name: str) -> dict[str, stored.Stored]:
    """The arrays of a layer by their names, which Keras 3 numbers."""
    is_norm = class_name == "BatchNormalization" or re.fullmatch(r"batch_normalization(_\d+)?", class_name)
    leaves = BATCH_NORM_LEAVES if is_norm else LEAVES
    return {leaves[int(i)] if i.isdigit() and int(i) < len(leaves) else i: array for i, array in arrays.items()}


def _by_position(key: str, body_layers: Sequence[str]) -> str:
    """The layer that is the third convolution, as `conv2d_2`; "" for a class that a body does not have."""
    convolutions = body_layers[::2]
    kinds = {
        "batch_normalization": body_layers[1::2],
        "depthwise_conv2d": [name for name in convolutions if "depthwise" in name],
        "conv2d": [name for name in convolutions if "depthwise" not in name],
    }
    match = re.fullmatch(r"(\w+?)(?:_(\d+))?", key)
    alike = kinds.get(match[1], ()) if match else ()
    place = int(match[2] or 0) if match else 0
    return alike[place] if place < len(alike) else ""


def _walk_config(config: Any, path: str, container: str) -> Iterator[tuple[str, str, str, str]]:
    """(path in the file, container, name, class) of every layer, as keras/src/saving/saving_lib.py makes the paths."""
    counts: collections.Counter[str] = collections.Counter()
    for layer in _entry(_entry(config, "config"), "layers") or []:
        class_name, settings = str(_entry(layer, "class_name")), _entry(layer, "config")
        name = str(_entry(settings, "name"))
        key = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))).lower()
        place = f"{path}layers/{key}" + (f"_{counts[key]}" if counts[key] else "")
        counts[key] += 1
        if _entry(settings, "layers"):
            yield from _walk_config(layer, f"{place}/", name)
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
    arrays: dict[str, stored.Stored] = {}
    left_out: list[str] = []
    last = max((i for i, layer in enumerate(layers) if id(layer) in renamed or layer.name in body_layers), default=-1)
    for index, layer in enumerate(layers):
        name = renamed.get(id(layer), layer.name)
        is_flat = all(len(array.shape) <= 2 for array in layer.arrays.values())
        follows = index > last if layer.placed else not stored.may_see_the_picture(layer.arrays, 0)
        if layer in inside and name in body_layers:
            arrays.update(Layer("", name, layer.arrays).named())
        elif last >= 0 and is_flat and follows:
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
