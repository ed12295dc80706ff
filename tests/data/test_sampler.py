"""The order of an epoch is a function of (seed, epoch), and evaluation drops nothing."""

import numpy as np
import pytest

from poster_jax.data import sampler


def test_an_epoch_is_a_permutation_and_differs_by_seed_and_epoch() -> None:
    orders = [sampler.epoch_order(50, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for one in orders:
        assert sorted(one) == list(range(50))
    assert not any(np.array_equal(orders[0], other) for other in orders[1:])
    assert np.array_equal(orders[0], np.random.default_rng((0, 0)).permutation(50))


def test_the_position_in_the_input_is_the_step() -> None:
    whole = np.concatenate([sampler.batch_positions(50, 8, 3, step) for step in range(6)])
    assert np.array_equal(whole, sampler.epoch_order(50, 3, 0)[:48])
    assert np.array_equal(sampler.batch_positions(50, 8, 3, 6), sampler.epoch_order(50, 3, 1)[:8])


def test_the_rows_left_over_differ_from_epoch_to_epoch() -> None:
    seen = {int(i) for step in range(60) for i in sampler.batch_positions(50, 8, 0, step)}
    assert seen == set(range(50))


@pytest.mark.parametrize(("num_examples", "batch_size"), [(37, 8), (8, 8), (1, 4), (16, 5)])
def test_padding_covers_every_row_once(num_examples: int, batch_size: int) -> None:
    batches = sampler.padded_positions(num_examples, batch_size)
    real = np.concatenate([positions[mask > 0] for positions, mask in batches])
    assert np.array_equal(real, np.arange(num_examples))
    assert all(len(positions) == len(mask) == batch_size for positions, mask in batches)
