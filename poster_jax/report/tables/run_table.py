"""A run's results as plain text for a terminal, at most 110 columns; every score has its floor beside it.

Columns that do not fit go to a further block below, which repeats the metric, its test value and its floor.
"""

import textwrap
from collections.abc import Mapping, Sequence

from poster_jax.metrics import definitions
from poster_jax.report.tables import cells


def results_table(results: Mapping) -> str:
    """The table of one run's results.json: test metrics beside floor, ceiling, baselines, other splits.

    results: {"title", "data": {"name", "genres"}, "splits": {"train" | "validation" | "test":
    metrics.score(...)}, "baselines": {name: {"test": metrics.score(...)}}, "num_seeds"}; only
    splits["test"] has to be there, and "num_seeds" may be missing. Ends in a newline.
    """
    test = results["splits"]["test"]
    head = [results["title"], _data_line(results, test), "test value [95 % interval, bootstrap over movies]"]
    lines = [*head, "", *_metrics_block(results), *_notes(test), "", *_genre_block(test), *_calibration_block(results)]
    lines += ["", cells.verdict([test])]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def seeds_table(results: Sequence[Mapping], mean_of_scores: Mapping | None = None) -> str:
    """Mean and range over seeds of every metric on the test split, beside the mean floor and ceiling.

    mean_of_scores: {"splits"} of the mean of the seeds' scores, which gets a column of its own.

    results: the results of each seed, as for `results_table`. Raises ValueError for none, for runs on data
    of different names, or for runs with different metrics.
    """
    if not results:
        raise ValueError("seeds_table needs the results of at least one seed")
    names = {run["data"]["name"] for run in results}
    tests = [run["splits"]["test"]["metrics"] for run in results]
    if len(names) > 1:
        raise ValueError(f"seeds of one table must share their data, these have {sorted(names)}")
    if any(list(test) != list(tests[0]) for test in tests):
        raise ValueError("seeds of one table must have the same metrics")
    metrics = list(tests[0])
    runs = {metric: [test[metric] for test in tests] for metric in metrics}
    columns = [
        ("metric", metrics),
        ("mean", [cells.mean(runs[metric], "value") for metric in metrics]),
        ("lowest", [cells.number(min(cells.defined(runs[metric], "value"), default=None)) for metric in metrics]),
        ("highest", [cells.number(max(cells.defined(runs[metric], "value"), default=None)) for metric in metrics]),
        ("mean floor", [cells.mean(runs[metric], "best_floor") for metric in metrics]),
        ("mean chance", [cells.mean(runs[metric], "chance") for metric in metrics]),
        ("mean all_zeros", [cells.mean(runs[metric], "all_zeros") for metric in metrics]),
        ("mean ceiling", [cells.mean(runs[metric], "ceiling") for metric in metrics]),
    ]
    if mean_of_scores is not None:
        together = mean_of_scores["splits"]["test"]["metrics"]
        columns.insert(4, ("mean of scores [95 % interval]", [cells.value(together[metric]) for metric in metrics]))
    data = f"data: {names.pop()}; test split; mean and range over {cells.counted(len(results), 'seed')}"
    lines = [
        results[0]["title"],
        data,
        "",
        *cells.block(columns, num_fixed=1),
        cells.REFERENCES_NOTE,
        cells.LOWER_NOTE,
        "",
        cells.verdict([run["splits"]["test"] for run in results]),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _data_line(results: Mapping, test: Mapping) -> str:
    data = results["data"]
    rows, movies = cells.counted(test["num_rows"], "row"), cells.counted(test["num_movies"], "movie")
    # The predictions of others do not say.
    seeds = f"; {cells.counted(results['num_seeds'], 'seed')}" if "num_seeds" in results else ""
    return (
        f"data: {data['name']}; {cells.counted(len(data['genres']), 'genre')}; test: {rows} of {movies}, "
        f"{test['labels_per_row']:.2f} labels per row{seeds}"
    )


def _metrics_block(results: Mapping) -> list[str]:
    test = results["splits"]["test"]["metrics"]
    metrics = list(test)
    columns = [
        ("metric", metrics),
        ("test", [cells.value(test[metric]) for metric in metrics]),
        ("floor", [cells.number(test[metric]["best_floor"]) for metric in metrics]),
        ("chance", [cells.number(test[metric].get("chance")) for metric in metrics]),
        ("ceiling", [cells.number(test[metric]["ceiling"]) for metric in metrics]),
    ]
    for name, splits in results["baselines"].items():
        columns.append((name, cells.values(splits["test"], metrics)))
    for split in ("validation", "train"):
        if split in results["splits"]:
            columns.append((f"{split} /floor", cells.values_and_floors(results["splits"][split], metrics)))
    return cells.block(columns, num_fixed=4)


def _notes(test: Mapping) -> list[str]:
    all_zeros = cells.number(test["metrics"]["binary_accuracy"]["all_zeros"])
    lines = [
        cells.REFERENCES_NOTE,
        f'binary_accuracy of all_zeros, which answers "no" to every genre: {all_zeros}',
        cells.LOWER_NOTE,
    ]
    for metric, entry in test["metrics"].items():
        if entry.get("num_skipped"):
            lines.append(f"{metric}: mean without {cells.counted(entry['num_skipped'], 'genre')} where it is undefined")
    return lines


def calibration_columns(found: Mapping) -> list[tuple[str, cells.Column]]:
    """results["calibration"] as columns: every metric of the test part before and after."""
    told = found["test"]
    return [
        ("metric", list(told)),
        ("before", [cells.number(entry["before"]) for entry in told.values()]),
        ("after", [cells.number(entry["after"]) for entry in told.values()]),
        ("difference, paired", [cells.value(entry["difference"], "+.3f") for entry in told.values()]),
    ]


def calibration_caption(found: Mapping) -> str:
    """The temperatures in a sentence."""
    own = [f"{genre} {value:.2f}" for genre, value in found["temperatures"].items() if genre in found["own"]]
    return (
        f"Calibrated on validation: temperature {found['temperature']:.2f}"
        f"{', of its own for ' if own else ''}{', '.join(own)}; thresholds are chosen after it"
    )


def _calibration_block(results: Mapping) -> list[str]:
    if "calibration" not in results:
        return []
    caption = calibration_caption(results["calibration"])
    return ["", *textwrap.wrap(caption, cells.WIDTH), *cells.block(calibration_columns(results["calibration"]), num_fixed=4)]


def _genre_block(test: Mapping) -> list[str]:
    per_genre = test["per_genre"]
    entries = list(per_genre.values())
    columns = [
        ("genre", [cells.shortened(genre) for genre in per_genre]),
        ("count", [str(entry["count"]) for entry in entries]),
    ]
    plain_f1 = [name for name in entries[0] if name == "f1" or name.startswith("f1@")]
    for name in ("average_precision", "auc"):
        columns.append((name, [cells.value(entry[name]) for entry in entries]))
        columns.append(("floor", [cells.number(entry[name]["floor"]) for entry in entries]))
        if name in definitions.RANKED:
            columns.append(("chance", [cells.number(entry[name]["chance"]) for entry in entries]))
            columns.append(("p", [cells.p_value(entry[name]) for entry in entries]))
    for name in plain_f1:
        columns.append((name, [cells.number(entry[name]["value"]) for entry in entries]))
    columns.append(("f1 floor", [cells.number(entry["f1"]["floor"]) for entry in entries]))
    return cells.block(columns, num_fixed=2)
