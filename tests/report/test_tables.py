"""Golden text of the tables, and what they must never leave out."""

import copy

import pytest

from poster_jax.report.tables import cells, run_table


def entry(value, low, high, floor, ceiling, **more):
    zeros, best = floor if isinstance(floor, tuple) else (floor, floor)
    return {
        "value": value, "low": low, "high": high, "all_zeros": zeros, "best_floor": best, "ceiling": ceiling, **more,
    }  # fmt: skip


def genre(count, prevalence, average_precision, auc, f1):
    ranked = {"value": average_precision, "low": 0.1, "high": 0.95, "floor": prevalence, "chance": 0.26, "p_value": 0.0005}
    return {
        "count": count,
        "prevalence": prevalence,
        "average_precision": ranked,
        "auc": {"value": auc, "low": 0.55, "high": 0.85, "floor": 0.5},
        "f1": {"value": f1, "low": 0.0, "high": 0.5, "floor": 0.4},
        "f1@tuned": {"value": 0.45, "low": 0.3, "high": 0.6, "floor": 0.4},
    }


def split(binary=0.85):
    nothing = {"value": None, "low": None, "high": None, "floor": None}
    return {
        "num_rows": 1606,
        "num_movies": 1200,
        "labels_per_row": 1.0,
        "metrics": {
            "binary_accuracy": entry(binary, 0.84, 0.86, (0.8333, 0.8444), 0.91),
            "top1_accuracy": entry(0.4, 0.38, 0.42, (0.1667, 0.25), 0.7471, chance=0.17),
            "macro_f1@tuned": entry(0.3, None, None, (0.0, 0.28), 1.0, num_skipped=1),
            "mean_average_precision": entry(0.5, 0.45, 0.55, 0.1667, 1.0, chance=0.1712, p_value=0.0005, num_skipped=0),
            "macro_auc": entry(None, None, None, None, None, num_skipped=2),
            "calibration_error": entry(0.05, 0.04, 0.06, (0.16, 0.0), 0.0),
        },
        "per_genre": {
            "Drama": genre(400, 0.25, 0.5, 0.7, 0.2),
            "Western": genre(0, 0.0, None, None, None)
            | {"average_precision": nothing | {"chance": None, "p_value": None}, "auc": nothing, "f1": nothing},
        },
    }


@pytest.fixture
def results():
    baseline = split(0.84)
    del baseline["metrics"]["macro_f1@tuned"]
    return {
        "title": "two-layer CNN, first genre",
        "data": {"name": "synthetic posters", "genres": ["Drama", "Western"]},
        "splits": {"train": split(0.95), "validation": split(0.86), "test": split()},
        "baselines": {"color_histogram_logistic": {"test": baseline}},
        "num_seeds": 1,
    }


RESULTS = """\
two-layer CNN, first genre
data: synthetic posters; 2 genres; test: 1,606 rows of 1,200 movies, 1.00 labels per row; 1 seed
test value [95 % interval, bootstrap over movies]

                                                                      color
                                                                      histogram  validation   train
metric                  test                  floor  chance  ceiling  logistic   /floor       /floor
binary_accuracy         0.850 [0.840, 0.860]  0.844  -       0.910    0.840      0.860/0.844  0.950/0.844
top1_accuracy           0.400 [0.380, 0.420]  0.250  0.170   0.747    0.400      0.400/0.250  0.400/0.250
macro_f1@tuned          0.300                 0.280  -       1.000    -          0.300/0.280  0.300/0.280
mean_average_precision  0.500 [0.450, 0.550]  0.167  0.171   1.000    0.500      0.500/0.167  0.500/0.167
macro_auc               -                     -      -       -        -          -/-          -/-
calibration_error       0.050 [0.040, 0.060]  0.000  -       0.000    0.050      0.050/0.000  0.050/0.000
floor: the best constant answer on the same rows; chance: the mean when labels are permuted over movies
binary_accuracy of all_zeros, which answers "no" to every genre: 0.833
calibration_error: lower is better
macro_f1@tuned: mean without 1 genre where it is undefined
macro_auc: mean without 2 genres where it is undefined

genre    count  average_precision     floor  chance  p       auc                   floor  f1     f1@tuned
Drama    400    0.500 [0.100, 0.950]  0.250  0.260   0.0005  0.700 [0.550, 0.850]  0.500  0.200  0.450
Western  0      -                     -      -       -       -                     -      -      0.450

                f1
genre    count  floor
Drama    400    0.400
Western  0      -

mean_average_precision 0.500, chance 0.171: better than a constant answer (p = 0.0005)
"""

SEEDS = """\
two-layer CNN, first genre
data: synthetic posters; test split; mean and range over 2 seeds

                                                               mean
                                                mean   mean    all    mean
metric                  mean   lowest  highest  floor  chance  zeros  ceiling
binary_accuracy         0.860  0.850   0.870    0.844  -       0.833  0.910
top1_accuracy           0.400  0.400   0.400    0.255  0.170   0.167  0.747
macro_f1@tuned          0.300  0.300   0.300    0.280  -       0.000  1.000
mean_average_precision  0.500  0.500   0.500    0.167  0.171   0.167  1.000
macro_auc               -      -       -        -      -       -      -
calibration_error       0.050  0.050   0.050    0.000  -       0.160  0.000
floor: the best constant answer on the same rows; chance: the mean when labels are permuted over movies
calibration_error: lower is better

mean_average_precision 0.500, chance 0.171: better than a constant answer (largest of 2 p = 0.0005)
"""


def test_results_table_golden(results):
    assert run_table.results_table(results) == RESULTS


def test_seeds_table_golden(results):
    other = copy.deepcopy(results)
    other["splits"]["test"] = split(0.87)
    other["splits"]["test"]["metrics"]["top1_accuracy"]["best_floor"] = 0.26
    assert run_table.seeds_table([results, other]) == SEEDS


def test_columns_that_do_not_fit_go_below_with_the_floor(results):
    for name in ("pixel_nearest_neighbour", "gradient_histogram_forest"):
        results["baselines"][name] = results["baselines"]["color_histogram_logistic"]
    results["splits"]["test"]["per_genre"]["A genre with far too long a name"] = genre(1, 0.1, 0.2, 0.6, 0.3)
    text = run_table.results_table(results)
    assert max(map(len, text.splitlines())) <= 110
    rows = [line for line in text.splitlines() if line.startswith("top1_accuracy")]
    assert len(rows) == 2 and all("0.400 [0.380, 0.420]  0.250  0.170" in row for row in rows)
    assert sum(row.count("0.400/0.250") for row in rows) == 2  # validation and train, each with its floor
    assert "A genre with far to~  1 " in text


def test_a_run_with_only_a_test_split(results):
    results["splits"] = {"test": results["splits"]["test"]}
    results["baselines"] = {}
    results["data"]["name"] = "Kaggle posters"
    results["num_seeds"] = 5
    text = run_table.results_table(results)
    assert "validation" not in text and "train" not in text
    assert "data: Kaggle posters; 2 genres; test: 1,606 rows of 1,200 movies, 1.00 labels per row; 5 seeds" in text
    assert "0.850 [0.840, 0.860]  0.844  -       0.910" in text


def test_seeds_refusals(results):
    with pytest.raises(ValueError, match="at least one seed"):
        run_table.seeds_table([])
    real = copy.deepcopy(results)
    real["data"]["name"] = "Kaggle posters"
    with pytest.raises(ValueError, match="Kaggle posters"):
        run_table.seeds_table([results, real])
    fewer = copy.deepcopy(results)
    del fewer["splits"]["test"]["metrics"]["macro_auc"]
    with pytest.raises(ValueError, match="the same metrics"):
        run_table.seeds_table([results, fewer])


def test_scores_and_intervals_as_text():
    entry = {"value": 0.12345, "low": -0.1, "high": 0.5}
    assert cells.number(None) == cells.NO_VALUE and cells.number(0.5) == "0.500" and cells.number(0.5, "+.1f") == "+0.5"
    assert cells.value(entry) == "0.123 [-0.100, 0.500]" and cells.value(entry, "+.2f") == "+0.12 [-0.10, +0.50]"
    assert cells.value({**entry, "low": None}) == "0.123" and cells.value({**entry, "value": None}) == cells.NO_VALUE
    assert cells.interval(0.25, 1) == "[0.250, 1.000]"
    sizes = [None, 0.0, 0.0001234, 0.5, 2.25, 1234.5]
    assert [cells.rounded(value) for value in sizes] == [cells.NO_VALUE, "0.000", "0.00012", "0.500", "2.2", "1,234"]
    assert cells.aligned(["a", "long"], [["123", "4"]]) == ["  a  long", "123     4"]
