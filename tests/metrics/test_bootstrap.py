"""Resamples against scikit-learn with weights, and intervals of known width."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import bootstrap, definitions, scoring


def tied_problem(seed, num_rows=300, num_genres=5):
    """Scores with 8 distinct values, multi-hot labels that they predict a little, integer weights with zeros."""
    rng = np.random.default_rng(seed)
    targets = rng.random((num_rows, num_genres)) < 0.25
    scores = np.round(np.clip(rng.random((num_rows, num_genres)) + 0.2 * targets, 0, 1) * 7) / 7
    weights = rng.poisson(1.0, size=num_rows).astype(np.float64)
    return scores, targets, weights


def test_resamples_equal_scikit_learn_with_counts_as_weights():
    scores, targets, _ = tied_problem(11)
    groups = np.repeat(np.arange(100), [5, 1] * 50)[::-1]
    measure = definitions.make_measure(scores, targets, {"": scores >= 0.5})
    (samples,) = bootstrap.resample([measure], groups, num_samples=4, seed=3)
    weights = np.concatenate(list(bootstrap.draw_weights(groups, 4, 3)))
    assert weights.shape == (4, 300)
    _, first_row, row_movie = np.unique(groups, return_index=True, return_inverse=True)
    assert (weights[:, first_row].sum(axis=1) == 100).all()  # as many movies as there are, not rows
    assert (weights == weights[:, first_row][:, row_movie]).all()  # the rows of a movie go together
    assert len(np.unique(weights, axis=0)) == 4
    for sample, weight in enumerate(weights):
        average = {"average": "macro", "sample_weight": weight}
        expected = sklearn_metrics.average_precision_score(targets, scores, **average)
        assert samples["mean_average_precision"][sample] == pytest.approx(expected, abs=1e-12)
        expected = sklearn_metrics.roc_auc_score(targets, scores, **average)
        assert samples["macro_auc"][sample] == pytest.approx(expected, abs=1e-12)
        expected = sklearn_metrics.f1_score(targets, scores >= 0.5, **average)
        assert samples["macro_f1"][sample] == pytest.approx(expected, abs=1e-12)


def test_chunks_do_not_change_the_resamples(monkeypatch):
    whole = np.concatenate(list(bootstrap.draw_weights(np.arange(40), 25, 9)))
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 280)
    chunks = list(bootstrap.draw_weights(np.arange(40), 25, 9))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 4]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_interval_has_the_width_of_a_binomial():
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.7
    scores = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    measure = definitions.make_measure(scores, np.tile([True, False], (400, 1)), {"": scores >= 0.5})
    (samples,) = bootstrap.resample([measure], np.arange(400), num_samples=2000, seed=0)
    share = right.mean()
    low, high = bootstrap.percentiles(share, samples["top1_accuracy"])
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 400), rel=0.08)
    assert low < share < high


def test_interval_is_over_the_resamples_where_the_metric_is_defined():
    low, high = bootstrap.percentiles(50.0, np.append(np.arange(101.0), [np.nan] * 50))
    assert (low, high) == (2.5, 97.5)
    assert np.isnan(bootstrap.percentiles(0.5, np.full(3, np.nan))).all()
    assert np.isnan(bootstrap.ranked_interval(0.5, np.full(3, np.nan), freedom=9, num_rows=10)).all()


def test_rows_of_a_movie_are_not_independent_evidence():
    # Each movie is three rows with one picture: all right or all wrong in binary terms.
    rng = np.random.default_rng(1)
    scores = np.repeat(rng.random((100, 3)), 3, axis=0)
    labels = np.repeat(rng.integers(0, 3, 100), 3)
    keywords = {
        "genres": ["Action", "Comedy", "Drama"],
        "thresholds": {},
        "num_samples": 1000,
        "seed": 0,
    }
    width = {}
    for name, groups in (("movies", np.arange(300) // 3), ("rows", np.arange(300))):
        entry = scoring.score(scores, labels, groups, **keywords)["metrics"]["top1_accuracy"]
        width[name] = entry["high"] - entry["low"]
    assert width["movies"] / width["rows"] == pytest.approx(np.sqrt(3), rel=0.12)


@pytest.mark.parametrize("num_samples", [1, 6, 7, 8, 14, 15])
def test_the_last_chunk_is_drawn_whatever_its_size(num_samples, monkeypatch):
    scores, targets, _ = tied_problem(2, num_rows=40)
    measure = definitions.make_measure(scores, targets, {"": scores >= 0.5})

    def drawn():
        weights = np.concatenate(list(bootstrap.draw_weights(np.arange(40), num_samples, 9)))
        return weights, bootstrap.resample([measure], np.arange(40), num_samples=num_samples, seed=9)[0]

    whole, values = drawn()
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 7 * 40)
    assert max(map(len, bootstrap.draw_weights(np.arange(40), num_samples, 9))) == min(7, num_samples)
    chunked, chunked_values = drawn()
    assert len(whole) == num_samples
    np.testing.assert_array_equal(chunked, whole)
    for name, value in values.items():
        # Sums over chunks of another size may round differently.
        np.testing.assert_allclose(chunked_values[name], value, rtol=1e-12, atol=1e-15)


def test_the_interval_of_a_ranking_by_hand():
    """Student's t with 4 degrees of freedom (2.776445) around logit(0.5) = 0 less the bias, scaled by the distance from it."""
    drawn = np.array([0.5, 1.0, 1.5, 2.0, 0.0, 1.0])  # logits of the resamples
    half = 2.776445 * np.sqrt((drawn**2).mean())
    ends = [-drawn.mean() - half, -drawn.mean() + half]
    expected = 1 / (1 + np.exp(-np.array(ends)))
    samples = 1 / (1 + np.exp(-drawn))
    assert bootstrap.ranked_interval(0.5, samples, freedom=4, num_rows=1000) == pytest.approx(expected, abs=1e-6)
