"""Augmentation on the device, a function of (images, key): the only definition, used by both input paths."""

import jax
import jax.numpy as jnp

# Weights of red, green and blue in luma (ITU-R BT.601), which saturation is measured against.
LUMA = (0.299, 0.587, 0.114)


def augment(
    image: jax.Array,
    key: jax.Array,
    *,
    flip: bool,
    shift: float,
    zoom: float,
    brightness: float,
    contrast: float,
    saturation: float,
) -> jax.Array:
    """Random changes per image; with every argument off the images come back untouched, still uint8.

    Args:
        image: uint8 [B, H, W, 3].
        key: PRNG key of this step.
        flip: mirror each image with probability 1/2.
        shift: largest move as a share of the side, edges repeated.
        zoom: the crop keeps at least 1 - zoom of the side and is resized back.
        brightness: largest added value as a share of 255.
        contrast: factor around the image's mean, drawn from [1 - x, 1 + x].
        saturation: factor around the pixel's luma, drawn from [1 - x, 1 + x].
    Returns: float32 [B, H, W, 3] in 0..255, or the uint8 input.
    """
    geometric, colour = shift or zoom, brightness or contrast or saturation
    flip_key, place_key, colour_key = jax.random.split(key, 3)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(image.shape[0], 1, 1, 1))
        image = jnp.where(mirrored, image[:, :, ::-1], image)
    if geometric:
        image = _move(image.astype(jnp.float32), place_key, shift, zoom)
    if colour:
        image = _recolour(image.astype(jnp.float32), colour_key, brightness, contrast, saturation)
    return image


def _move(image: jax.Array, key: jax.Array, shift: float, zoom: float) -> jax.Array:
    """Bilinear sampling as two small matrix products per image (rows, then columns): no gather, fast on every backend."""
    batch = image.shape[0]
    scale_key, *axis_keys = jax.random.split(key, 3)
    scale = jax.random.uniform(scale_key, (batch,), minval=1 - zoom, maxval=1.0)
    for axis, axis_key in zip((1, 2), axis_keys, strict=True):
        size = image.shape[axis]
        # A crop smaller than the image may also lie off centre, by as much as it leaves free.
        reach = shift + (1 - scale) / 2
        offset = jax.random.uniform(axis_key, (batch,), minval=-1.0, maxval=1.0) * reach * size
        centre = (size - 1) / 2
        source = (jnp.arange(size) - centre)[None] * scale[:, None] + (centre + offset)[:, None]
        source = jnp.clip(source, 0, size - 1)
        weights = jnp.maximum(0.0, 1 - jnp.abs(source[:, :, None] - jnp.arange(size)[None, None]))
        image = jnp.einsum("boi,bihc->bohc" if axis == 1 else "boi,bhic->bhoc", weights, image)
    return image


def _recolour(image: jax.Array, key: jax.Array, brightness: float, contrast: float, saturation: float) -> jax.Array:
    keys = jax.random.split(key, 3)

    def draw(index: int, reach: float) -> jax.Array:
        return jax.random.uniform(keys[index], (image.shape[0], 1, 1, 1), minval=-reach, maxval=reach)

    mean = image.mean(axis=(1, 2, 3), keepdims=True)
    image = (image - mean) * (1 + draw(1, contrast)) + mean
    luma = (image * jnp.asarray(LUMA)[None, None, None]).sum(axis=-1, keepdims=True)
    image = (image - luma) * (1 + draw(2, saturation)) + luma
    return jnp.clip(image + 255 * draw(0, brightness), 0.0, 255.0)
