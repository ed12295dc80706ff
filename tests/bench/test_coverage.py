"""The intervals of average precision cover the truth, and random scores are seldom called better than a constant answer."""

import numpy as np
import pytest

from poster_jax.bench import coverage
from poster_jax.metrics import chance

NUM_DATA_SETS = 200


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_intervals_cover_and_verdicts_of_noise_are_rare(seed: int) -> None:
    """18 cells of 200 data sets. The rule of percentiles above the floor fails by far on the same data sets."""
    total = coverage.Counts()
    for cell in coverage.CELLS:
        counts = coverage.simulate(cell, NUM_DATA_SETS, seed, num_resamples=200, num_permutations=499)
        for name in ("mean", "frequent", "rare"):
            assert 1 - getattr(counts, name).sum() / NUM_DATA_SETS >= 0.88, (cell, name)
        assert counts.told / NUM_DATA_SETS <= 0.06, cell
        total.add(counts)
    for name in ("mean", "frequent", "rare"):
        assert 1 - getattr(total, name).sum() / total.num >= 0.92, name
    num_null = NUM_DATA_SETS * sum(cell.signal == "none" for cell in coverage.CELLS)
    assert 0.005 < total.told / num_null <= 0.04
    assert total.old_told / num_null > 0.2 and 1 - total.old_mean.sum() / total.num < 0.8


def test_the_truth_is_what_large_samples_approach() -> None:
    """The binormal model in float64 by numerical integration over the threshold."""
    cell = coverage.Cell(234, one_label=True, signal="strong")
    from scipy.stats import norm

    grid = np.linspace(-8, 10, 200_001)
    true_rate, false_rate = norm.sf(grid - coverage.SIGNALS["strong"]), norm.sf(grid)
    precision = true_rate / 6 / np.maximum(true_rate / 6 + false_rate * 5 / 6, 1e-300)
    expected = np.trapezoid(precision * norm.pdf(grid - coverage.SIGNALS["strong"]), grid)
    assert cell.truth() == pytest.approx(np.full(6, expected), abs=0.004)


def test_a_signal_is_told() -> None:
    cell = coverage.Cell(234, one_label=False, signal="weak")
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        scores, targets = cell.draw(cell.num_rows, rng)
        value = coverage.make_measure(scores, targets)(np.ones((1, cell.num_rows)))["mean_average_precision"][0]
        drawn = chance.permute(scores, targets, np.arange(cell.num_rows), num_permutations=199, seed=0)
        told += chance.p_value(float(value), drawn["mean_average_precision"]) <= chance.LEVEL
    assert told >= 39


def test_the_table_has_a_row_for_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage.main(["--data-sets=2", "--processes=1"]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(coverage.CELLS) and "of 36 data sets" in said
    assert coverage.main(["--data-set=2", "extra"]) == 2
