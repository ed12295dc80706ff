"""Reads the arrays of a state_dict by name: .safetensors, and .pth, .pt or .bin of torch, by torch's `weights_only` alone.

Programs wrap a network in others, each of which puts a word before every name (`module.`, `_orig_mod.`, `model.`, `backbone.`),
and save it beside an optimizer. What the arrays of a body are called without these is found from its first convolution.
"""

import collections
import contextlib
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from poster_jax import errors
from poster_jax.models.files import stored

# Under which a checkpoint keeps the network, the first of them that there is.
STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights")
# What DistributedDataParallel and torch.compile put between names, at any depth.
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")
COUNTER = "num_batches_tracked"
CUT = "not fully covered|too small|invalid header length"  # in what the package says of a file without its end
SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Damaged(Exception):
    """The bytes of a file are not those that were written."""


class Found(NamedTuple):
    """The arrays of one body under the names of its source, those that do not belong to it too, and a head by its own names."""

    arrays: dict[str, stored.Stored]
    left_out: list[str]


def is_safetensors(start: bytes, size: int) -> bool:
    """By the first nine bytes of a file of this size: the length of a table and the table, which is JSON."""
    return start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") and (size > 8)


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[dict[str, stored.Stored]]:
    """{name: array} of a file, to be read inside the block.

    Raises UserError for anything but arrays by name, and where safetensors or torch is missing; a damaged file raises `Damaged`
    or errors of theirs.
    """
    size = path.stat().st_size
    stored.check_size(path, size)
    with open(path, "rb") as file:
        start = file.read(9)
    with contextlib.ExitStack() as held:
        arrays = _safetensors(path, held) if is_safetensors(start, size) else _pickled(path)
        if len(arrays) > stored.MAX_ARRAYS:
            raise errors.UserError(f"the weights file {path} holds {len(arrays):,} arrays, more than a network here has.")
        yield arrays


def _safetensors(path: pathlib.Path, held: contextlib.ExitStack) -> dict[str, stored.Stored]:
    try:
        import safetensors
    except ImportError as error:
        raise errors.UserError(
            f"reading {path} needs safetensors: pip install safetensors, or convert the file where there is one."
        ) from error
    try:
        file = held.enter_context(safetensors.safe_open(path, framework="np"))
        entries = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    # The package's own class is a bare Exception.
    except safetensors.SafetensorError as error:
        told = str(error)
        raise (Damaged if re.search(CUT, told) else ValueError)(told) from error
    return {
        name: stored.Stored(
            tuple(entry.get_shape()),
            SAFETENSORS_DTYPES.get(str(entry.get_dtype()), str(entry.get_dtype())),
            lambda name=name: file.get_tensor(name),
        )
        for name, entry in entries.items()
    }


def _pickled(path: pathlib.Path) -> dict[str, stored.Stored]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            stored.check_size(path, sum(entry.file_size for entry in archive.infolist()), " unpacked")
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
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise errors.UserError(
            f"the weights file {path} holds more than arrays, which could run code: save model.state_dict() alone."
        ) from error
    tensors = _state_dict(loaded, torch.Tensor)
    if tensors is None:
        raise errors.UserError(f"the weights file {path} is not a state_dict: save model.state_dict() alone.")
    return {name: _tensor(tensor) for name, tensor in tensors.items()}


def _tensor(tensor: Any) -> stored.Stored:
    dtype = str(tensor.dtype).removeprefix("torch.")
    # numpy has no bfloat16, and float32 holds all of its values.
    known = "float32" if dtype == "bfloat16" else dtype
    return stored.Stored(tuple(tensor.shape), known, lambda: tensor.detach().float().numpy())


def _state_dict(loaded: Any, tensor: type) -> Mapping[str, Any] | None:
    """The arrays by name, of a state_dict or of a checkpoint that has one under a usual key; None for anything else."""
    for _ in range(3):
        if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
            return None
        if loaded and all(isinstance(value, tensor) for value in loaded.values()):
            return loaded
        loaded = next((loaded[key] for key in STATE_KEYS if isinstance(loaded.get(key), dict)), None)
    return None


def find_body(path: pathlib.Path, arrays: Mapping[str, stored.Stored], stem: str, names: Sequence[str]) -> Found | None:
    """The body whose first convolution is called `stem` and whose arrays have these names, or None where there is none.

    Before all names of the body may stand the same words, or of `features.` none at all. Layers of vectors beside it are its
    head and left out. Raises UserError for two bodies.
    """
    plain = {WRAPPERS.sub("", name): name for name in arrays}
    if len(plain) < len(arrays):
        raise errors.UserError(
            f"the weights file {path} holds the same names twice, once inside another module: save one alone."
        )
    prefixes, dropped = _prefixes(plain, f"{stem}.weight"), ""
    if not prefixes and stem.startswith("features."):
        dropped = "features."
        last = names[-1].removeprefix(dropped)
        prefixes = [prefix for prefix in _prefixes(plain, f"{stem}.weight".removeprefix(dropped)) if f"{prefix}{last}" in plain]
    if len(prefixes) > 1:
        raise errors.UserError(
            f"the weights file {path} holds {len(prefixes)} bodies, under {' and '.join(map(repr, prefixes))}: save one alone."
        )
    if not prefixes:
        return None
    depth = 2 if dropped else 1
    own = {tuple(name.split(".")[:depth]) for name in names}
    found: dict[str, stored.Stored] = {}
    left_out: list[str] = []
    others: dict[str, dict[str, stored.Stored]] = collections.defaultdict(dict)
    for name, original in plain.items():
        inner = dropped + name.removeprefix(prefixes[0])
        layer, _, leaf = original.rpartition(".")
        if leaf == COUNTER:
            left_out.append(original)
        elif name.startswith(prefixes[0]) and tuple(inner.split(".")[:depth]) in own:
            found[inner] = arrays[original]
        else:
            others[layer][original] = arrays[original]
    for layer in others.values():
        is_flat = all(len(array.shape) <= 2 for array in layer.values())
        if is_flat and not stored.may_see_the_picture(layer, 1):
            left_out += layer
        else:
            found |= layer
    return Found(found, left_out)


def _prefixes(names: Mapping[str, Any], stem: str) -> list[str]:
    """What stands before the array `stem` wherever it is."""
    return [name.removesuffix(stem) for name in names if name == stem or name.endswith(f".{stem}")]
