"""Arrays that still lie in their file: a stranger's file decides nothing but shapes until they are known to be right.

Only what a body needs is then read, so that memory is bounded by the body, however much a file says that it holds.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from poster_jax import errors

# A body of width 4 has 230 MB in float32, and one of width 1.4 with Adam's two moments 73 MB.
MAX_FILE_BYTES = 1 << 29
MAX_ARRAYS = 20_000
COLOURS = (1, 3)


@dataclasses.dataclass(frozen=True)
class Stored:
    """One array: its shape, the name of its dtype as the file has it, and how its values are read."""

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray]

    def read(self, path: pathlib.Path, name: str) -> np.ndarray:
        """The values in their own float dtype. Raises UserError where they are no floating point numbers."""
        if self.dtype == "bfloat16":
            return np.asarray(self.load()).view(ml_dtypes.bfloat16).astype(np.float32)
        if self.dtype not in ("float16", "float32", "float64"):
            raise errors.UserError(
                f"the weights file {path} holds {name} as {self.dtype}, not as floating point numbers: "
                "give the weights as they were before they were quantized."
            )
        return self.load()


def held(array: np.ndarray) -> Stored:
    """An array in memory."""
    return Stored(array.shape, array.dtype.name, lambda: array)


def may_see_the_picture(arrays: Mapping[str, Stored], inputs_axis: int) -> bool:
    """Whether a layer of unknown place could stand before the body, where it would change its input.

    A matrix could if it has one or three inputs, anything else if it has one or three values.
    """
    matrices = [array for array in arrays.values() if len(array.shape) == 2]
    if matrices:
        return any(array.shape[inputs_axis] in COLOURS for array in matrices)
    return any(math.prod(array.shape) in COLOURS for array in arrays.values())


def check_size(path: pathlib.Path, num_bytes: int, where: str = "") -> None:
    """Raises UserError for more than any network here can need."""
    if num_bytes > MAX_FILE_BYTES:
        raise errors.UserError(
            f"the weights file {path} holds {num_bytes / 2**20:,.0f} MB{where}, which no network here needs: "
            "save the weights alone, without an optimizer."
        )
