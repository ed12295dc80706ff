"""Convolution and pooling against XLA's own in float64 (the reference), on one device and on eight."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from poster_jax.models import layers
from poster_jax.ops import conv as conv_lib
from poster_jax.ops import conv_winograd
from poster_jax.ops import pool as pool_lib

# x shape, kernel shape, padding, stride: height 3, stride 1 and 32 channels or more are rewritten on CPU.
REWRITTEN = [
    ((2, 15, 11, 32), (3, 3, 32, 40), "VALID", 1),
    ((2, 8, 9, 33), (3, 3, 33, 32), "SAME", 1),
    ((1, 5, 3, 32), (3, 3, 32, 32), "VALID", 1),
    ((3, 7, 6, 32), (3, 5, 32, 32), "SAME", 1),
    ((2, 6, 5, 32), (3, 1, 32, 32), "VALID", 1),
    ((2, 6, 7, 32), (3, 4, 32, 32), "SAME", 1),
]
NATIVE = [
    ((2, 15, 11, 3), (3, 3, 3, 8), "VALID", 1),
    ((2, 15, 11, 32), (3, 3, 32, 32), "SAME", 2),
    ((2, 12, 11, 32), (3, 3, 32, 32), "VALID", 2),
    ((2, 9, 10, 32), (5, 4, 32, 32), "SAME", 1),
    ((2, 9, 10, 32), (1, 1, 32, 32), "VALID", 1),
    ((1, 4, 3, 32), (3, 3, 32, 32), "VALID", 1),
]


def native(x, kernel, padding, stride):
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def drawn(x_shape, kernel_shape, padding, stride, dtype=np.float32):
    """x, kernel and an output cotangent, drawn from seed 0."""
    generator = np.random.default_rng(0)
    x, kernel = generator.standard_normal(x_shape), generator.standard_normal(kernel_shape)
    out = jax.eval_shape(lambda x, k: native(x, k, padding, stride), x.astype(np.float32), kernel.astype(np.float32))
    return tuple(jnp.asarray(a, dtype) for a in (x, kernel, generator.standard_normal(out.shape)))


def gradients(function, x, kernel, cotangent):
    return jax.jit(lambda x, k, g: jax.vjp(function, x, k)[1](g))(x, kernel, cotangent)


def exact_gradients(x, kernel, cotangent, padding, stride):
    """XLA's gradients of the same numbers in float64."""
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, kernel, cotangent)]
        return [np.asarray(g) for g in gradients(lambda x, k: native(x, k, padding, stride), *wide)]


def exact_forward(x, kernel, padding, stride):
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, kernel)]
        return np.asarray(native(*wide, padding, stride))


def relative_error(value, reference) -> float:
    return float(np.abs(np.asarray(value, np.float64) - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("case", REWRITTEN + NATIVE, ids=str)
def test_conv2d_equals_the_native_convolution_and_its_float64_gradients(case):
    x, kernel, cotangent = drawn(*case)
    padding, stride = case[2:]
    ours = lambda x, k: conv_lib.conv2d(x, k, padding=padding, stride=stride)  # noqa: E731
    assert relative_error(jax.jit(ours)(x, kernel), exact_forward(x, kernel, padding, stride)) < 5e-6
    for value, exact in zip(
        gradients(ours, x, kernel, cotangent), exact_gradients(x, kernel, cotangent, padding, stride), strict=True
    ):
        assert value.dtype == jnp.float32
        assert relative_error(value, exact) < 5e-6


def test_a_filter_gradient_shifted_by_one_column_is_told_apart():
    case = REWRITTEN[0]
    x, kernel, cotangent = drawn(*case)
    value = gradients(lambda x, k: conv_lib.conv2d(x, k, padding="VALID"), x, kernel, cotangent)[1]
    exact = exact_gradients(x, kernel, cotangent, "VALID", 1)[1]
    assert relative_error(jnp.roll(value, 1, axis=1), exact) > 0.1
    assert relative_error(jnp.roll(value, 1, axis=0), exact) > 0.1


@pytest.mark.parametrize("height", [2, 3, 4, 5])
def test_matrices_compute_the_correlation(height):
    inputs, outputs, filters = (np.array(m) for m in conv_winograd._matrices(height))
    generator = np.random.default_rng(1)
    signal, taps = generator.standard_normal(6), generator.standard_normal(height)
    np.testing.assert_allclose(
        outputs @ ((filters @ taps) * (inputs @ signal)), np.correlate(signal, taps, "valid"), rtol=1e-10
    )


def test_bfloat16_filter_gradient_is_summed_in_float32():
    # 4 x 62 x 62 ones: each entry of the gradient is 15,376; a bfloat16 running sum of ones would stop at 256.
    x, grad = jnp.ones((4, 64, 64, 32), jnp.bfloat16), jnp.ones((4, 62, 62, 32), jnp.bfloat16)
    kernel = jnp.zeros((3, 3, 32, 32), jnp.bfloat16)
    value = gradients(lambda x, k: conv_lib.conv2d(x, k, padding="VALID"), x, kernel, grad)[1]
    assert value.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(value, np.float32), 15_376.0, rtol=2**-8)


@pytest.mark.parametrize("case", [REWRITTEN[1], NATIVE[1]], ids=str)
def test_bfloat16_gradients_are_exact_to_its_precision(case):
    x, kernel, cotangent = drawn(*case, dtype=jnp.bfloat16)
    padding, stride = case[2:]
    values = gradients(lambda x, k: conv_lib.conv2d(x, k, padding=padding, stride=stride), x, kernel, cotangent)
    for value, exact in zip(values, exact_gradients(x, kernel, cotangent, padding, stride), strict=True):
        assert value.dtype == jnp.bfloat16
        assert relative_error(value, exact) < 2**-7


def compiled_gradient(case) -> str:
    x, kernel, cotangent = drawn(*case)
    step = jax.jit(lambda x, k, g: jax.vjp(lambda x, k: conv_lib.conv2d(x, k, padding=case[2]), x, k)[1](g))
    return step.lower(x, kernel, cotangent).compile().as_text()


def test_the_cpu_program_holds_no_conditional():
    # jax#12868: XLA on CPU runs a convolution inside a conditional 20 times slower.
    for case in (REWRITTEN[0], NATIVE[0]):
        text = compiled_gradient(case)
        assert " conditional(" not in text and " while(" not in text


def test_cpu_gets_the_rewritten_form_and_other_platforms_their_own():
    x, kernel, cotangent = drawn(*REWRITTEN[0])
    step = jax.jit(lambda x, k, g: jax.vjp(lambda x, k: conv_lib.conv2d(x, k, padding="VALID"), x, k)[1](g))
    # CPU: six row convolutions for the input's gradient, 6 x 3 products for the filter's; the unread result is not computed.
    for platform, convolutions, products in (("tpu", 2, 0), ("cuda", 2, 0), ("cpu", 6, 18)):
        text = step.trace(x, kernel, cotangent).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions
        assert text.count("stablehlo.dot_general") == products


def test_both_passes_share_the_transformed_input():
    x, kernel, cotangent = drawn(*REWRITTEN[0])
    step = jax.jit(jax.value_and_grad(lambda k, x: (conv_lib.conv2d(x, k, padding="VALID") * cotangent).sum(), argnums=(0, 1)))
    text = step.lower(kernel, x).compile().as_text()
    # Six arrays [B, tiles, W, C], one for every point; computed for each pass there would be twelve.
    assert len(re.findall(r"= f32\[2,4,11,32\]\S* fusion\(.*kind=kLoop", text)) == 6


def test_one_export_serves_cpu_cuda_and_tpu():
    x, kernel, cotangent = drawn(*REWRITTEN[0])
    step = jax.jit(lambda x, k, g: jax.vjp(lambda x, k: conv_lib.conv2d(x, k, padding="VALID"), x, k)[1](g)[1])
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(x, kernel, cotangent)
    assert relative_error(exported.call(x, kernel, cotangent), exact_gradients(x, kernel, cotangent, "VALID", 1)[1]) < 5e-6


def test_vmap_over_models_equals_one_at_a_time():
    x, kernel, cotangent = drawn(*REWRITTEN[0])
    kernels = jnp.stack([kernel, 2 * kernel])
    cotangents = jnp.stack([cotangent, cotangent[:, ::-1]])
    loss = lambda k, g: (conv_lib.conv2d(x, k, padding="VALID") * g).sum()  # noqa: E731
    together = jax.jit(jax.vmap(jax.grad(loss)))(kernels, cotangents)
    for value, k, g in zip(together, kernels, cotangents, strict=True):
        assert relative_error(value, exact_gradients(x, k, g, "VALID", 1)[1]) < 5e-6


def test_a_batch_sharded_over_eight_devices_equals_one_device():
    x, kernel, _ = drawn((16, 15, 11, 32), (3, 3, 32, 40), "VALID", 1)
    loss = jax.value_and_grad(lambda k, x: (pool_lib.max_pool(conv_lib.conv2d(x, k, padding="VALID"), (2, 2)) ** 2).sum())
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.NamedSharding(mesh, jax.P("data"))
    whole = jax.NamedSharding(mesh, jax.P())
    step = jax.jit(loss, out_shardings=whole)
    many = step(jax.device_put(kernel, whole), jax.device_put(x, sharded))
    one = jax.jit(loss)(kernel, x)
    np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
    assert relative_error(many[1], np.asarray(one[1], np.float64)) < 5e-6
    text = step.lower(jax.device_put(kernel, whole), jax.device_put(x, sharded)).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text


@pytest.mark.parametrize("window", [(2, 2), (3, 2), (1, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_max_pool_equals_flax_in_value_and_without_ties_in_gradient(window, dtype):
    # A permutation of integers that bfloat16 holds apart: no ties.
    x = jnp.asarray(np.random.default_rng(0).permutation(2 * 7 * 5 * 3).reshape(2, 7, 5, 3) - 105, dtype)
    reference = lambda x: nn.max_pool(x, window_shape=window, strides=window)  # noqa: E731
    value, pull = jax.vjp(lambda x: pool_lib.max_pool(x, window), x)
    expected, expected_pull = jax.vjp(reference, x)
    np.testing.assert_array_equal(value, expected)
    cotangent = jnp.arange(1, value.size + 1, dtype=dtype).reshape(value.shape)
    np.testing.assert_array_equal(pull(cotangent)[0], expected_pull(cotangent)[0])


def test_max_pool_gives_the_gradient_to_the_first_of_ties_and_drops_the_remainder():
    x = jnp.array([[5.0, 5, 1, 9], [0, 5, 2, 9], [7, 7, 7, 7]]).reshape(1, 3, 4, 1)
    (gradient,) = jax.vjp(lambda x: pool_lib.max_pool(x, (2, 2)), x)[1](jnp.array([6.0, 4.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[6, 0, 0, 4], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_conv_module_has_flax_parameters_and_results():
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 16))
    ours = layers.Conv(24, (3, 3), padding="VALID", stride=2)
    theirs = nn.Conv(24, (3, 3), strides=2, padding="VALID", kernel_init=nn.initializers.glorot_uniform())
    params = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), params)
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-6, atol=1e-6)
    assert set(layers.Conv(24, (3, 3), padding="SAME", use_bias=False).init(jax.random.key(1), x)["params"]) == {"kernel"}
    half = layers.Conv(24, (3, 3), padding="SAME", dtype=jnp.bfloat16)
    assert half.apply(half.init(jax.random.key(1), x), x).dtype == jnp.bfloat16


def test_max_pool_passes_no_nan_over():
    x = jnp.zeros((1, 2, 2, 4)).at[0, [0, 0, 1, 1], [0, 1, 0, 1], jnp.arange(4)].set(jnp.nan)
    value, pull = jax.vjp(lambda x: pool_lib.max_pool(x, (2, 2)), x)
    assert np.isnan(value).all()
    np.testing.assert_array_equal(pull(jnp.ones_like(value))[0], np.isnan(x))


def test_max_pool_behind_batch_norm_loses_no_gradient():
    """XLA computes a BatchNorm anew for the backward pass, with other roundings: the largest entries must still be found."""
    conv, norm = layers.Conv(4, (3, 3), padding="VALID"), nn.BatchNorm(use_running_average=False)
    x = jax.random.uniform(jax.random.key(0), (8, 38, 26, 3))
    kernel = conv.init(jax.random.key(1), x)
    variables = norm.init(jax.random.key(2), conv.apply(kernel, x))
    scale = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(3), leaf.shape), variables["params"])
    cotangent = jax.random.normal(jax.random.key(4), (8, 18, 12, 4))

    def gradient(pool):
        def loss(kernel):
            y, _ = norm.apply({**variables, "params": scale}, nn.relu(conv.apply(kernel, x)), mutable=["batch_stats"])
            return (pool(y) * cotangent).sum()

        return jax.jit(jax.grad(loss))(kernel)["params"]["kernel"]

    ours = gradient(lambda y: pool_lib.max_pool(y, (2, 2)))
    theirs = gradient(lambda y: nn.max_pool(y, window_shape=(2, 2), strides=(2, 2)))
    assert relative_error(ours, np.asarray(theirs, np.float64)) < 1e-4
