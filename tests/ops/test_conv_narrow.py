"""3x3 convolutions of few channels against XLA's own in float64, and which of them take the rewritten form."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from poster_jax.ops import conv, conv_narrow

# x shape, kernel shape, padding: an image's channels or more, odd features, edges that the columns do not divide.
CASES = [
    ((2, 15, 12, 3), (3, 3, 3, 7), "VALID"),
    ((2, 9, 13, 3), (3, 3, 3, 12), "SAME"),
    ((1, 3, 3, 4), (3, 3, 4, 5), "VALID"),
    ((2, 8, 14, 1), (3, 3, 1, 31), "SAME"),
    ((2, 15, 11, 5), (3, 3, 5, 29), "VALID"),
    ((2, 9, 12, 11), (3, 3, 11, 16), "SAME"),
    ((1, 3, 3, 31), (3, 3, 31, 31), "VALID"),
    ((2, 10, 13, 6), (3, 3, 6, 19), "VALID"),
]


def native(x, kernel, padding):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def drawn(case, dtype=jnp.float32):
    """x, kernel and an output cotangent, drawn from seed 0, and their float64 originals."""
    x_shape, kernel_shape, padding = case
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal(x_shape), rng.standard_normal(kernel_shape)
    out = jax.eval_shape(lambda x, k: native(x, k, padding), x.astype(np.float32), kernel.astype(np.float32))
    return tuple(jnp.asarray(a, dtype) for a in (x, kernel, rng.standard_normal(out.shape)))


def passes(function, x, kernel, cotangent):
    """(value, gradient of x, gradient of the kernel)."""

    def both(x, k, g):
        value, pull = jax.vjp(function, x, k)
        return value, *pull(g)

    return jax.jit(both)(x, kernel, cotangent)


def exact_passes(x, kernel, cotangent, padding):
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, kernel, cotangent)]
        return [np.asarray(a) for a in passes(lambda x, k: native(x, k, padding), *wide)]


def relative_error(value, reference) -> float:
    return float(np.abs(np.asarray(value, np.float64) - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_convolution(case):
    arrays, padding = drawn(case), case[2]
    values = passes(lambda x, k: conv.conv2d(x, k, padding=padding), *arrays)
    for value, exact in zip(values, exact_passes(*arrays, padding), strict=True):
        assert value.shape == exact.shape and value.dtype == jnp.float32
        assert relative_error(value, exact) < 2e-6


@pytest.mark.parametrize("axis", [0, 1])
def test_a_gradient_shifted_by_one_pixel_is_told_apart(axis):
    for case in (CASES[0], CASES[4]):
        arrays = drawn(case)
        values = passes(lambda x, k: conv.conv2d(x, k, padding="VALID"), *arrays)
        exact = exact_passes(*arrays, "VALID")
        assert relative_error(jnp.roll(values[1], 1, axis=1 + axis), exact[1]) > 0.1
        assert relative_error(jnp.roll(values[2], 1, axis=axis), exact[2]) > 0.1


@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_bfloat16_is_summed_in_float32(case):
    arrays = drawn(case, jnp.bfloat16)
    values = passes(lambda x, k: conv.conv2d(x, k, padding=case[2]), *arrays)
    for value, exact in zip(values, exact_passes(*arrays, case[2]), strict=True):
        assert value.dtype == jnp.bfloat16
        assert relative_error(value, exact) < 2**-7


def test_cpu_gets_the_rewritten_form_and_other_platforms_their_own():
    arrays = drawn(CASES[0])
    # The cotangent depends on nothing, so the forward pass is not computed: two convolutions make the two gradients.
    step = jax.jit(lambda x, k, g: jax.vjp(lambda x, k: conv.conv2d(x, k, padding="VALID"), x, k)[1](g))
    for platform, convolutions, products in (("tpu", 2, 0), ("cuda", 2, 0), ("cpu", 1, 1)):
        text = step.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")) == (convolutions, products)
    assert " conditional(" not in step.lower(*arrays).compile().as_text()


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "stride"),
    [((1, 9, 9, 3), (3, 3, 3, 32), 1), ((1, 9, 9, 3), (5, 5, 3, 8), 1), ((1, 9, 9, 3), (3, 3, 3, 8), 2)],
)
def test_what_was_not_measured_is_left_to_xla(x_shape, kernel_shape, stride):
    x, kernel = jnp.zeros(x_shape), jnp.zeros(kernel_shape)
    assert conv._cpu_form(x, kernel, "VALID", stride) is None
    assert conv._cpu_form(jnp.zeros((1, 9, 9, 3)), jnp.zeros((3, 3, 3, 8)), "VALID", 1) is not None


def test_both_passes_share_the_patches():
    x, kernel, cotangent = drawn(CASES[0])
    step = jax.jit(jax.value_and_grad(lambda k: (conv.conv2d(x, k, padding="VALID") * cotangent).sum()))
    text = step.lower(kernel).compile().as_text()
    # [3 x 5 x 3 values, B, 13 rows, 4 tiles of 3 columns]; built anew for the backward pass it would be there twice.
    assert conv_narrow._patches(x, kernel).shape == (45, 2, 13, 4)
    assert len(re.findall(r"= f32\[45,2,13,4\]\S* concatenate\(", text)) == 1


def test_a_batch_over_eight_devices_needs_no_gathering():
    x, kernel, _ = drawn(((16, 15, 11, 3), (3, 3, 3, 7), "VALID"))
    loss = jax.value_and_grad(lambda k, x: (conv.conv2d(x, k, padding="VALID") ** 2).sum())
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, cut = jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P("data"))
    step = jax.jit(loss, out_shardings=whole)
    arguments = jax.device_put(kernel, whole), jax.device_put(x, cut)
    many, one = step(*arguments), jax.jit(loss)(kernel, x)
    np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
    assert relative_error(many[1], np.asarray(one[1], np.float64)) < 2e-6
    text = step.lower(*arguments).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text
