"""Ranks in place of probabilities: every order and every tie stays, and what needs probabilities is None."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from poster_jax.metrics import definitions, ranks, scoring


def test_ranks_keep_every_order_and_every_tie() -> None:
    logits = np.round(np.random.default_rng(3).normal(size=(50, 4)), 1)
    unit = ranks.to_unit(logits)
    assert unit.min() == 0 and unit.max() == 1
    assert (np.sign(logits.ravel()[:, None] - logits.ravel()) == np.sign(unit.ravel()[:, None] - unit.ravel())).all()
    targets = np.random.default_rng(4).random((50, 4)) < 0.4
    plain = definitions.plain(definitions.make_measure(unit, targets, {}), 50)
    assert plain["macro_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(targets, logits))
    assert (ranks.to_unit(np.full((2, 2), 7.0)) == 0).all()


def test_of_ranks_only_what_their_order_says_is_kept() -> None:
    rng = np.random.default_rng(5)
    targets, one = rng.random((80, 2)) < 0.3, rng.random((80, 2))
    about = {"genres": ("a", "b"), "thresholds": {"tuned": np.full(2, 0.4)}, "num_samples": 20, "seed": 0}
    split = scoring.score(one, targets, np.arange(80), **about)  # type: ignore[arg-type]
    kept = ranks.without_values(split)
    assert kept["metrics"]["macro_auc"] == split["metrics"]["macro_auc"]
    assert kept["metrics"].keys() == split["metrics"].keys() and kept["metrics"]["macro_f1@tuned"]["value"] is None
    assert kept["per_genre"]["a"]["auc"] == split["per_genre"]["a"]["auc"] and kept["per_genre"]["a"]["recall"] is None
    assert split["metrics"]["macro_f1"]["value"] is not None, "the original is as it was"
