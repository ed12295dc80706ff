"""weights.npz of a released network: kernels in half precision, and everything else in whole, under flat names.

It stands in a run folder in the place of checkpoints/best. numpy alone reads it, and no array is larger than it has to be.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from poster_jax.workdir import checks

NAME = "weights.npz"
HEADER_BYTES = 256  # more than numpy writes before an array's numbers


def to_bytes(flat: Mapping[str, np.ndarray]) -> bytes:
    """{"params/block_3/expand/kernel": array} as an .npz; equal arrays give equal bytes, as numpy writes no time into it."""
    buffer = io.BytesIO()
    halved = {name: array.astype(np.float16 if array.ndim > 1 else np.float32) for name, array in sorted(flat.items())}
    np.savez_compressed(buffer, allow_pickle=False, **halved)
    return buffer.getvalue()


def from_bytes(content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of these names and shapes in float32. Raises `checks.Damaged` for any other file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        checks.require(sizes.keys() == shapes.keys(), "", f"{len(sizes)} arrays, not the {len(shapes)} of the network")
        for name, shape in shapes.items():
            checks.require(sizes[name] <= 4 * math.prod(shape) + HEADER_BYTES, name, "larger than the network's")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in shapes}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise checks.Damaged(str(error).partition("\n")[0] or type(error).__name__) from error
    for name, array in arrays.items():
        checks.require(array.shape == shapes[name] and array.dtype.kind == "f", name, f"{array.dtype} {array.shape}")
        checks.require(bool(np.isfinite(array).all()), name, "not finite")
    return {name: array.astype(np.float32) for name, array in arrays.items()}
