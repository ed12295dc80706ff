"""What results.json must hold by protocol: whole results pass, and what a table relies on is told when it is gone."""

import copy
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from poster_jax.workdir import checks, forms

OLD = json.loads((pathlib.Path(__file__).parent / "old_run" / "finished" / "results.json").read_text())
Spoil = Callable[[Any], Any]


def with_chance() -> dict[str, Any]:
    """The results as versions with chance write them: references without floors of several answers."""
    results = copy.deepcopy(OLD)
    for split in (*results["splits"].values(), *results["baselines"]["color_histogram_logistic"].values()):
        ranked = [entry["average_precision"] for entry in split["per_genre"].values()]
        for entry in [*split["metrics"].values(), *ranked]:
            entry.pop("floors", None)
            entry["all_zeros"] = 0.5
        for entry in [split["metrics"]["mean_average_precision"], *ranked]:
            entry |= {"chance": 0.3, "p_value": 0.01} if entry["value"] is not None else {"chance": None, "p_value": None}
    return results


def search() -> dict[str, Any]:
    trial = {"learning_rate": 1e30, "dropout": 0.2, "filters_1": 3, "epochs": 1, "folds": [0.5, None], "mean": None}
    trial |= {"deviation": None, "low": None, "high": None, "curves": {"train": [0.5], "validation": [None]}}
    table = {"metric": "top1_accuracy", "num_folds": 2, "num_rows": {"train": 9, "validation": 9}, "floor": 0.2}
    table |= {"trials": [{"trial": 1, **copy.deepcopy(trial)}, {"trial": 2, **copy.deepcopy(trial)}], "ranking": [2, 1]}
    table |= {"winner": 2, "comparisons": [{"other": 1, "difference": 0.1, "low": -0.1, "high": 0.3, "apart": False}]}
    return {**copy.deepcopy(OLD), "protocol": "search", "num_epochs": 1, "search": table}


def ablation() -> dict[str, Any]:
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "best_floor": 0.2}
    cell = {"cell": 1, "settings": {"net": "wide"}, "folder": "cells/a", "num_rows": dict.fromkeys(forms.PARTS, 9)}
    cell |= {"metrics": {"top1_accuracy": entry}, "seeds": [{"seed": 0, "diverged_at": None}]}
    effect = {"axis": "net", "setting": "wide", "num_cells": 1, "num_measured": 1, "means": {"top1_accuracy": 0.5}}
    table = {"part": "test", "best_metric": "top1_accuracy", "seeds": [0], "axes": [{"name": "net"}], "effects": [effect]}
    table |= {"cells": [copy.deepcopy(cell), copy.deepcopy(cell)]}
    return {"title": "ablation", "protocol": "ablation", "data": {"name": "posters"}, "ablation": table}


def reproduction() -> dict[str, Any]:
    claim = dict.fromkeys(("claim", "where", "measured", "verdict"), "x") | {
        "over": None,
        "asked": {"relation": "above", "bound": 1},
    }
    claim |= dict.fromkeys(("value", "low", "high", "floor", "ceiling"), 0.5)
    return {"protocol": "reproduce", "experiments": ["search"], "reductions": [], "ledger": [claim]}


def transfer() -> dict[str, Any]:
    stage = {"learning_rate": 0.1, "best_step": 1, "history": [], "splits": OLD["splits"]}
    branch = {"input_range": [0, 1], "bn_mode": "frozen", "frozen": [stage], "chosen_learning_rate": 0.1, "tuned": stage}
    return copy.deepcopy({**OLD, "protocol": "transfer", "weights": None, "branches": [branch]})


def seeds() -> dict[str, Any]:
    return {"title": "two", "seeds": [copy.deepcopy(OLD), copy.deepcopy({**OLD, "seed": 1})]}


WHOLE = {"single": lambda: copy.deepcopy(OLD), "chance": with_chance, "search": search, "ablation": ablation}
WHOLE |= {"reproduce": reproduction, "transfer": transfer, "seeds": seeds}


def check(results: Any, protocol: str) -> None:
    checks_of = {"chance": "single", "seeds": "single"}
    forms.check_shape(results)
    forms.check_results(results, checks_of.get(protocol, protocol))


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_results_pass(kind: str) -> None:
    check(WHOLE[kind](), kind)


def at(*keys: Any, to: Any = "gone") -> Spoil:
    """Sets a deep value, or removes it."""

    def spoil(results: Any) -> None:
        for key in keys[:-1]:
            results = results[key]
        if to == "gone":
            del results[keys[-1]]
        else:
            results[keys[-1]] = to

    return spoil


TEST = ("splits", "test")
RANKED = (*TEST, "metrics", "mean_average_precision")


@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        ("single", at(*TEST, "per_genre", "Drama"), "splits.test.per_genre: its genres are not data.genres"),
        ("single", at("data", "genres", to=["Drama", "Drama", "Drama"]), "data.genres: a name is there twice"),
        ("single", at("data", "genre_counts", "test", to=[1, 2]), "data.genre_counts: not 3 numbers"),
        ("single", at("data", "genre_counts", "more", to=1), "data.genre_counts: not of the three parts"),
        ("single", at("best_step", to=9), "best_step: beyond num_steps"),
        ("single", at("num_steps", to=-4), "num_steps: -4 is not a count"),
        ("single", at(*RANKED, "best_floor", to=0.123), "best_floor: none of the floors"),
        ("single", at(*RANKED, "floors", "all_zeros"), "floors: without all_zeros"),
        ("single", at(*TEST, "metrics", "more", to={}), "splits.train.metrics: not those of test"),
        ("single", at(*TEST, "confusion", to=[[1]]), "splits.test.confusion: not of 3 genres"),
        ("single", at("baselines", "color_histogram_logistic", "test", "metrics", "macro_auc"), "macro_auc: missing"),
        ("chance", at(*RANKED, "p_value"), "p_value: missing beside a value"),
        ("chance", at(*TEST, "per_genre", "Drama", "average_precision", "chance", to=None), "chance: missing beside a value"),
        ("chance", at(*TEST, "metrics", "macro_auc", "all_zeros"), "macro_auc.all_zeros: missing"),
        ("seeds", at("seeds", 1, "seed", to=0), "seeds: their seed do not go together"),
        ("seeds", at("seeds", 1, "data", "name", to="others"), "seeds: their data.name do not go together"),
        ("transfer", at("branches"), "branches: missing"),
        ("transfer", at("branches", 0, "chosen_learning_rate", to=0.2), "the chosen rate is none of its rates"),
        ("transfer", at("branches", 0, "tuned", "splits", "test", "per_genre", "Drama"), "its genres are not data.genres"),
        ("search", at("search", "winner", to=3), "search: names a trial that is not there"),
        ("search", at("search", "ranking", to=[1]), "search.ranking: not of all trials"),
        ("search", at("search", "trials", 0, "trial", to=2), "search.trials: not numbered from 1"),
        ("search", at("search", "trials", 0, "epochs", to=2**50), "search.trials[0].curves: not of all epochs"),
        ("search", at("search", "trials", 0, "filters_1"), "search.trials[0].filters_1: missing"),
        ("search", at("search", "trials", 0, "mean", to=0.5), "search.trials[0].high: missing beside a mean"),
        ("search", at("search", "metric", to="accuracy"), "search.metric: no metric"),
        ("ablation", at("ablation", "cells", 0, "settings", "net"), "settings: not of all axes"),
        ("ablation", at("ablation", "cells", 1, "metrics", "top1_accuracy"), "metrics: not those of the first cell"),
        ("ablation", at("ablation", "effects", 0, "num_cells", to=-1), "num_cells: -1 is not a count"),
        ("reproduce", at("ledger", 0, "asked", "bound"), "ledger[0].asked.bound: missing"),
    ],
)
def test_what_a_table_relies_on_is_told_when_it_is_not_there(kind: str, spoil: Spoil, says: str) -> None:
    results = WHOLE[kind]()
    spoil(results)
    with pytest.raises(checks.Damaged) as raised:
        check(results, kind)
    assert says in str(raised.value)
