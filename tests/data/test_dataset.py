"""Auxiliary genres, shares of the training part, and sampled validation: they change training, not evaluation."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax.data import builder, dataset, input_pipeline
from poster_jax.runtime import sharding

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(*overrides: tuple[str, str]) -> Any:
    return config_lib.load(f"{ROOT}/configs/cnn_onehot.py:smoke", [("data.balance", "none"), *overrides]).data


def select(*overrides: tuple[str, str]) -> dataset.Dataset:
    data = load(*overrides)
    return dataset.select(builder.load_source(data), data)


def test_auxiliary_genres_stand_behind_the_measured_ones_and_change_nothing_else() -> None:
    plain, more = (select(("data.num_genres", "3"), ("data.num_auxiliary", number)) for number in ("0", "2"))
    assert plain.target is plain.label
    assert more.num_outputs == 5
    assert plain.genres == more.genres
    np.testing.assert_array_equal(more.label, plain.label)
    np.testing.assert_array_equal(more.target[:, :3], more.label)
    for part in dataset.PARTS:
        np.testing.assert_array_equal(more.parts[part], plain.parts[part])
    texts = builder.load_source(load()).table["genres"].tolist()
    auxiliary = more.summary["auxiliary_genres"]
    assert not set(auxiliary) & set(more.genres)
    for row, target in zip(more.poster, more.target, strict=True):
        listed = set(texts[row].split("|"))
        assert [genre in listed for genre in (*more.genres, *auxiliary)] == list(target == 1)
    mentioned = {genre for text in texts for genre in text.split("|")}
    assert set(select(("data.num_auxiliary", "50")).summary["auxiliary_genres"]) == mentioned - set(select().genres)


@pytest.mark.parametrize("balance", ["none", "equal"])
def test_one_hot_is_learnt_on_the_rows_of_integers_and_measured_as_they_are(balance: str) -> None:
    loss = (("data.balance", balance), ("loss.name", "softmax"))
    integers, one_hot = (select(*loss, ("data.encoding", encoding)) for encoding in ("first", "one_hot"))
    for name in ("poster", "label", "movie_id", "group"):
        np.testing.assert_array_equal(getattr(one_hot, name), getattr(integers, name))
        assert getattr(one_hot, name).dtype == getattr(integers, name).dtype
    for part in dataset.PARTS:
        np.testing.assert_array_equal(one_hot.parts[part], integers.parts[part])
    assert integers.target is integers.label
    assert one_hot.target.dtype == np.float32 and one_hot.num_outputs == integers.num_outputs == 6
    np.testing.assert_array_equal(one_hot.target, np.eye(6)[integers.label])
    many = select(*loss[:1])
    tested = [set(rows.movie_id[rows.parts["test"]].tolist()) for rows in (integers, many)]
    assert tested[0] != tested[1], "all genres of a movie draw other rows"


def test_a_smaller_share_of_training_is_part_of_a_larger_one() -> None:
    shares = [select(("data.train_share", share)) for share in ("0.25", "0.5", "1.0")]
    trained = [set(rows.parts["train"].tolist()) for rows in shares]
    assert trained[0] < trained[1] < trained[2]
    assert [len(one) / len(trained[2]) for one in trained] == pytest.approx([0.25, 0.5, 1.0], abs=0.01)
    for part in ("validation", "test"):
        np.testing.assert_array_equal(shares[0].parts[part], shares[2].parts[part])


def test_a_drawn_validation_is_a_part_of_it_and_leaves_the_rest() -> None:
    whole = input_pipeline.open_loader(load(), sharding.make_shardings(jax.devices()[:1]), ("resident", "the test asks for it"))
    drawn, again, other = (whole.sampled_validation(10, seed) for seed in (0, 0, 1))
    assert len(drawn.rows.parts["validation"]) == 10
    assert set(drawn.rows.parts["validation"]) < set(whole.rows.parts["validation"])
    np.testing.assert_array_equal(drawn.rows.parts["validation"], again.rows.parts["validation"])
    assert not np.array_equal(drawn.rows.parts["validation"], other.rows.parts["validation"])
    np.testing.assert_array_equal(drawn.rows.parts["train"], whole.rows.parts["train"])
    assert whole.sampled_validation(0, 0) is whole
    assert whole.sampled_validation(10**6, 0) is whole
