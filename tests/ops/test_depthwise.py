"""Depthwise and pointwise convolution against XLA's own in float64 (the reference), on one device and on eight."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from poster_jax.ops import conv, depthwise, dispatch

# x shape, (kh, kw), ((top, bottom), (left, right)), stride. Rows of output: fewer than 8, 8, and 8 with a remainder.
CASES = [
    ((2, 8, 9, 5), (3, 3), ((1, 1), (1, 1)), 1),
    ((2, 11, 7, 4), (3, 3), ((1, 1), (1, 1)), 1),
    ((2, 8, 10, 4), (3, 3), ((0, 1), (0, 1)), 2),
    ((2, 19, 7, 4), (3, 3), ((1, 1), (1, 1)), 2),
    ((2, 6, 8, 4), (3, 3), ((1, 1), (1, 1)), 2),
    ((1, 2, 3, 4), (3, 3), ((1, 1), (1, 1)), 2),
    ((2, 8, 11, 4), (5, 5), ((1, 2), (2, 2)), 2),
    ((2, 9, 8, 3), (5, 4), ((2, 2), (1, 2)), 1),
    ((2, 9, 8, 3), (2, 5), ((0, 0), (3, 0)), 2),
    ((2, 11, 10, 3), (2, 3), ((0, 0), (2, 2)), 3),
    ((2, 7, 6, 3), (1, 1), ((0, 0), (0, 0)), 2),
    ((2, 5, 5, 3), (2, 2), ((3, 3), (2, 3)), 1),
]


def ours(padding: Any, stride: int) -> Any:
    return lambda x, kernel: depthwise.depthwise_conv2d(x, kernel, padding, stride)


def native(padding: Any, stride: int) -> Any:
    return lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[3]
    )


def drawn(x_shape: Any, taps: Any, padding: Any, stride: int, dtype: Any = np.float32) -> Any:
    """x, kernel and an output cotangent, drawn from seed 0."""
    generator = np.random.default_rng(0)
    x, kernel = generator.standard_normal(x_shape), generator.standard_normal((*taps, 1, x_shape[3]))
    out = jax.eval_shape(native(padding, stride), x.astype(np.float32), kernel.astype(np.float32))
    return tuple(jnp.asarray(a, dtype) for a in (x, kernel, generator.standard_normal(out.shape)))


@jax.jit(static_argnums=0)
def both_passes(function: Any, x: Any, kernel: Any, cotangent: Any) -> Any:
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(cotangent)


def exact(function: Any, *arrays: Any) -> list[np.ndarray]:
    """Result and gradients of the same numbers in float64."""
    with jax.enable_x64(True):
        return [np.asarray(a) for a in both_passes(function, *(jnp.asarray(np.asarray(a, np.float64)) for a in arrays))]


def relative_error(value: Any, reference: Any) -> float:
    return float(np.abs(np.asarray(value, np.float64) - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_result_and_gradients_equal_the_native_convolution_in_float64(case: Any) -> None:
    arrays, setting = drawn(*case), case[2:]
    for value, reference in zip(both_passes(ours(*setting), *arrays), exact(native(*setting), *arrays), strict=True):
        assert value.dtype == jnp.float32
        assert relative_error(value, reference) < 2e-6


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=str)
def test_a_shift_by_one_is_told_apart(case: Any) -> None:
    arrays, setting = drawn(*case), case[2:]
    for value, reference in zip(both_passes(ours(*setting), *arrays), exact(native(*setting), *arrays), strict=True):
        axes = (0, 1) if value.shape == arrays[1].shape else (1, 2)
        for axis in axes:
            assert relative_error(jnp.roll(value, 1, axis), reference) > 0.1


def test_padding_on_the_other_side_is_told_apart() -> None:
    shape, taps, _, stride = CASES[2]
    arrays = drawn(shape, taps, ((0, 1), (0, 1)), stride)
    values = both_passes(ours(((0, 1), (0, 1)), stride), *arrays)
    references = exact(native(((1, 0), (1, 0)), stride), *arrays)
    assert all(relative_error(*pair) > 0.1 for pair in zip(values, references, strict=True))


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[3]], ids=str)
def test_bfloat16_is_exact_to_its_precision(case: Any) -> None:
    arrays, setting = drawn(*case, dtype=jnp.bfloat16), case[2:]
    for value, reference in zip(both_passes(ours(*setting), *arrays), exact(native(*setting), *arrays), strict=True):
        assert value.dtype == jnp.bfloat16
        assert relative_error(value, reference) < 2**-7


def test_bfloat16_is_summed_in_float32() -> None:
    """8 x 40 x 40 ones: every entry of the gradient is 12,800; a bfloat16 running sum of ones would stop at 256."""
    x, kernel = jnp.ones((8, 42, 42, 4), jnp.bfloat16), jnp.ones((3, 3, 1, 4), jnp.bfloat16)
    grad = both_passes(ours(((0, 0), (0, 0)), 1), x, kernel, jnp.ones((8, 40, 40, 4), jnp.bfloat16))[2]
    np.testing.assert_allclose(np.asarray(grad, np.float32), 12_800.0, rtol=2**-8)


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=str)
def test_cpu_gets_the_rewritten_form_and_other_platforms_the_native_one(case: Any) -> None:
    traced = jax.jit(lambda *arrays: both_passes(ours(*case[2:]), *arrays)).trace(*drawn(*case))
    for platform, convolutions in (("cpu", 0), ("cuda", 3), ("tpu", 3)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions, platform
        groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", text)
        assert groups.count("4") == convolutions, platform


def test_the_cpu_program_pads_once_for_both_passes() -> None:
    x, kernel, cotangent = drawn(*CASES[2])
    step = jax.jit(jax.grad(lambda x, k: (ours(*CASES[2][2:])(x, k) ** 2 * cotangent).sum(), argnums=1))
    text = step.lower(x, kernel).compile().as_text()
    assert len(re.findall(r"= f32\[2,9,11,4\]\S* fusion\(", text)) == 1
    assert " conditional(" not in text and " while(" not in text


def test_one_export_serves_cpu_cuda_and_tpu() -> None:
    arrays, setting = drawn(*CASES[2]), CASES[2][2:]
    step = jax.jit(lambda *arrays: both_passes(ours(*setting), *arrays))
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(*arrays)
    for value, reference in zip(exported.call(*arrays), exact(native(*setting), *arrays), strict=True):
        assert relative_error(value, reference) < 2e-6


def test_vmap_over_models_equals_one_at_a_time() -> None:
    (x, kernel, cotangent), setting = drawn(*CASES[3]), CASES[3][2:]
    kernels, cotangents = jnp.stack([kernel, kernel[::-1]]), jnp.stack([cotangent, cotangent[:, ::-1]])
    together = jax.jit(jax.vmap(lambda k, g: both_passes(ours(*setting), x, k, g)))(kernels, cotangents)
    for index in range(2):
        for values, reference in zip(together, exact(native(*setting), x, kernels[index], cotangents[index]), strict=True):
            assert relative_error(values[index], reference) < 2e-6


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=str)
def test_a_batch_sharded_over_eight_devices_equals_one_device(case: Any) -> None:
    x, kernel, cotangent = drawn((16, *case[0][1:]), *case[1:])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded, whole = jax.NamedSharding(mesh, jax.P("data")), jax.NamedSharding(mesh, jax.P())
    step = jax.jit(lambda *arrays: both_passes(ours(*case[2:]), *arrays), out_shardings=(sharded, sharded, whole))
    arrays = (jax.device_put(x, sharded), jax.device_put(kernel, whole), jax.device_put(cotangent, sharded))
    for value, reference in zip(step(*arrays), exact(native(*case[2:]), x, kernel, cotangent), strict=True):
        assert relative_error(value, reference) < 2e-6
    text = step.lower(*arrays).compile().as_text()
    assert "all-reduce" in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)


@pytest.mark.parametrize(("channels", "features"), [(3, 8), (8, 3), (4, 4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pointwise_equals_the_native_convolution_in_float64(channels: int, features: int, dtype: Any) -> None:
    generator = np.random.default_rng(0)
    shapes = ((2, 5, 4, channels), (channels, features), (2, 5, 4, features))
    arrays = [jnp.asarray(generator.standard_normal(shape), dtype) for shape in shapes]
    reference = exact(lambda x, kernel: dispatch.native_conv2d(x, kernel[None, None]), *arrays)
    for value, expected in zip(both_passes(conv.pointwise_conv2d, *arrays), reference, strict=True):
        assert value.dtype == dtype
        assert relative_error(value, expected) < (2e-6 if dtype == jnp.float32 else 2**-7)
