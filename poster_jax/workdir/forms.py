"""The form of `results.json` by protocol: what tables, figures, model cards and the paper's claims rely on, and no more.

Results of older versions have the floors of several constant answers and lack chance; both generations are accepted.
"""

from collections.abc import Mapping
from typing import Any

from poster_jax.metrics import calibration, scoring
from poster_jax.workdir.checks import ANYTHING, COUNT, FLAG, NUMBER, SHARE, TEXT, WORDS, Each, Kind, Many, Maybe, check, require

PARTS = ("train", "validation", "test")
NAMES = scoring.headline_names(("", "@tuned"))
MAP = "mean_average_precision"

VALUE = dict.fromkeys(("value", "low", "high"), Maybe(SHARE))
METRIC = {
    **VALUE,
    "best_floor": Maybe(SHARE),
    "ceiling": Maybe(SHARE),
    "floors?": Each(Maybe(SHARE)),
    "all_zeros?": Maybe(SHARE),
    "chance?": Maybe(SHARE),
    "p_value?": Maybe(SHARE),
    "num_skipped?": COUNT,
}
OF_GENRE = {**VALUE, "floor": Maybe(SHARE), "chance?": Maybe(SHARE), "p_value?": Maybe(SHARE)}
GENRE = {
    "count": COUNT,
    **dict.fromkeys(("average_precision", "auc", "f1", "f1@tuned"), OF_GENRE),
    "precision@tuned": Maybe(SHARE),
    "recall@tuned": Maybe(SHARE),
    "threshold@tuned": SHARE,
}
SPLIT = {
    "num_rows": COUNT,
    "num_movies": COUNT,
    "labels_per_row": NUMBER,
    "num_constant?": COUNT,
    "metrics": dict.fromkeys(NAMES, METRIC),
    "per_genre": Each(GENRE),
}
SPLITS = dict.fromkeys(PARTS, SPLIT)
DATA = {
    "name": TEXT,
    "genres": Many(TEXT, 1),
    "auxiliary_genres": Many(TEXT),
    "encoding": TEXT,
    "balance": TEXT,
    "fingerprint": TEXT,
    "num_posters": COUNT,
    "num_refused": COUNT,
    "refused": {"reason": Each(COUNT)},
    "genre_mentions?": Each(COUNT),
    "genre_counts_before_balance": Many(COUNT, 1),
    "genre_counts": dict.fromkeys(PARTS, Many(COUNT, 1)),
    "num_rows": dict.fromkeys(PARTS, COUNT),
    "labels_per_row": NUMBER,
    "leaked_rows": Each(COUNT),
}
TEMPERATURE = Kind(
    f"a temperature from {calibration.LOWEST} to {calibration.HIGHEST}",
    lambda value: NUMBER.accepts(value) and calibration.LOWEST <= value <= calibration.HIGHEST,
)
CALIBRATION = {
    "temperature": TEMPERATURE,
    "temperatures": Each(TEMPERATURE),
    "own": Many(TEXT),
    "thresholds": Each(SHARE),
    "test": dict.fromkeys(
        calibration.TOLD,
        {
            **dict.fromkeys(("before", "after"), Maybe(SHARE)),
            "difference": dict.fromkeys(("value", "low", "high"), Maybe(NUMBER)),
        },
    ),
}
NETWORK = {
    "title": TEXT,
    "seed": COUNT,
    "num_seeds": COUNT,
    "num_steps": COUNT,
    "best_step?": COUNT,
    "num_parameters?": COUNT,
    "body?": Each(ANYTHING),
    "numerics?": Each(ANYTHING),
    "train_loss?": dict.fromkeys(("first", "last"), Maybe(NUMBER)),
    "data": DATA,
    "splits": SPLITS,
    "baselines": Each({"test": {"metrics": dict.fromkeys(NAMES, VALUE)}}),
    "calibration?": CALIBRATION,
    "against_baselines?": Each(dict.fromkeys(("value", "low", "high"), Maybe(NUMBER))),
}
PROBE = {
    "metric": TEXT,
    "inverse_penalty": NUMBER,
    "path": Many({"inverse_penalty": NUMBER, "value": Maybe(SHARE)}, 1),
    "features": Many({"source": TEXT, "sha256": TEXT, "columns": COUNT}, 1),
}
HISTORY = Many({"epoch": NUMBER, "part": TEXT, "top1_accuracy": Maybe(SHARE), MAP: Maybe(SHARE)})
BRANCH = {
    "input_range": Many(NUMBER, 2),
    "bn_mode": TEXT,
    "frozen": Many({"learning_rate": NUMBER, "history": HISTORY, "splits": SPLITS}, 1),
    "chosen_learning_rate": NUMBER,
    "tuned": {"learning_rate": NUMBER, "best_step": COUNT, "history": HISTORY, "splits": SPLITS},
}
TRIAL = {
    "trial": COUNT,
    "learning_rate": NUMBER,
    "dropout": NUMBER,
    "epochs": COUNT,
    "folds": Many(Maybe(SHARE), 2),
    **dict.fromkeys(("mean", "deviation", "low", "high"), Maybe(NUMBER)),
    "curves": dict.fromkeys(("train", "validation"), Many(Maybe(NUMBER), 1)),
}
SEARCH = {
    "metric": TEXT,
    "num_folds": COUNT,
    "num_rows": dict.fromkeys(("train", "validation"), COUNT),
    "floor": SHARE,
    "trials": Many(TRIAL, 1),
    "ranking": Many(COUNT, 1),
    "winner": COUNT,
    "comparisons": Many({"other": COUNT, "difference": NUMBER, "low": NUMBER, "high": NUMBER, "apart": FLAG}),
}
CELL = {
    "cell": COUNT,
    "settings": Each(TEXT),
    "folder": TEXT,
    "num_rows": Maybe(dict.fromkeys(PARTS, COUNT)),
    "metrics": Each(
        {**{key: METRIC[key] for key in ("value", "low", "high", "best_floor")}, "floors?": Maybe(METRIC["floors?"])}
    ),
    "seeds": Many({"seed": COUNT, "diverged_at": Maybe(COUNT)}, 1),
}
ABLATION = {
    "part": TEXT,
    "best_metric": TEXT,
    "seeds": Many(COUNT, 1),
    "axes": Many({"name": TEXT}, 1),
    "cells": Many(CELL, 1),
    "effects": Many({"axis": TEXT, "setting": TEXT, "num_cells": COUNT, "num_measured": COUNT, "means": Each(Maybe(SHARE))}, 1),
}
ESTIMATE = {
    **dict.fromkeys(("value", "low", "high", "floor", "ceiling", "chance?", "p_value?"), Maybe(NUMBER)),
    "over": ANYTHING,
    "same?": WORDS,
}
CLAIM = {
    **dict.fromkeys(("claim", "where", "measured"), TEXT),
    **ESTIMATE,
    "verdict": WORDS,
    **dict.fromkeys(("rule?", "note?", "reduction?"), WORDS),
    "also?": Many({"text": TEXT, **ESTIMATE, "same": WORDS}),
    "asked": {"relation": TEXT},
}
# The number that a claim of each relation names.
ASKED = {"about": ("target",), "above": ("bound",), "below": ("bound",), "within": ("margin",), "exactly": ("target",)}
ASKED |= {"abovechance": ()}


def check_shape(results: Any) -> None:
    """Raises `Damaged` for what is no results.json of any protocol, before its protocol is asked for."""
    check(results, {"protocol?": TEXT, "seeds?": Many({"seed": COUNT, "protocol?": TEXT}, 1)})


def check_results(results: Mapping[str, Any], protocol: str) -> None:
    """Raises `Damaged` for results that the readers of this protocol's runs cannot use."""
    if "seeds" in results:
        _check_seeds(results["seeds"])
        if "mean_of_scores" in results:
            _check_mean(results["mean_of_scores"], results["seeds"][0])
    elif protocol in ("single", "transfer", "probe", "search"):
        check_network(results)
    if protocol == "transfer":
        for one in results.get("seeds", [results]):
            require("branches" in one, "branches", "missing")
    elif protocol == "probe":
        check(results, {"probe": PROBE})
    elif protocol == "search":
        _check_search(results)
    elif protocol == "ablation":
        _check_ablation(results)
    elif protocol == "reproduce":
        _check_reproduction(results)


def _check_seeds(seeds: list[Any]) -> None:
    """Every seed by itself, and that a table can have them in a row each."""
    for index, one in enumerate(seeds):
        check_network(one, f"seeds[{index}]")
    for words, of in (
        ("seed", lambda one: one["seed"]),
        ("data.name", lambda one: one["data"]["name"]),
        ("data.genres", lambda one: one["data"]["genres"]),
        ("baselines", lambda one: list(one["baselines"])),
        ("branches", lambda one: [len(branch["frozen"]) for branch in one.get("branches", [])]),
    ):
        values = [of(one) for one in seeds]
        good = len(set(values)) == len(values) if words == "seed" else all(value == values[0] for value in values)
        require(good, "seeds", f"their {words} do not go together")


def _check_mean(mean: Any, one: Mapping[str, Any]) -> None:
    """What the mean of the seeds' scores is worth: of the genres, metrics and rows of each of them."""
    where, genres = "mean_of_scores", one["data"]["genres"]
    check(mean, {"splits": SPLITS, "calibration": CALIBRATION}, where)
    _check_splits(mean["splits"], genres, f"{where}.splits")
    for key in ("temperatures", "thresholds"):
        require(list(mean["calibration"][key]) == genres, f"{where}.calibration.{key}", "its genres are not data.genres")
    metrics = mean["splits"]["test"]["metrics"].keys()
    require(metrics == one["splits"]["test"]["metrics"].keys(), f"{where}.splits.test.metrics", "not those of the seeds")
    rows = {part: mean["splits"][part]["num_rows"] for part in PARTS}
    require(rows == {part: one["splits"][part]["num_rows"] for part in PARTS}, f"{where}.splits", "not of the seeds' rows")


def check_network(results: Any, where: str = "") -> None:
    """Raises `Damaged` for results of one network of any protocol."""
    check(results, NETWORK, where)
    genres, data, dot = results["data"]["genres"], results["data"], f"{where}." if where else ""
    require(len(set(genres)) == len(genres), f"{dot}data.genres", "a name is there twice")
    for key in ("genre_counts", "num_rows"):
        require(data[key].keys() == set(PARTS), f"{dot}data.{key}", "not of the three parts")
    counts = [data["genre_counts_before_balance"], *data["genre_counts"].values()]
    require(all(len(row) == len(genres) for row in counts), f"{dot}data.genre_counts", f"not {len(genres)} numbers")
    require(results["num_steps"] >= results.get("best_step", 0), f"{dot}best_step", "beyond num_steps")
    require(results["num_steps"] > 0, f"{dot}num_steps", "0")
    _check_splits(results["splits"], genres, f"{dot}splits")
    for key in ("temperatures", "thresholds") if "calibration" in results else ():
        known = list(results["calibration"][key]) == genres
        require(known, f"{dot}calibration.{key}", "its genres are not data.genres")
    for name, parts in results["baselines"].items():
        missing = results["splits"]["test"]["metrics"].keys() - parts["test"]["metrics"].keys()
        require(not missing, f"{dot}baselines.{name}", f"without {', '.join(sorted(missing))}")
    _check_confusion(results["splits"]["test"], len(genres), f"{dot}splits.test.confusion")
    if "branches" in results:
        check(results["branches"], Many(BRANCH, 1), f"{dot}branches")
        check(results.get("weights"), Maybe(Each(ANYTHING)), f"{dot}weights")
        for branch in results["branches"]:
            for stage in (*branch["frozen"], branch["tuned"]):
                _check_splits(stage["splits"], genres, f"{dot}branches")
            rates = [head["learning_rate"] for head in branch["frozen"]]
            require(branch["chosen_learning_rate"] in rates, f"{dot}branches", "the chosen rate is none of its rates")


def _check_splits(splits: Mapping[str, Any], genres: list[str], where: str) -> None:
    """References are all of one generation: with chance, or with the floors of several constant answers."""
    has_chance = "chance" in splits["test"]["metrics"][MAP]
    for part in PARTS:
        split, here = splits[part], f"{where}.{part}"
        check(split["metrics"], Each(METRIC), f"{here}.metrics")
        require(split["metrics"].keys() == splits["test"]["metrics"].keys(), f"{here}.metrics", "not those of test")
        require(list(split["per_genre"]) == genres, f"{here}.per_genre", "its genres are not data.genres")
        ranked = [entry["average_precision"] for entry in split["per_genre"].values()]
        for entry in [split["metrics"][MAP], *ranked] if has_chance else []:
            for key in ("chance", "p_value"):
                known = key in entry and (entry[key] is None) == (entry["value"] is None)
                require(known, f"{here}.{key}", "missing beside a value")
        for name in NAMES:
            entry = split["metrics"][name]
            if has_chance:
                require("all_zeros" in entry, f"{here}.metrics.{name}.all_zeros", "missing")
            else:
                _check_floors(entry, f"{here}.metrics.{name}")


def _check_floors(entry: Mapping[str, Any], where: str) -> None:
    require("all_zeros" in entry.get("floors", ()), f"{where}.floors", "without all_zeros")
    known = entry["best_floor"] is None or entry["best_floor"] in entry["floors"].values()
    require(known, f"{where}.best_floor", "none of the floors")


def _check_confusion(split: Mapping[str, Any], num_genres: int, where: str) -> None:
    """[K][K] counts of single labels, [K][2][2] of several."""
    check(split, {"confusion": Many(Many(ANYTHING, 1), 1)}, where.removesuffix(".confusion"))
    found = split["confusion"]
    if isinstance(found[0][0], list):
        check(found, Many(Many(Many(COUNT))), where)
        good = all(len(row) == 2 and all(len(cell) == 2 for cell in row) for row in found)
    else:
        check(found, Many(Many(COUNT)), where)
        good = all(len(row) == num_genres for row in found)
    require(good and len(found) == num_genres, where, f"not of {num_genres} genres")


def _check_search(results: Mapping[str, Any]) -> None:
    check(results, {"num_epochs": COUNT, "search": SEARCH})
    search = results["search"]
    trials = {row["trial"]: row for row in search["trials"]}
    require(search["metric"] in NAMES, "search.metric", "no metric")
    require(list(trials) == list(range(1, len(search["trials"]) + 1)), "search.trials", "not numbered from 1")
    require(sorted(search["ranking"]) == list(trials), "search.ranking", "not of all trials")
    others = [search["winner"], *(row["other"] for row in search["comparisons"])]
    require(all(number in trials for number in others), "search", "names a trial that is not there")
    widths = {name for row in search["trials"] for name in row if name.startswith(("filters_", "units_"))}
    for number, row in trials.items():
        where = f"search.trials[{number - 1}]"
        check(row, dict.fromkeys(widths, COUNT), where)
        lengths = {len(curve) for curve in row["curves"].values()}
        require(lengths == {row["epochs"]}, f"{where}.curves", "not of all epochs")
        require(len(row["folds"]) == search["num_folds"], f"{where}.folds", "not of all folds")
        require(row["mean"] is None or row["high"] is not None, f"{where}.high", "missing beside a mean")


def _check_ablation(results: Mapping[str, Any]) -> None:
    check(results, {"title": TEXT, "data": {"name": TEXT}, "ablation": ABLATION})
    ablation = results["ablation"]
    names, first = {axis["name"] for axis in ablation["axes"]}, ablation["cells"][0]["metrics"]
    for row in ablation["cells"]:
        where = f"ablation.cells[{row['cell']}]"
        require(names <= row["settings"].keys(), f"{where}.settings", "not of all axes")
        require(row["metrics"].keys() == first.keys(), f"{where}.metrics", "not those of the first cell")
        for name, entry in row["metrics"].items():
            require(("floors" in entry) == ("floors" in first[name]), f"{where}.metrics.{name}.floors", "in some cells only")
            if entry.get("floors") or (entry["best_floor"] is not None and "floors" in entry):
                _check_floors({**entry, "floors": entry["floors"] or {}}, f"{where}.metrics.{name}")
    require(any(row["num_rows"] for row in ablation["cells"]), "ablation.cells", "none was measured")
    for row in ablation["effects"]:
        require(row["means"].keys() == ablation["effects"][0]["means"].keys(), "ablation.effects", "of different metrics")


def _check_reproduction(results: Mapping[str, Any]) -> None:
    check(results, {"experiments": Many(TEXT), "reductions": Many(TEXT), "ledger": Many(CLAIM), "withheld?": WORDS})
    fact = dict.fromkeys(("fact", "where", "report", "ours"), TEXT)
    check(results, {"printed?": Many(fact), "readings?": Many(TEXT)})
    for index, row in enumerate(results["ledger"]):
        where = f"ledger[{index}].asked"
        check(row["asked"], dict.fromkeys(ASKED.get(row["asked"]["relation"], ()), NUMBER), where)
