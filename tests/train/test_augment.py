"""Augmentation by hand-made images: what moves, what stays, and that it is a function of the key."""

import jax
import numpy as np
import pytest

from poster_jax.train import augment

OFF = {"flip": False, "shift": 0.0, "zoom": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
KEY = jax.random.key(0)


def random_images(batch: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, 12, 9, 3), np.uint8)


def test_with_everything_off_the_input_comes_back_untouched() -> None:
    images = random_images()
    assert np.array_equal(augment.augment(images, KEY, **OFF), images)


def test_flip_mirrors_some_images_and_leaves_the_others() -> None:
    images = random_images(64)
    flipped = np.asarray(augment.augment(images, KEY, **OFF | {"flip": True}))
    same = (flipped == images).all(axis=(1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 16 < same.sum() < 48


@pytest.mark.parametrize("name", ["shift", "zoom", "brightness", "contrast", "saturation"])
def test_every_change_is_bounded_random_per_image_and_repeats_with_its_key(name: str) -> None:
    images = np.repeat(random_images(1), 16, axis=0)
    changed = np.asarray(augment.augment(images, KEY, **OFF | {name: 0.4}))
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert len({image.tobytes() for image in changed}) == 16
    assert np.array_equal(changed, augment.augment(images, KEY, **OFF | {name: 0.4}))
    assert not np.array_equal(changed, augment.augment(images, jax.random.key(1), **OFF | {name: 0.4}))


def test_shift_moves_a_column_by_at_most_its_share() -> None:
    images = np.zeros((200, 8, 41, 3), np.uint8)
    images[:, :, 20] = 255
    moved = np.asarray(augment.augment(images, KEY, **OFF | {"shift": 0.1}))[:, 4, :, 0]
    centre = (moved * np.arange(41)).sum(axis=1) / moved.sum(axis=1) - 20
    assert np.abs(centre).max() <= 4.1 + 1e-3
    assert centre.min() < -3
    assert centre.max() > 3


def test_brightness_adds_one_value_to_all_pixels() -> None:
    images = np.full((50, 4, 4, 3), 128, np.uint8)
    changed = np.asarray(augment.augment(images, KEY, **OFF | {"brightness": 0.2}))
    assert np.ptp(changed.reshape(50, -1), axis=1).max() < 1e-3
    assert np.abs(changed - 128).max() <= 51 + 1e-3


def test_saturation_leaves_grey_images_alone_and_contrast_keeps_the_mean() -> None:
    grey = np.repeat(random_images()[..., :1], 3, axis=-1)
    np.testing.assert_allclose(augment.augment(grey, KEY, **OFF | {"saturation": 0.5}), grey, atol=1e-3)
    soft = (random_images() // 4 + 96).astype(np.uint8)
    changed = np.asarray(augment.augment(soft, KEY, **OFF | {"contrast": 0.5}))
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), soft.mean(axis=(1, 2, 3)), atol=1e-2)
