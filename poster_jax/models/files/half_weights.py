"""weights.npz of a released network: kernels in half precision, and everything else in whole, under flat names.

It stands in a run folder in the place of checkpoints/best. numpy alone reads it, and no array is larger than it has to be.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

NAME = "weights.npz"
HEADER_BYTES = 256  # more than numpy writes before an array's numbers


def to_bytes(flat: Mapping[str, np.ndarray]) -> bytes:
    """{"params/block_3/expand/kernel": array} as an .npz; equal arrays give equal bytes, as numpy writes no time into it."""
    buffer = io.BytesIO()
    halved = {name: array.astype(np.float16 if array.ndim > 1 else np.float32) for name, array in sorted(flat.items())}
    np.savez_compressed(buffer, allow_pickle=False, **halved)
    return buffer.getvalue()


def from_bytes(content: bytes, shapes: Mapping[str, tuple[int, ...]], *, more: bool = False) -> dict[str, np.ndarray]:
    """The arrays of these names and shapes in float32; with `more` the file may hold others. ValueError for any other file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        if not (sizes.keys() >= shapes.keys() if more else sizes.keys() == shapes.keys()):
            raise ValueError(f"{len(sizes)} arrays, not the {len(shapes)} of the network")
        for name, shape in shapes.items():
            if sizes[name] > 4 * math.prod(shape) + HEADER_BYTES:
                raise ValueError(f"{name} is larger than the network's")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in shapes}
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error
    for name, array in arrays.items():
        if array.shape != tuple(shapes[name]) or array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {tuple(shapes[name])}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    return {name: array.astype(np.float32) for name, array in arrays.items()}
