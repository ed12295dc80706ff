"""The report's tables as rows of text; every score has its floor beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.data import splits
from poster_jax.metrics import definitions
from poster_jax.report import runs as runs_lib
from poster_jax.report.blocks import Table
from poster_jax.report.tables import cells

PARTS = splits.PARTS[::-1]  # what counts most first
NUM_EXAMPLES = 3  # as many rows as the paper's Table 5
NUM_GENRES_SHOWN = 5
# The baseline that sees colours alone.
COLOURS = "color_histogram_logistic"


def side_by_side(runs: Sequence[runs_lib.FinishedRun]) -> Table:
    """Test metrics of several runs, each value with its interval and its own floor."""
    tests = [run.results["splits"]["test"]["metrics"] for run in runs]
    names = list(dict.fromkeys(name for test in tests for name in test))
    rows = []
    for name in names:
        row = [
            f"{cells.value(test[name])} / {cells.number(test[name]['best_floor'])}" if name in test else cells.NO_VALUE
            for test in tests
        ]
        rows.append([cells.direction(name), *row])
    mean_ap = [test["mean_average_precision"] for test in tests]
    rows.append(["chance, mean_average_precision", *(cells.number(entry["chance"]) for entry in mean_ap)])
    rows.append(["p, mean_average_precision", *(cells.p_value(entry) for entry in mean_ap)])
    caption = (
        "Test value [95 % interval, bootstrap over movies] / floor, the best constant answer on the same rows. Chance is the "
        "mean when labels are permuted over movies, p the share of permutations that reach the value."
    )
    return Table(caption, ["metric", *(run.name for run in runs)], rows)


def mean_of_scores(together: Mapping[str, Any], num_seeds: int) -> Table:
    """{"splits"} of the mean of the scores of several seeds: its test metrics beside their floors."""
    rows = [
        [cells.direction(name), cells.value(entry), cells.number(entry["best_floor"]), cells.number(entry.get("chance"))]
        for name, entry in together["splits"]["test"]["metrics"].items()
    ]
    caption = (
        f"The {num_seeds} networks as one, each poster with the mean of their scores: test value [95 % interval, bootstrap "
        "over movies]. This is what predict answers with for the whole run."
    )
    return Table(caption, ["metric", "mean of scores", "floor", "chance"], rows)


def test_scores(run: runs_lib.FinishedRun) -> Table:
    """The test part in four columns: value, floor, chance and colours."""
    colours = run.results["baselines"].get(COLOURS)
    rows = []
    for name, entry in run.results["splits"]["test"]["metrics"].items():
        row = [cells.direction(name), cells.value(entry), cells.number(entry["best_floor"]), cells.number(entry.get("chance"))]
        rows.append([*row, *cells.values(colours["test"], [name])] if colours else row)
    caption = (
        "Test value [95 % interval, bootstrap over movies] beside the best constant answer on the same rows, the mean when "
        "labels are permuted over movies, and logistic regression on colours. Binary accuracy counts every genre of every "
        'poster, so "no" to everything scores high.'
    )
    return Table(caption, ["metric", "test", "floor", "chance", *(["colours"] if colours else [])], rows)


def settings(changed: Mapping[str, str]) -> Table:
    """Settings that are not at their default."""
    return Table("", ["setting", "value"], list(map(list, changed.items())))


def metrics(run: runs_lib.FinishedRun) -> Table:
    """Every metric of every part with floor and ceiling, and of the baselines on the test part."""
    measured, baselines = run.results["splits"], run.results["baselines"]
    header = ["metric"]
    for part in PARTS:
        header += [part, f"{part} floor", f"{part} chance", f"{part} ceiling"]
    header += [name.replace("_", " ") for name in baselines]
    rows = []
    for name in measured["test"]["metrics"]:
        row = [cells.direction(name)]
        for part in PARTS:
            entry = measured[part]["metrics"][name]
            row += [cells.value(entry), *(cells.number(entry.get(key)) for key in ("best_floor", "chance", "ceiling"))]
        rows.append([*row, *(cells.value(each["test"]["metrics"][name]) for each in baselines.values())])
    caption = (
        "All metrics with 95 % intervals (bootstrap over movies), the best constant answer on the same rows, the mean when "
        "labels are permuted over movies, and the best that the labels allow. @tuned: at the threshold of each genre chosen on "
        "validation; else at 0.5. Baselines: test part."
    )
    return Table(caption, header, rows)


def per_genre(run: runs_lib.FinishedRun) -> Table:
    """Ranking and yes/no answers of every genre on the test part."""
    names = ("average_precision", "auc", "f1", "f1@tuned")
    header = ["genre", "posters"]
    for name in names:
        header += [name, "floor", *(["chance", "p"] if name in definitions.RANKED else [])]
    header += ["precision@tuned", "recall@tuned", "threshold@tuned"]
    rows = []
    for genre, entry in run.results["splits"]["test"]["per_genre"].items():
        row = [genre, f"{entry['count']:,}"]
        for name in names:
            row += [cells.value(entry[name]), cells.number(entry[name]["floor"])]
            row += [cells.number(entry[name]["chance"]), cells.p_value(entry[name])] if name in definitions.RANKED else []
        rows.append([*row, *(cells.number(entry[f"{name}@tuned"]) for name in ("precision", "recall", "threshold"))])
    return Table("Test part by genre", header, rows)


def encoding(run: runs_lib.FinishedRun) -> Table:
    """Each genre as an integer and as one-hot (the paper's Figure 4 and Table 5)."""
    names = run.genres
    rows = [[genre, str(k), *(str(int(k == other)) for other in range(len(names)))] for k, genre in enumerate(names)]
    return Table("Each genre as an integer and as a one-hot row", ["genre", "integer", *names], rows)


def examples(run: runs_lib.FinishedRun) -> Table:
    """Labels of the first posters of the test part, as this run was trained on them."""
    ids = run.predictions["test_id"][:NUM_EXAMPLES]
    rows = [[str(number_), *(str(int(has)) for has in row)] for number_, row in zip(ids, run.targets("test"), strict=False)]
    kind = run.results["data"]["encoding"].replace("_", "-")
    return Table(f"The first labels of the test part ({kind})", ["poster", *run.genres], rows)


def refused(run: runs_lib.FinishedRun) -> Table:
    """Rows of the catalog that were not used, by reason, and the genres they list."""
    rows = []
    for reason, refusals in run.refused.items():
        first, others = list(refusals.genres.items())[:NUM_GENRES_SHOWN], list(refusals.genres.values())[NUM_GENRES_SHOWN:]
        counts = [f"{genre} {count:,}" for genre, count in first] + [f"others {sum(others):,}"] * any(others)
        rows.append([reason.replace("_", " "), f"{refusals.num_rows:,}", ", ".join(counts) or cells.NO_VALUE])
    return Table("Rows of the catalog that were refused", ["reason", "rows", "genres they list"], rows)
