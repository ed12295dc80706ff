"""What a selection leaves out is told with its count, and the flags that it names take it in."""

import pathlib
import re

import numpy as np
import pandas as pd
import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import dataset, splits
from poster_jax.data.source import Source

ROOT = pathlib.Path(__file__).resolve().parents[2]
# War is never listed first; Comedy is the rarest.
TEXTS = ["Drama|War"] * 12 + ["Crime"] * 9 + ["Comedy"] * 6


def select(*overrides: tuple[str, str], split: tuple[str, ...] = ("",) * len(TEXTS)) -> dataset.Dataset:
    settings = [("data.balance", "none"), ("data.min_movies", "1"), ("data.num_genres", "2"), *overrides]
    data = config_lib.load(f"{ROOT}/configs/cnn_onehot.py:smoke", settings).data
    ids = np.arange(len(TEXTS))
    table = pd.DataFrame({"id": ids, "genres": TEXTS, "group": ids, "split": split})
    refused = pd.DataFrame({"id": [], "reason": [], "genres": [], "detail": []}, dtype=str)
    return dataset.select(Source("own posters", "", table, refused, {}, np.zeros((len(TEXTS), 8, 8, 3), np.uint8)), data)


def test_dropped_labels_are_told_with_flags_that_take_them_in() -> None:
    [told] = select().summary["notes"]
    assert told.startswith("2 of 4 labels kept; 6 of 27 posters have none of them: ")
    assert told in select().describe()
    flags = re.findall(r"--config\.(\S+)=(\S+)", told)
    assert ("data.num_genres", "4") in flags and len(flags) == 2
    assert select(*flags).summary["notes"] == []
    # The number alone would be refused: by first mention there are three.
    with pytest.raises(errors.UserError, match="there are 3 genres"):
        select(flags[0])


def test_given_genres_are_left_with_a_flag_too() -> None:
    [told] = select(("data.genres", "Drama,Comedy")).summary["notes"]
    flags = re.findall(r"--config\.(\S+)=(\S+)", told)
    assert flags[0] == ("data.genres", "()")
    assert select(("data.genres", "Drama,Comedy"), *flags).summary["notes"] == []


def test_rows_dropped_by_balancing_are_told() -> None:
    told = select(("data.balance", "equal")).summary["notes"]
    rows = sum(map(len, select(("data.balance", "equal")).parts.values()))
    assert f"balance equal keeps {rows} of 21 rows: --config.data.balance=none" in told and rows < 21


def test_a_given_part_that_the_labels_leave_empty_is_named_by_its_column() -> None:
    split = ("train",) * 14 + ("test",) * 7 + ("validation",) * 6
    assert len(select(("data.num_genres", "3"), split=split).parts["validation"]) == 6
    with pytest.raises(errors.UserError, match=r"the column split leaves validation empty \(train 14, .*take in more posters"):
        select(split=split)
    with pytest.raises(errors.UserError, match="the split leaves .* use more movies"):
        splits.stratified_split(np.array([0, 1]), np.arange(2), seed=0)
