"""Selects the form of an operation: for CPUs, for accelerators, or the portable one for a converter.

This is the only place that selects. The choice between CPU and accelerator is part of the program, so that a program exported
for several platforms runs the right form on each.
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
_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Programs traced inside the block use only operations that every framework has, for the converters of TFLite and ONNX.

    A jitted function that was traced before keeps its old trace: trace the function inside the jit instead.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def is_portable() -> bool:
    """True inside `portable`."""
    return _portable.get()


def by_platform(*operands: jax.Array, cpu: Callable[..., Result], default: Callable[..., Result]) -> Result:
    """`cpu(*operands)` where the program runs on a CPU, `default(*operands)` elsewhere and inside `portable`."""
    if is_portable():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


def native_conv2d(x: jax.Array, kernel: jax.Array, padding: Padding = "VALID", strides: tuple[int, int] = (1, 1)) -> jax.Array:
    """XLA's own convolution of [B, H, W, C] with [kh, kw, C / groups, D]; kernel axis 2 gives the number of groups."""
    groups = x.shape[3] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS, feature_group_count=groups)
