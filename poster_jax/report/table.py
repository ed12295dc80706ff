"""A run's results as plain text for a terminal, at most 110 columns; no score is printed without its floor.

Columns that do not fit go to a further block below, which repeats the metric, its test value and its floor.
"""

from collections.abc import Mapping, Sequence

WIDTH = 110
GAP = "  "
MAX_GENRE_WIDTH = 20
NO_VALUE = "-"
LOWER_IS_BETTER = "calibration_error"

Column = list[str]  # the cells of one column, without its header


def results_table(results: Mapping) -> str:
    """The table of one run's results.json: test metrics beside floor, ceiling, baselines, other splits.

    results: {"title", "data": {"name", "genres"}, "splits": {"train" | "validation" | "test":
    metrics.score(...)}, "baselines": {name: {"test": metrics.score(...)}}, "num_seeds"}; only
    splits["test"] has to be there. Ends in a newline.
    """
    test = results["splits"]["test"]
    head = [results["title"], _data_line(results, test), "test value [95 % interval, bootstrap over movies]"]
    lines = [*head, "", *_metrics_block(results), *_notes(test), "", *_genre_block(test)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def seeds_table(results: Sequence[Mapping]) -> str:
    """Mean and range over seeds of every metric on the test split, beside the mean floor and ceiling.

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
        ("mean", [_mean(runs[metric], "value") for metric in metrics]),
        ("lowest", [_cell(min(_defined(runs[metric], "value"), default=None)) for metric in metrics]),
        ("highest", [_cell(max(_defined(runs[metric], "value"), default=None)) for metric in metrics]),
        ("mean floor", [_mean_floor(runs[metric]) for metric in metrics]),
        (
            "mean all_zeros",
            [_mean([entry["floors"] for entry in runs[metric]], "all_zeros") for metric in metrics],
        ),
        ("mean ceiling", [_mean(runs[metric], "ceiling") for metric in metrics]),
    ]
    data = f"data: {names.pop()}; test split; mean and range over {_counted(len(results), 'seed')}"
    lines = [
        results[0]["title"],
        data,
        "",
        *_block(columns, num_fixed=1),
        f"{LOWER_IS_BETTER}: lower is better",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def ablation_table(results: Mapping) -> str:
    """The table of an ablation's results.json: every cell's test metrics beside their floors, then what each setting does.

    results: {"title", "data": {"name"}, "ablation": `ablation_results.summarise`}. Ends in a newline.
    """
    ablation = results["ablation"]
    lines = [
        results["title"],
        f"data: {results['data']['name']}; {_counted(len(ablation['cells']), 'cell')} on the same {_rows_line(ablation)}",
        f"weights: the best {ablation['best_metric']} on validation, of {_counted(len(ablation['seeds']), 'seed')}",
        ablation_caption(ablation),
        "",
        *_block(ablation_columns(ablation), num_fixed=1 + len(ablation["axes"])),
        *ablation_notes(ablation),
        "",
        "mean over the cells that have the setting (floors as above)",
        "",
        *_block(effect_columns(ablation), num_fixed=2),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def ablation_caption(ablation: Mapping) -> str:
    """What the values of the table are."""
    spread = "95 % interval, bootstrap over movies"
    if len(ablation["seeds"]) > 1:
        spread = f"range over {_counted(len(ablation['seeds']), 'seed')}, which are averaged"
    return f"{ablation['part']} value [{spread}] / floor, the best constant answer on the same rows"


def ablation_columns(ablation: Mapping) -> list[tuple[str, Column]]:
    """(header, cells) of the table of cells, the axes in front."""
    cells = ablation["cells"]
    columns = [("cell", [str(row["cell"]) for row in cells])]
    columns += [(axis["name"], [_shortened(row["settings"][axis["name"]]) for row in cells]) for axis in ablation["axes"]]
    for name in cells[0]["metrics"]:
        entries = [row["metrics"][name] for row in cells]
        values = [f"{_with_interval(entry)} / {_cell(entry['best_floor'])}" for entry in entries]
        columns.append((f"{name} /floor", values))
    return columns


def effect_columns(ablation: Mapping) -> list[tuple[str, Column]]:
    """(header, cells) of the means over all cells with a setting, axis by axis."""
    effects = ablation["effects"]
    columns = [("axis", [row["axis"] for row in effects]), ("setting", [_shortened(row["setting"]) for row in effects])]
    columns.append(("cells", [f"{row['num_measured']} of {row['num_cells']}" for row in effects]))
    return columns + [(name, [_cell(row["means"][name]) for row in effects]) for name in effects[0]["means"]]


def ablation_notes(ablation: Mapping) -> list[str]:
    """Which constant answers the floors are, and the cells that diverged, one line each."""
    told = []
    for name in ablation["cells"][0]["metrics"]:
        entries = [row["metrics"][name] for row in ablation["cells"] if row["metrics"][name]["best_floor"] is not None]
        told.append(f"{name} {', '.join(sorted({_floor_name(entry) for entry in entries}))}")
    return [f"floors: {'; '.join(told)}"] + [
        f"cell {row['cell']} diverged from seed {seed['seed']}: scores that are not finite at step {seed['diverged_at']}"
        for row in ablation["cells"]
        for seed in row["seeds"]
        if seed["diverged_at"] is not None
    ]


def _rows_line(ablation: Mapping) -> str:
    measured = [row["num_rows"] for row in ablation["cells"] if row["num_rows"]]
    train = sorted({rows["train"] for rows in measured})
    told = f"{train[0]:,}" if len(train) == 1 else f"{train[0]:,} to {train[-1]:,}"
    return f"{measured[0]['validation']:,} validation and {measured[0]['test']:,} test rows; trained on {told}"


def _data_line(results: Mapping, test: Mapping) -> str:
    data = results["data"]
    rows, movies = _counted(test["num_rows"], "row"), _counted(test["num_movies"], "movie")
    return (
        f"data: {data['name']}; {_counted(len(data['genres']), 'genre')}; test: {rows} of {movies}, "
        f"{test['labels_per_row']:.2f} labels per row; {_counted(results['num_seeds'], 'seed')}"
    )


def _metrics_block(results: Mapping) -> list[str]:
    test = results["splits"]["test"]["metrics"]
    metrics = list(test)
    columns = [
        ("metric", metrics),
        ("test", [_with_interval(test[metric]) for metric in metrics]),
        ("floor", [_floor(test[metric]) for metric in metrics]),
        ("ceiling", [_cell(test[metric]["ceiling"]) for metric in metrics]),
    ]
    for name, splits in results["baselines"].items():
        columns.append((name, _values(splits["test"], metrics)))
    for split in ("validation", "train"):
        if split in results["splits"]:
            columns.append((f"{split} /floor", _values_and_floors(results["splits"][split], metrics)))
    return _block(columns, num_fixed=3)


def _notes(test: Mapping) -> list[str]:
    all_zeros = _cell(test["metrics"]["binary_accuracy"]["floors"]["all_zeros"])
    lines = [
        f'binary_accuracy of all_zeros, which answers "no" to every genre: {all_zeros}',
        f"{LOWER_IS_BETTER}: lower is better",
    ]
    for metric, entry in test["metrics"].items():
        if entry.get("num_skipped"):
            lines.append(f"{metric}: mean without {_counted(entry['num_skipped'], 'genre')} where it is undefined")
    return lines


def _genre_block(test: Mapping) -> list[str]:
    per_genre = test["per_genre"]
    entries = list(per_genre.values())
    columns = [
        ("genre", [_shortened(genre) for genre in per_genre]),
        ("count", [str(entry["count"]) for entry in entries]),
    ]
    plain_f1 = [name for name in entries[0] if name == "f1" or name.startswith("f1@")]
    for name in ("average_precision", "auc"):
        columns.append((name, [_with_interval(entry[name]) for entry in entries]))
        columns.append(("floor", [_cell(entry[name]["floor"]) for entry in entries]))
    for name in plain_f1:
        columns.append((name, [_cell(entry[name]["value"]) for entry in entries]))
    columns.append(("f1 floor", [_cell(entry["f1"]["floor"]) for entry in entries]))
    return _block(columns, num_fixed=2)


def _block(columns: Sequence[tuple[str, Column]], num_fixed: int) -> list[str]:
    """Lines of aligned columns; those that would pass WIDTH go below, behind the first num_fixed ones."""
    fixed = [_stacked(header, cells) for header, cells in columns[:num_fixed]]
    blocks, current = [], list(fixed)
    for header, cells in columns[num_fixed:]:
        column = _stacked(header, cells)
        if len(current) > num_fixed and sum(len(kept[0]) + len(GAP) for kept in current) + len(column[0]) > WIDTH:
            blocks.append(current)
            current = list(fixed)
        current.append(column)
    blocks.append(current)
    lines: list[str] = []
    for block in blocks:
        height = max(len(column) for column in block)
        raised = [[" " * len(column[0])] * (height - len(column)) + column for column in block]
        lines += ([""] if lines else []) + [GAP.join(row) for row in zip(*raised, strict=True)]
    return lines


def _stacked(header: str, cells: Column) -> Column:
    """Header and cells, padded; a header wider than its cells is broken at underscores and spaces."""
    width = max(map(len, cells), default=0)
    words = [header] if len(header) <= width else header.replace("_", " ").split()
    width = max(width, *map(len, words))
    return [text.ljust(width) for text in (*words, *cells)]


def _floor(entry: Mapping) -> str:
    if entry["best_floor"] is None:
        return NO_VALUE
    return f"{_cell(entry['best_floor'])} {_floor_name(entry)}"


def _floor_name(entry: Mapping) -> str:
    """The predictor that sets the floor, the first of several; "constant" where all are equal."""
    if len(set(entry["floors"].values())) == 1:
        return "constant"
    return next(name for name, value in entry["floors"].items() if value == entry["best_floor"])


def _mean_floor(entries: Sequence[Mapping]) -> str:
    names = {_floor_name(entry) for entry in entries if entry["best_floor"] is not None}
    mean = _mean(entries, "best_floor")
    return mean if not names else f"{mean} {names.pop() if len(names) == 1 else 'various'}"


def _values(split: Mapping, metrics: Sequence[str]) -> Column:
    """A metric that the split lacks (a baseline without tuned thresholds) is shown as having no value."""
    return [_cell(split["metrics"][metric]["value"]) if metric in split["metrics"] else NO_VALUE for metric in metrics]


def _values_and_floors(split: Mapping, metrics: Sequence[str]) -> Column:
    """A balanced training split has other floors than the test split, so each value of it carries its own."""
    entries = [split["metrics"][metric] for metric in metrics]
    return [f"{_cell(entry['value'])}/{_cell(entry['best_floor'])}" for entry in entries]


def _with_interval(entry: Mapping) -> str:
    if entry["value"] is None:
        return NO_VALUE
    if entry["low"] is None:
        return _cell(entry["value"])
    return f"{_cell(entry['value'])} [{_cell(entry['low'])}, {_cell(entry['high'])}]"


def _defined(entries: Sequence[Mapping], key: str) -> list[float]:
    return [entry[key] for entry in entries if entry[key] is not None]


def _mean(entries: Sequence[Mapping], key: str) -> str:
    defined = _defined(entries, key)
    return _cell(sum(defined) / len(defined)) if defined else NO_VALUE


def _cell(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.3f}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _shortened(genre: str) -> str:
    return genre if len(genre) <= MAX_GENRE_WIDTH else genre[: MAX_GENRE_WIDTH - 1] + "~"
