"""Splits: genres in proportion, groups together, parts disjoint, and every refusal."""

import pathlib

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.data import listing, splits


def movies(seed: int = 0, num_movies: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Exploded rows of movies with one to three of five genres, the last one rare: label and group."""
    rng = np.random.default_rng(seed)
    label, groups = [], []
    for movie in range(num_movies):
        for genre in rng.choice(5, rng.integers(1, 4), replace=False, p=[0.4, 0.3, 0.2, 0.08, 0.02]):
            label.append(genre)
            groups.append(movie * 7 + 3)
    return np.array(label, np.int32), np.array(groups, np.int64)


def multi_hot(seed: int = 0, num_movies: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((num_movies, 5)) < [0.5, 0.3, 0.2, 0.1, 0.02]).astype(np.float32)


def worst_share(hot: np.ndarray, parts) -> float:
    """Largest relative error of a genre's share in any part."""
    overall = hot.mean(axis=0)
    return max(float(np.abs(hot[rows].mean(axis=0) / overall - 1).max()) for rows in parts)


def assert_partition(parts, rows) -> None:
    parts = list(parts)
    assert all((np.diff(part) > 0).all() and part.dtype == np.int64 for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(rows))


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.8, 0.15, 0.05)])
@pytest.mark.parametrize("kind", ["int", "multi_hot"])
def test_genres_are_in_proportion_and_groups_whole(kind, fractions):
    label, groups = movies() if kind == "int" else (multi_hot(), np.arange(2000) // 2)
    hot = np.eye(5)[label] if kind == "int" else label
    split = splits.stratified_split(label, groups, fractions=fractions, seed=1)
    assert list(split) == ["train", "validation", "test"]
    assert_partition(split.values(), np.arange(len(label)))
    for rows, fraction in zip(split.values(), fractions, strict=True):
        assert abs(len(rows) / len(label) - fraction) < 0.01
    for name, other in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert not np.intersect1d(groups[split[name]], groups[split[other]]).size
    order = np.random.default_rng(0).permutation(len(label))
    cuts = (np.cumsum(fractions)[:2] * len(label)).astype(int)
    assert worst_share(hot, split.values()) < 0.5 * worst_share(hot, np.split(order, cuts))


def test_rare_genre_is_dealt_out_by_the_fractions():
    label = np.array([0] * 90 + [1] * 10, np.int32)
    split = splits.stratified_split(label, np.arange(100), fractions=(0.6, 0.2, 0.2), seed=5)
    assert [int((label[rows] == 1).sum()) for rows in split.values()] == [6, 2, 2]
    assert [len(rows) for rows in split.values()] == [60, 20, 20]


def test_rows_without_any_genre_are_shared_out_too():
    label = np.zeros((100, 2), np.float32)
    split = splits.stratified_split(label, np.arange(100), fractions=(0.6, 0.2, 0.2), seed=0)
    assert [len(rows) for rows in split.values()] == [60, 20, 20]


def test_a_split_depends_on_the_seed_alone():
    label, groups = movies(num_movies=100)
    one, same, other = (splits.stratified_split(label, groups, fractions=(0.6, 0.2, 0.2), seed=seed) for seed in (0, 0, 1))
    assert all((one[name] == same[name]).all() for name in splits.PARTS)
    assert one["test"].tolist() != other["test"].tolist()


def test_leaks_are_counted_with_and_without_groups():
    label, groups = movies()
    options = {"fractions": (0.6, 0.2, 0.2), "seed": 0}
    whole = splits.stratified_split(label, groups, **options)
    assert splits.count_leaks(groups, whole) == {"validation": 0, "test": 0}
    torn = splits.stratified_split(label, groups, grouped=False, **options)
    # A row shares its movie with one other row on average, which is in train with probability 3/5.
    assert all(0.3 * len(torn[name]) < leaks for name, leaks in splits.count_leaks(groups, torn).items())
    by_hand = {"train": np.array([0, 1]), "validation": np.array([2, 3]), "test": np.array([4])}
    assert splits.count_leaks(np.array([7, 8, 7, 7, 9]), by_hand) == {"validation": 2, "test": 0}


def test_given_split():
    split = splits.given_split(["test", "train", "validation", "train"])
    assert {name: rows.tolist() for name, rows in split.items()} == {
        "train": [1, 3],
        "validation": [2],
        "test": [0],
    }


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["train", "", "test", ""], "2 of 4 rows have no word in the column split; give every row one of"),
        (["train", "val", "test"], "split 'val' is unknown"),
        (["train", "train", "test"], r"leaves validation empty \(train 2, validation 0, test 1 rows\)"),
    ],
)
def test_given_split_refusals(column, message):
    with pytest.raises(errors.UserError, match=message):
        splits.given_split(column)


@pytest.mark.parametrize("fractions", [(0.6, 0.2), (0.6, 0.3, 0.2), (0.8, 0.2, 0.0)])
def test_fractions_must_be_three_that_sum_to_one(fractions):
    with pytest.raises(errors.UserError, match="must be three above 0 that sum to 1"):
        splits.stratified_split(np.zeros(10, np.int32), np.arange(10), fractions=fractions, seed=0)


def test_an_empty_part_is_refused():
    with pytest.raises(errors.UserError, match="leaves .* empty"):
        splits.stratified_split(np.zeros(10, np.int32), np.zeros(10), fractions=(0.6, 0.2, 0.2), seed=0)


def test_k_folds_partition_the_given_rows_only():
    label, groups = movies()
    split = splits.stratified_split(label, groups, fractions=(0.6, 0.2, 0.2), seed=0)
    rows = np.concatenate([split["train"], split["validation"]])
    folds = splits.k_folds(label, groups, rows, num_folds=5, seed=0)
    assert_partition([validation for _, validation in folds], rows)
    for train, validation in folds:
        assert_partition([train, validation], rows)
        assert not np.intersect1d(groups[train], groups[validation]).size
        assert not np.intersect1d(validation, split["test"]).size
        assert abs(len(validation) / len(rows) - 0.2) < 0.005
    hot = np.eye(5)[label]
    assert worst_share(hot, [validation for _, validation in folds]) < 0.12


@pytest.mark.parametrize("seed", range(5))
def test_folds_of_equal_wish_are_filled_by_room(seed):
    label = np.array([1] * 4 + [0] * 20, np.int32)  # one fold gets two of genre 1, so one less of genre 0
    folds = splits.k_folds(label, np.arange(24), np.arange(24), num_folds=3, seed=seed)
    assert [len(validation) for _, validation in folds] == [8, 8, 8]


def test_k_folds_refusals():
    label = np.array([0] * 20 + [1] * 6, np.int32)
    groups = np.concatenate([np.arange(20), 20 + np.arange(6) // 2])  # the rarer genre: six rows of three movies
    assert len(splits.k_folds(label, groups, np.arange(26), num_folds=3, seed=0)) == 3
    with pytest.raises(errors.UserError, match=r"num_folds is 4, but genre 1 \(counted from 0\) has 3 movies"):
        splits.k_folds(label, groups, np.arange(26), num_folds=4, seed=0)
    with pytest.raises(errors.UserError, match="num_folds is 1; a cross-validation needs at least 2"):
        splits.k_folds(label, groups, np.arange(26), num_folds=1, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_genre_inside_a_common_one_is_dealt_out_first(seed):
    # If they were assigned as movies of the common genre, the rare ones would be spread by chance.
    label = np.array([[1, 0]] * 90 + [[1, 1]] * 10, np.float32)
    split = splits.stratified_split(label, np.arange(100), fractions=(0.6, 0.2, 0.2), seed=seed)
    assert [label[rows].sum(axis=0).tolist() for rows in split.values()] == [[60, 6], [20, 2], [20, 2]]
    folds = splits.k_folds(label, np.arange(100), np.arange(100), num_folds=5, seed=seed)
    assert [label[validation].sum(axis=0).tolist() for _, validation in folds] == [[20, 2]] * 5


def test_a_movie_in_two_given_parts_is_told_by_its_columns(tmp_path: pathlib.Path) -> None:
    rows = [("a", "train", "x"), ("b", "validation", "y"), ("c", "test", "x")]
    text = "path,genres,split,movie\n" + "".join(f"{name}.jpg,Drama,{part},{movie}\n" for name, part, movie in rows)
    (tmp_path / "own.csv").write_text(text)
    notes = listing.read_csv(tmp_path / "own.csv").notes
    assert any("LEAK: the column split puts 1 movies of the column movie into two parts: x" in note for note in notes)
