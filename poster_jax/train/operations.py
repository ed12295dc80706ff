"""How many operations a step takes, counted from the trace of a forward pass: no weights, no compilation.

A multiplication and the addition that follows it are two. What moves data without computing counts nothing, and every
convolution counts as a plain one, whichever form the device takes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from poster_jax import config as config_lib
from poster_jax import models
from poster_jax.ops import dispatch
from poster_jax.train import optimizers, train_state

MOVES = {"broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "dynamic_slice", "concatenate", "pad", "copy", "rev"}
MOVES |= {"convert_element_type", "gather", "iota", "stop_gradient", "device_put", "random_wrap", "random_unwrap"}


# A training step is a forward pass, the gradient of every map and that of every kernel, each of about the same work. Forms that
# compute a map anew instead of keeping it take up to one more.
PASSES_OF_A_STEP = 3


class StepOperations(NamedTuple):
    """Operations of a training step and of an evaluation step, on whole batches; bytes of state and of parameters."""

    train: int
    evaluate: int
    state_bytes: int
    params_bytes: int


def of_config(config: config_lib.Config, num_outputs: int) -> StepOperations:
    """Counts for a network of `num_outputs` outputs; what augmentation, loss and optimizer add is left out."""
    model = models.build(**config.model, num_genres=num_outputs, precision=config.train.precision)
    optimizer = optimizers.build_optimizer(**config.optim, num_steps=1)
    init = train_state.make_init(model, optimizer, config.data.image_size, config.train.average_decay > 0)
    image = jax.ShapeDtypeStruct((1, *config.data.image_size, 3), np.float32)
    with dispatch.portable():
        state = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
        forward = count(lambda variables, x: model.apply(variables, x, False), state.variables(), image)
    views = 2 if config.eval.mirror else 1
    return StepOperations(
        PASSES_OF_A_STEP * config.train.batch_size * forward,
        views * config.eval.batch_size * forward,
        *(_num_bytes(tree) for tree in (state, state.params)),
    )


def _num_bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def count(function: Callable[..., Any], *shapes: Any) -> int:
    """Operations of `function(*shapes)`, which is traced and not run."""
    return _count(jax.make_jaxpr(function)(*shapes).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        # Each output is a sum over the kernel's window and the input channels of its group.
        kernel, numbers = _shape(equation.invars[1]), params["dimension_numbers"]
        return 2 * _size(equation.outvars) * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    if name == "dot_general":
        contracted, shape = params["dimension_numbers"][0][0], _shape(equation.invars[0])
        return 2 * _size(equation.outvars) * math.prod(shape[axis] for axis in contracted)
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    inner = [_count(getattr(value, "jaxpr", value)) for value in params.values() if hasattr(value, "eqns")]
    if inner:
        return sum(inner) * params.get("length", 1)
    return 0 if name in MOVES else max(_size(equation.outvars), _size(equation.invars[:1]))


def _shape(value: Any) -> tuple[int, ...]:
    """Of an input or output of an equation; () for what is no array."""
    return getattr(value.aval, "shape", ())


def _size(values: Sequence[Any]) -> int:
    return sum(math.prod(_shape(value)) for value in values)
