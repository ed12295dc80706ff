"""Which form of an operation a program gets: the one for CPUs or the one for accelerators, or the plain one for a converter.

The only place that chooses. Between CPU and accelerator the program itself chooses where it runs, so that one that is exported
for several platforms is right on each.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
from jax import lax

Padding = str | Sequence[tuple[int, int]]  # VALID, SAME, or zeros before and after rows and columns
Result = TypeVar("Result")
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_portable = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """What is traced within is made of the operations that every framework has, as TFLite's and ONNX's converters need.

    A function that was jitted and traced before keeps its trace: trace the function under the jit.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def is_portable() -> bool:
    """True within `plain`."""
    return _portable.get()


def by_platform(*operands: jax.Array, cpu: Callable[..., Result], default: Callable[..., Result]) -> Result:
    """`cpu(*operands)` where the program runs on a CPU, `default(*operands)` elsewhere and within `plain`."""
    if is_portable():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


def native_conv2d(x: jax.Array, kernel: jax.Array, padding: Padding = "VALID", strides: tuple[int, int] = (1, 1)) -> jax.Array:
    """XLA's own convolution of [B, H, W, C] with [kh, kw, C / groups, D]; the kernel's third axis says how many groups."""
    groups = x.shape[3] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS, feature_group_count=groups)
