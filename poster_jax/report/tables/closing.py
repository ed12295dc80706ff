"""What a run says when it ends, within 80 columns: five rows, and in words what they mean and what to do next."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.metrics import chance
from poster_jax.report.tables import cells

WIDTH = 80
ROWS = {
    "mean_average_precision": "mean average precision",
    "top1_accuracy": "top-1 accuracy",
    "macro_auc": "macro AUC",
    "macro_f1@tuned": "macro F1, tuned",
    "binary_accuracy": "binary accuracy",
}
# A loss that has grown so many times has diverged; one below LEAST_LOSS counts as that, as zero grows to anything.
DIVERGED, LEAST_LOSS = 1000, 1e-3
COLOURS = "color_histogram_logistic"
MEAN_AP = "mean_average_precision"
MEAN_OF_SCORES = "mAP, mean of scores"


def closing_text(seeds: Sequence[Mapping[str, Any]], mean_of_scores: Mapping[str, Any] | None = None) -> str:
    """The end of a run of one network or of several seeds: a table of the test part and its meaning. Ends in a newline.

    seeds: the results.json of each network. mean_of_scores: {"splits"} of the mean of the scores of several, a row of its own.
    """
    tests = [one["splits"]["test"] for one in seeds]
    shown = "value [95 % interval]" if len(seeds) == 1 else f"mean [range of {len(seeds)} seeds]"
    with_colours = all(COLOURS in one["baselines"] for one in seeds)
    lines = [
        *textwrap.wrap(seeds[0]["title"], WIDTH),
        *textwrap.wrap(f"test part: {_rows(tests[0])} of {seeds[0]['data']['name']}", WIDTH),
        "",
        f"{'':<23}{shown:<24}{'floor':>7}{'chance':>8}" + (f"{'colours':>9}" if with_colours else ""),
    ]
    shown = [(metric, name, [test["metrics"][metric] for test in tests]) for metric, name in ROWS.items()]
    if mean_of_scores is not None:
        shown.append((MEAN_AP, MEAN_OF_SCORES, [mean_of_scores["splits"]["test"]["metrics"][MEAN_AP]]))
    for metric, name, entries in shown:
        line = f"{name:<23}{value(entries):<24}{cells.mean(entries, 'best_floor'):>7}{cells.mean(entries, 'chance'):>8}"
        if with_colours:
            colours = [one["baselines"][COLOURS]["test"]["metrics"][metric] for one in seeds]
            line += f"{cells.mean(colours, 'value'):>9}"
        lines.append(line)
    lines.append("floor: the best constant answer; chance: the mean when labels are permuted")
    if mean_of_scores is not None:
        lines.append(f"{MEAN_OF_SCORES}: the seeds' scores averaged; [95 % interval]")
    lines.append("")
    lines += textwrap.wrap(meaning(seeds), WIDTH)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _rows(test: Mapping[str, Any]) -> str:
    return f"{cells.counted(test['num_rows'], 'row')} of {cells.counted(test['num_movies'], 'movie')}"


def value(entries: Sequence[Mapping[str, Any]]) -> str:
    if len(entries) == 1:
        return cells.value(entries[0])
    values = cells.defined(entries, "value")
    return f"{cells.mean(entries, 'value')} {cells.interval(min(values), max(values))}" if values else cells.NO_VALUE


def meaning(seeds: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on whether something was learnt, by the permutation test and by the paired difference to colours alone.

    A network whose scores are those of no poster in particular, or whose loss has grown, has its sentence first.
    """
    if broken := next(filter(None, map(_broken, seeds)), ""):
        return broken
    tests = [one["splits"]["test"] for one in seeds]
    entries = [test["metrics"][MEAN_AP] for test in tests]
    decided = [chance.beats_constant(MEAN_AP, entry) for entry in entries]
    if None in decided:
        return "Mean average precision is undefined: no genre has a positive test row."
    largest = max(entry["p_value"] for entry in entries)
    p = f"p = {largest:.4f}" if len(seeds) == 1 else f"largest p of {len(seeds)} seeds {largest:.4f}"
    start = f"mAP {cells.mean(entries, 'value')} where chance is {cells.mean(entries, 'chance')} ({p}"
    if not all(decided):
        return f"{start}): no better than chance, so nothing was learnt that these {tests[0]['num_rows']:,} test rows can show."
    colours = [one["baselines"][COLOURS]["test"]["metrics"][MEAN_AP] for one in seeds if COLOURS in one["baselines"]]
    reach = f") and colour histograms reach {cells.mean(colours, 'value')}" if colours else ")"
    gaps = [one.get("against_baselines", {}).get(COLOURS) for one in seeds]
    if all(gap is not None and gap["low"] is not None and gap["low"] <= 0 for gap in gaps):
        shown = cells.value(gaps[0], "+.3f") if len(gaps) == 1 else "every seed's interval reaches 0 or below"  # type: ignore[arg-type]
        return f"{start}{reach}: better than chance, and no better than colours alone (difference {shown})."
    return f"{start}{reach}: it has learnt to tell genres; weakest: {_weakest(tests)}."


def _broken(one: Mapping[str, Any]) -> str:
    """The sentence for a network that training has broken; empty for any other, and for results that do not say."""
    test, loss = one["splits"]["test"], one.get("train_loss") or {}
    name = f"network of seed {one['seed']}"
    way = "nothing was learnt; lower config.optim.learning_rate."
    if test.get("num_constant") == len(test["per_genre"]):
        return f"The {name} gives every test poster the same scores: {way}"
    if loss.get("first") is not None and loss["last"] > DIVERGED * max(loss["first"], LEAST_LOSS):
        return (
            f"The training loss of the {name} rose from {loss['first']:.3g} to {loss['last']:.3g}: it has diverged, and {way}"
        )
    return ""


def _weakest(tests: Sequence[Mapping[str, Any]]) -> str:
    """The genre whose average precision is least above its chance, in the mean over seeds."""
    names = list(tests[0]["per_genre"])
    above = {}
    for name in names:
        ranked = [test["per_genre"][name]["average_precision"] for test in tests]
        gained = [entry["value"] - entry["chance"] for entry in ranked if entry["value"] is not None]
        if gained:
            above[name] = sum(gained) / len(gained)
    name = min(above, key=lambda genre: above[genre])
    ranked = [test["per_genre"][name]["average_precision"] for test in tests]
    return f"{name} ({cells.mean(ranked, 'value')}, chance {cells.mean(ranked, 'chance')})"
