"""The text of a search, from a summary written by hand."""

from poster_jax.report.tables import search_table


def row(number: int, folds: list[float | None], epochs: int = 2, mean: float | None = 0.3) -> dict:
    curve = [0.2, 0.3][:epochs]
    return {
        "trial": number,
        "learning_rate": 0.00180133,
        "dropout": 0.41,
        "filters_1": 10,
        "filters_2": 30,
        "units_1": 106,
        "epochs": epochs,
        "folds": folds,
        "mean": mean,
        "deviation": None if mean is None else 0.014,
        "low": None if mean is None else 0.25,
        "high": None if mean is None else 0.35,
        "curves": {"train": curve, "validation": curve},
    }


SEARCH = {
    "metric": "top1_accuracy",
    "num_folds": 4,
    "num_rows": {"train": 1432, "validation": 477},
    "floor": 1 / 6,
    "trials": [row(1, [0.29, 0.31, 0.3, 0.3]), row(2, [None] * 4, mean=None), row(3, [0.2] * 4, epochs=1, mean=0.2)],
    "ranking": [1, 2, 3],
    "winner": 1,
    "comparisons": [{"other": 4, "difference": 0.1, "low": 0.05, "high": 0.15, "apart": True}]
    + [{"other": other, "difference": 0.01, "low": -0.2, "high": 0.22, "apart": False} for other in (5, 6)],
}


def test_every_number_has_its_place_and_its_floor() -> None:
    lines = search_table.search_table(SEARCH).splitlines()
    assert lines[0].startswith("3 trials, best first: validation top1_accuracy after the last epoch, 4 folds of")
    assert "1,432 + 477 rows" in lines[1] and "0.167" in lines[2]
    cells = [line.split() for line in lines if line.strip().startswith(("1 ", "2 ", "3 "))]
    first = [row for row in cells if row[0] == "1"]
    assert [*first[0], *first[1][1:]] == "1 0.001801 0.41 10-30-106 2 0.290 0.310 0.300 0.300 0.300 0.014 0.050".split()
    assert next(row for row in cells if row[0] == "2")[5:] == ["-"] * 5
    assert max(map(len, lines)) <= 80


def test_many_epochs_and_folds_go_below() -> None:
    long = row(1, [0.29, 0.31, 0.3, 0.3], epochs=15)
    long["curves"] = {"train": [0.25] * 15, "validation": [0.25] * 15}
    long["folds"] = [0.3] * 10
    text = search_table.search_table({**SEARCH, "trials": [long], "ranking": [1], "comparisons": [], "num_folds": 10})
    assert text.count(".250") == 30 and "fold" in text and text.count("0.300") >= 11
    assert max(map(len, text.splitlines())) <= 80


def test_what_is_alike_apart_diverged_or_dropped_is_said() -> None:
    text = search_table.search_table(SEARCH)
    assert "trial 1 cannot be told apart from trials 5, 6\n" in text
    assert "trial 1 is better than trial 4 (Nadeau and Bengio, Bonferroni for all 6 pairs)" in " ".join(text.split())
    assert "diverged on some fold: trial 2" in text
    assert "dropped by halving, and compared with nothing: trial 3" in text


def test_a_curve_ends_where_its_trial_ended() -> None:
    block = search_table.search_table(SEARCH).split("all in inference mode")[1]
    assert [line.split() for line in block.splitlines() if line.strip().startswith("3")] == [
        ["3", "validation", ".200"],
        ["3", "train", ".200"],
    ]


def test_a_single_trial_is_compared_with_nothing() -> None:
    alone = {**SEARCH, "trials": SEARCH["trials"][:1], "ranking": [1], "comparisons": []}
    assert "a single trial: nothing to compare" in search_table.search_table(alone)
