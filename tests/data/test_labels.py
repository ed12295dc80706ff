"""Encodings by hand, the choice of genres, and balancing against brute force."""

import itertools
import time

import numpy as np
import pytest
from scipy import optimize

from poster_jax import errors
from poster_jax.data import labels

TEXTS = ["Drama|Crime", "Comedy", "Crime|Drama|War", "War|Comedy", "", "Drama", "Comedy|Drama"]


def test_choose_genres_by_first_listed_and_by_any_mention():
    # first-listed: Comedy 2, Drama 2, Crime 1, War 1; any: Drama 4, Comedy 3, Crime 2, War 2
    assert labels.choose_genres(TEXTS, num_genres=3, genre_rank="first") == ("Comedy", "Drama", "Crime")
    assert labels.choose_genres(TEXTS, num_genres=4, genre_rank="any") == ("Drama", "Comedy", "Crime", "War")


def test_given_genres_keep_their_order():
    assert labels.choose_genres(TEXTS, num_genres=1, genre_rank="any", genres=("War", "Drama")) == (
        "War",
        "Drama",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"genres": ("Drama", "Comdy")},
            "'Comdy' is not in the data; the nearest is 'Comedy', .*: Comedy, Crime",
        ),
        ({"genres": ("war",)}, "'war' .* 'War'"),
        ({"genres": ("COMEDY",), "texts": ["Comedy|Zebra"]}, "nearest is 'Comedy'"),
        ({"genres": ("War",), "texts": [""]}, "lists no genre at all"),
        ({"genres": ("War", "War")}, "twice"),
        ({"num_genres": 5}, "num_genres is 5, .* there are 4 genres"),
        ({"num_genres": 9}, "num_genres is 9"),
        ({"genre_rank": "last"}, "'last' is unknown; use one of first, any"),
    ],
)
def test_choose_genres_refusals(options, message):
    with pytest.raises(errors.UserError, match=message):
        labels.choose_genres(**({"texts": TEXTS, "num_genres": 2, "genre_rank": "any"} | options))


def test_no_number_of_genres_takes_all_that_have_enough_movies():
    texts = ["Drama|Crime"] * 5 + ["War"] * 3 + ["Comedy|Drama"] * 2
    assert labels.choose_genres(texts, num_genres=0, genre_rank="any", min_movies=3) == ("Drama", "Crime", "War")
    assert labels.choose_genres(texts, num_genres=0, genre_rank="first", min_movies=2) == ("Drama", "War", "Comedy")
    with pytest.raises(errors.UserError, match=r"no label has 8 pictures \(the most frequent is Drama with 7\)"):
        labels.choose_genres(texts, num_genres=0, genre_rank="any", min_movies=8)


def test_encodings_by_hand():
    genres = ("Drama", "Crime", "Comedy")
    first = labels.encode(TEXTS, genres, "first")
    assert first.poster.tolist() == [0, 1, 2, 5, 6] and first.label.tolist() == [0, 2, 1, 0, 2]
    exploded = labels.encode(TEXTS, genres, "exploded")
    assert exploded.poster.tolist() == [0, 0, 1, 2, 2, 3, 5, 6, 6]
    assert exploded.label.tolist() == [0, 1, 2, 1, 0, 2, 0, 2, 0]
    multi = labels.encode(TEXTS, genres, "multi_hot")
    assert multi.poster.tolist() == [0, 1, 2, 3, 5, 6]
    assert multi.label.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
    assert (first.label.dtype, multi.label.dtype, multi.poster.dtype) == (np.int32, np.float32, np.int64)
    assert labels.genre_counts(exploded.label, 3).tolist() == [4, 2, 3]
    assert labels.genre_counts(multi.label, 3).tolist() == [4, 2, 3]
    assert labels.labels_per_row(first.label) == 1 and labels.labels_per_row(multi.label) == 1.5


def test_encode_of_nothing_and_of_an_unknown_kind():
    assert labels.encode(["War"], ("Drama", "Crime"), "multi_hot").label.shape == (0, 2)
    assert labels.encode([" Drama |Drama"], ("Drama",), "exploded").poster.tolist() == [0]
    with pytest.raises(errors.UserError, match="'onehot' is unknown; use one of first, exploded, multi_hot"):
        labels.encode(TEXTS, ("Drama",), "onehot")


def test_check_enough():
    examples = labels.encode(TEXTS, ("Drama", "Crime"), "multi_hot")
    labels.check_enough(examples, 2)
    with pytest.raises(errors.UserError, match="genre Crime has 2 movies and needs 3; leave it out"):
        labels.check_enough(examples, 3)


def int_examples(counts: list[int]) -> labels.Examples:
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    return labels.Examples(np.arange(len(label)), label, tuple("abcdef"[: len(counts)]))


@pytest.mark.parametrize(
    ("balance", "limit", "expected"),
    [("none", 0, [50, 20, 7]), ("cap", 10, [10, 10, 7]), ("equal", 0, [7, 7, 7]), ("equal", 5, [5, 5, 5])],
)
def test_balance_of_int_labels_is_exact(balance, limit, expected):
    examples = int_examples([50, 20, 7])
    chosen = labels.balance(examples, balance=balance, balance_limit=limit, seed=3)
    assert chosen.dtype == np.int64 and (np.diff(chosen) > 0).all()
    assert labels.genre_counts(examples.label[chosen], 3).tolist() == expected


@pytest.mark.parametrize(("balance", "limit", "message"), [("cap", 0, "limit 0"), ("equal", -1, "-1"), ("half", 1, "unknown")])
def test_balance_refusals(balance, limit, message):
    with pytest.raises(errors.UserError, match=message):
        labels.balance(int_examples([3, 3]), balance=balance, balance_limit=limit, seed=0)


def multi_examples(seed: int, num_movies: int, shares: list[float]) -> labels.Examples:
    rng = np.random.default_rng(seed)
    hot = rng.random((num_movies, len(shares))) < shares
    hot[np.arange(num_movies), rng.integers(0, len(shares), num_movies)] = True
    return labels.Examples(np.arange(num_movies), hot.astype(np.float32), tuple("abcdef"[: len(shares)]))


@pytest.mark.parametrize("seed", range(12))
def test_multi_hot_balance_is_near_the_best_of_all_draws(seed):
    examples = multi_examples(seed, 12, [0.6, 0.3, 0.1])
    hot = examples.label.astype(int)
    target = hot.sum(axis=0).min()
    draws = np.array(list(itertools.product((0, 1), repeat=12)))
    best = ((draws @ hot - target) ** 2).sum(axis=1).min()
    chosen = labels.balance(examples, balance="equal", balance_limit=0, seed=seed)
    reached = ((hot[chosen].sum(axis=0) - target) ** 2).sum()
    assert best <= reached <= best + 1
    at_random = np.random.default_rng(seed).choice(12, len(chosen), replace=False)
    assert reached <= ((hot[at_random].sum(axis=0) - target) ** 2).sum()


@pytest.mark.parametrize("seed", range(4))
def test_multi_hot_equal_comes_as_near_as_fractions_of_movies_would(seed):
    examples = multi_examples(seed, 3000, [0.5, 0.2, 0.02, 0.05])
    hot = examples.label.astype(int)
    target = hot.sum(axis=0).min()
    kinds, supply = np.unique(hot, axis=0, return_counts=True)
    best = optimize.lsq_linear(kinds.T, np.full(4, target), bounds=(0, supply)).cost * 2
    chosen = labels.balance(examples, balance="equal", balance_limit=0, seed=1)
    reached = ((hot[chosen].sum(axis=0) - target) ** 2).sum()
    assert best - 1e-6 <= reached <= best + 4  # whole movies: at most one off per genre
    assert reached < 0.01 * ((hot.sum(axis=0) - target) ** 2).sum()
    assert (np.diff(chosen) > 0).all()


def test_multi_hot_equal_is_exact_where_single_genres_are_plenty():
    hot = np.repeat(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], np.float32), 20, axis=0)
    examples = labels.Examples(np.arange(100), hot, ("a", "b", "c"))
    chosen = labels.balance(examples, balance="equal", balance_limit=0, seed=0)
    assert labels.genre_counts(hot[chosen], 3).tolist() == [40, 40, 40]


@pytest.mark.parametrize("balance", ["cap", "equal"])
def test_multi_hot_limit_is_never_exceeded(balance):
    # Every rare movie also has the common genre: adding rare ones must stop at the limit.
    hot = np.array([[1, 0]] * 50 + [[1, 1]] * 30, np.float32)
    examples = labels.Examples(np.arange(80), hot, ("common", "rare"))
    chosen = labels.balance(examples, balance=balance, balance_limit=20, seed=0)
    assert labels.genre_counts(hot[chosen], 2).tolist() == [20, 20]


def test_multi_hot_cap_protects_the_rare_genre():
    # Movies of b and of the rare genre all have a, which is capped. By absolute distances b would displace the rare genre.
    hot = np.array([[1, 1, 0]] * 300 + [[1, 0, 1]] * 10, np.float32)
    examples = labels.Examples(np.arange(len(hot)), hot, ("a", "b", "rare"))
    chosen = labels.balance(examples, balance="cap", balance_limit=100, seed=0)
    assert labels.genre_counts(hot[chosen], 3).tolist() == [100, 90, 10]


def test_a_step_of_many_movies_stops_at_the_ceiling():
    # a quarter of the way to the target would be twelve movies
    selected = labels._improve(np.array([[1]]), np.array([100]), np.array([0]), np.array([50]), np.array([3]))
    assert selected.tolist() == [3]


@pytest.mark.parametrize("seed", range(20))
def test_multi_hot_limits_hold_on_random_movies(seed):
    examples = multi_examples(seed, 2000, [0.7, 0.5, 0.05, 0.3, 0.02])
    for balance, limit in [("cap", 150), ("equal", 150), ("equal", 600)]:
        chosen = labels.balance(examples, balance=balance, balance_limit=limit, seed=seed)
        assert labels.genre_counts(examples.label[chosen], 5).max() <= limit


def test_balance_depends_on_the_seed_alone():
    for examples in (int_examples([50, 20, 7]), multi_examples(0, 300, [0.5, 0.1, 0.1])):
        one, same, other = (
            labels.balance(examples, balance="equal", balance_limit=0, seed=seed).tolist() for seed in (0, 0, 1)
        )
        assert one == same and one != other


def test_multi_hot_balance_of_the_full_set_takes_no_more_than_two_seconds():
    examples = multi_examples(0, 40_000, [0.4, 0.2, 0.1, 0.05, 0.02])
    start = time.process_time()
    labels.balance(examples, balance="equal", balance_limit=0, seed=0)
    assert time.process_time() - start < 2


def test_the_real_genres(shared_dir):
    lines = (shared_dir / "data" / "genres_all.csv").read_text(encoding="ISO-8859-1").splitlines()[1:]
    texts = [line.split(",", 1)[1].strip('"') for line in lines]
    genres = labels.choose_genres(texts, num_genres=6, genre_rank="first")
    assert sorted(genres) == ["Action", "Comedy", "Crime", "Documentary", "Drama", "Horror"]
    examples = labels.encode(texts, genres, "multi_hot")
    chosen = labels.balance(examples, balance="equal", balance_limit=0, seed=0)
    assert labels.genre_counts(examples.label[chosen], 6).tolist() == [3451] * 6


@pytest.mark.parametrize("seed", range(5))
def test_multi_hot_cap_keeps_the_rare_genre_whose_movies_are_of_two_common_ones(seed):
    # Once a and b are full of movies without the rare genre, no exchange of one movie makes room for a rare one.
    hot = np.array([[1, 0, 0]] * 50 + [[0, 1, 0]] * 50 + [[1, 1, 1]] * 10, np.float32)
    examples = labels.Examples(np.arange(len(hot)), hot, ("a", "b", "rare"))
    chosen = labels.balance(examples, balance="cap", balance_limit=20, seed=seed)
    assert labels.genre_counts(hot[chosen], 3).tolist() == [20, 20, 10]
