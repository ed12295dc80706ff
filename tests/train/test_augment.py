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


def ramps(axis: int) -> np.ndarray:
    """400 images of 41 x 41 whose value is five times the row (axis 1) or the column (axis 2)."""
    ramp = (5 * np.arange(41, dtype=np.uint8)).reshape((1, 41, 1, 1) if axis == 1 else (1, 1, 41, 1))
    return np.broadcast_to(ramp, (400, 41, 41, 3))


def middle(axis: int, **strengths: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the middle of each changed image was taken from, in pixels, and how far apart its neighbours were."""
    changed = np.asarray(augment.augment(ramps(axis), KEY, **OFF | strengths))[..., 0] / 5
    line = changed[:, :, 20] if axis == 1 else changed[:, 20]
    return line[:, 20] - 20, line[:, 21] - line[:, 20]


def assert_fills(values: np.ndarray, low: float, high: float) -> None:
    """Values in [low, high], which they reach but for a fortieth of it at both ends."""
    slack = (high - low) / 40
    assert low - 1e-3 <= values.min() <= low + slack
    assert high - slack <= values.max() <= high + 1e-3


@pytest.mark.parametrize("axis", [1, 2])
def test_shift_reaches_its_share_of_the_side_in_all_four_directions(axis: int) -> None:
    moved, scale = middle(axis, shift=0.2)
    assert_fills(moved, -0.2 * 41, 0.2 * 41)
    np.testing.assert_allclose(scale, 1.0, rtol=1e-4)


@pytest.mark.parametrize("axis", [1, 2])
def test_zoom_goes_in_as_far_as_it_may_and_never_out(axis: int) -> None:
    moved, scale = middle(axis, zoom=0.4)
    assert_fills(scale, 0.6, 1.0)
    # Off centre by no more than the crop leaves free, and by all of it.
    assert_fills(moved / ((1 - scale) / 2 * 41), -1.0, 1.0)
    np.testing.assert_allclose(scale, middle(3 - axis, zoom=0.4)[1], rtol=1e-4)


def test_colours_change_by_up_to_their_strength_and_both_ways() -> None:
    grey = np.full((400, 2, 2, 3), 128, np.uint8)
    assert_fills(np.asarray(augment.augment(grey, KEY, **OFF | {"brightness": 0.2}))[:, 0, 0, 0] - 128, -51, 51)
    halves = grey + np.array([[40], [216]], np.uint8)[None, ..., None]  # 168 above, 88 below
    changed = np.asarray(augment.augment(halves, KEY, **OFF | {"contrast": 0.3}))
    assert_fills((changed[:, 0, 0, 0] - changed[:, 1, 0, 0]) / 80, 0.7, 1.3)
    reddish = grey + np.array([50, 0, 0], np.uint8)
    changed = np.asarray(augment.augment(reddish, KEY, **OFF | {"saturation": 0.3}))
    assert_fills((changed[..., 0] - changed[..., 1])[:, 0, 0] / 50, 0.7, 1.3)
    np.testing.assert_allclose(changed @ augment.LUMA, reddish @ np.array(augment.LUMA), rtol=1e-4)
