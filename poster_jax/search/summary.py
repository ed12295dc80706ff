"""From the records of a search to the rows of trials.csv and the JSON of its table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax.metrics import cross_validation, definitions, floors
from poster_jax.search.snapshots import Record
from poster_jax.search.space import Trial

Records = Mapping[tuple[int, int], Record]


def fold_scores(records: Records, trial: Trial, num_folds: int, metric: str) -> list[float | None]:
    """The last epoch's validation score on every fold; None where a network has diverged."""
    return [records[trial.number, fold].history[-1]["validation"][metric] for fold in range(num_folds)]


def trial_rows(records: Records, trials: Sequence[Trial], num_folds: int, metric: str) -> list[dict[str, Any]]:
    """Rows of trials.csv, for the trials whose folds have all ended; `seconds` is that of all folds, compilation included."""
    rows = []
    for trial in trials:
        if not all((trial.number, fold) in records for fold in range(num_folds)):
            continue
        scores = fold_scores(records, trial, num_folds, metric)
        summary = cross_validation.summarise(scores, share=1 / (num_folds - 1))
        own = [records[trial.number, fold] for fold in range(num_folds)]
        rows.append(
            {
                **trial.values(),
                "epochs": own[0].history[-1]["epoch"],
                **{f"fold_{fold}": score for fold, score in enumerate(scores, 1)},
                f"mean_{metric}": summary["mean"],
                "deviation": summary["deviation"],
                "seconds": round(sum(record.secs for record in own), 1),
            }
        )
    return rows


def summarise(
    records: Records,
    trials: Sequence[Trial],
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    label: np.ndarray,
    *,
    metric: str,
    num_genres: int,
) -> dict[str, Any]:
    """results["search"]: everything of the search but its winner's test, the same for equal runs.

    Only trials that trained to the last epoch are compared: those that halving dropped had less time.
    """
    num_folds, share = len(folds), 1 / (len(folds) - 1)
    table = [_trial(records, trial, num_folds, metric) for trial in trials]
    last_epoch = max(row["epochs"] for row in table)
    full = [at for at, row in enumerate(table) if row["epochs"] == last_epoch]
    comparisons = cross_validation.compare_with_best([table[at]["folds"] for at in full], share=share)
    winner = full[cross_validation.order([table[at]["mean"] for at in full])[0]]
    targets = definitions.make_targets(label, num_genres)
    validation = [floors.best_constants(targets[valid], [""])[metric] for _, valid in folds]
    return {
        "metric": metric,
        "num_folds": num_folds,
        "num_rows": {"train": min(len(train) for train, _ in folds), "validation": min(len(valid) for _, valid in folds)},
        "floor": float(np.mean(validation)),
        "trials": table,
        "ranking": [table[at]["trial"] for at in _ranked(table, full)],
        "winner": table[winner]["trial"],
        "comparisons": [{**row, "other": table[full[row["other"]]]["trial"]} for row in comparisons],
    }


def out_of_fold(records: Records, trial: Trial, folds: Sequence[tuple[np.ndarray, np.ndarray]], pool: np.ndarray) -> np.ndarray:
    """Scores [len(pool), K] of every row by the network that did not train on it, in the order of `pool`."""
    place = {int(row): at for at, row in enumerate(pool)}
    scores = np.zeros((len(pool), records[trial.number, 0].scores.shape[1]), np.float32)
    for fold, (_, valid) in enumerate(folds):
        scores[[place[int(row)] for row in valid]] = records[trial.number, fold].scores
    return scores


def _trial(records: Records, trial: Trial, num_folds: int, metric: str) -> dict[str, Any]:
    scores = fold_scores(records, trial, num_folds, metric)
    own = [records[trial.number, fold].history for fold in range(num_folds)]
    curves = {
        part: [_mean([history[at][part][metric] for history in own]) for at in range(len(own[0]))]
        for part in ("train", "validation")
    }
    summary = cross_validation.summarise(scores, share=1 / (num_folds - 1))
    return {**trial.values(), "epochs": own[0][-1]["epoch"], "folds": scores, **summary, "curves": curves}


def _ranked(table: Sequence[Mapping[str, Any]], full: Sequence[int]) -> list[int]:
    """Those with all epochs first, then by mean."""
    rest = sorted({*range(len(table))} - {*full}, key=lambda at: -table[at]["epochs"])
    epochs = sorted({table[at]["epochs"] for at in rest}, reverse=True)
    groups = [list(full), *([at for at in rest if table[at]["epochs"] == epoch] for epoch in epochs)]
    return [group[at] for group in groups for at in cross_validation.order([table[row]["mean"] for row in group])]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None
