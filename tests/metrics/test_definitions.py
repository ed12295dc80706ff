"""Every definition against scikit-learn, with ties and weights."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import definitions


def tied_problem(seed, num_rows=300, num_genres=5):
    """Scores with 8 distinct values, multi-hot labels that they predict a little, integer weights with zeros."""
    rng = np.random.default_rng(seed)
    targets = rng.random((num_rows, num_genres)) < 0.25
    scores = np.round(np.clip(rng.random((num_rows, num_genres)) + 0.2 * targets, 0, 1) * 7) / 7
    weights = rng.poisson(1.0, size=num_rows).astype(np.float64)
    return scores, targets, weights


@pytest.mark.parametrize("seed", range(5))
def test_ranking_equals_scikit_learn_with_ties_and_weights(seed):
    scores, targets, weights = tied_problem(seed)
    for k in range(targets.shape[1]):
        for weight in (weights, np.ones_like(weights)):
            average_precision, auc, _ = definitions.make_ranking(scores[:, k], targets[:, k])(weight[None])
            arguments = (targets[:, k], scores[:, k])
            expected = sklearn_metrics.average_precision_score(*arguments, sample_weight=weight)
            assert average_precision[0] == pytest.approx(expected, abs=1e-12)
            expected = sklearn_metrics.roc_auc_score(*arguments, sample_weight=weight)
            assert auc[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_equal_scikit_learn_with_ties(seed):
    scores, targets, _ = tied_problem(seed)
    for k in range(targets.shape[1]):
        precision, recall = definitions.precision_recall(scores[:, k], targets[:, k])
        expected = sklearn_metrics.precision_recall_curve(targets[:, k], scores[:, k])
        assert len(precision) == len(np.unique(scores[:, k]))
        np.testing.assert_allclose(precision, expected[0][-2::-1], rtol=1e-12)
        np.testing.assert_allclose(recall, expected[1][-2::-1], rtol=1e-12)


def test_an_order_within_ties_would_invent_a_score():
    # Constant scores with the positives first: a row-by-row ranking would be perfect.
    targets = np.arange(40) < 10
    scores = np.full(40, 0.5)
    hits = targets[np.argsort(-scores, kind="stable")]
    one_by_one = (np.cumsum(hits) / np.arange(1, 41))[hits].mean()
    average_precision, auc, _ = definitions.make_ranking(scores, targets)(np.ones((1, 40)))
    assert one_by_one == 1.0
    assert (average_precision[0], auc[0]) == (0.25, 0.5)


def test_threshold_metrics_equal_scikit_learn_with_weights():
    scores, targets, weights = tied_problem(7)
    decided = scores >= 0.5
    values = definitions.make_measure(scores, targets, {"": decided})(weights[None])
    f1 = {
        average: sklearn_metrics.f1_score(targets, decided, average=average, sample_weight=weights)
        for average in ("macro", "micro")
    }
    assert values["macro_f1"][0] == pytest.approx(f1["macro"])
    assert values["micro_f1"][0] == pytest.approx(f1["micro"])
    expected = sklearn_metrics.accuracy_score(targets, decided, sample_weight=weights)
    assert values["exact_match"][0] == pytest.approx(expected)
    expected = 1 - sklearn_metrics.hamming_loss(targets, decided, sample_weight=weights)
    assert values["binary_accuracy"][0] == pytest.approx(expected)
    precision, recall, _, _ = sklearn_metrics.precision_recall_fscore_support(targets, decided, sample_weight=weights)
    np.testing.assert_allclose(values["precision"][0], precision)
    np.testing.assert_allclose(values["recall"][0], recall)
