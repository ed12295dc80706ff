"""The transfer protocol as plain text: every input range, frozen heads and fine-tuned network, beside floors and baselines."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.data import splits
from poster_jax.report.tables import cells


def transfer_table(seeds: Sequence[Mapping[str, Any]]) -> str:
    """One row per stage, of one seed or of several, with the test value's 95 % interval or the range over seeds.

    seeds: the results of each seed of the transfer protocol, which hold "branches", "splits" and "baselines". The metric is
    top-1 accuracy where every row has one genre, else mean average precision. Ends in a newline.
    """
    metric = "top1_accuracy" if seeds[0]["data"]["encoding"] in ("first", "one_hot") else "mean_average_precision"
    floor = seeds[0]["splits"]["test"]["metrics"][metric]["best_floor"]
    lines = [
        *cells.wrapped(
            f"{metric}; test floor {cells.number(floor)}; test value with its "
            + ("95 % interval" if len(seeds) == 1 else f"mean and range over {len(seeds)} seeds")
        ),
        f"{'range':<9}{'stage':<27}{'rate':>7}{'train':>7}{'valid.':>7}{'test':>7}",
    ]
    for index, branch in enumerate(seeds[0]["branches"]):
        low, high = branch["input_range"]
        shown = f"[{low:g}, {high:g}]"
        for place, head in enumerate(branch["frozen"]):
            chosen = [one["branches"][index]["chosen_learning_rate"] == head["learning_rate"] for one in seeds]
            mark = f", chosen {sum(chosen)} of {len(seeds)}" if any(chosen) else ""
            runs = [one["branches"][index]["frozen"][place]["splits"] for one in seeds]
            lines.append(_row(shown, f"frozen body{mark}", f"{head['learning_rate']:g}", runs, metric))
        runs = [one["branches"][index]["tuned"]["splits"] for one in seeds]
        lines.append(_row(shown, *last_stage(branch), runs, metric))
    for name in seeds[0]["baselines"]:
        lines.append(_row("", name.replace("_", " "), "", [one["baselines"][name] for one in seeds], metric))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def last_stage(branch: Mapping[str, Any]) -> tuple[str, str]:
    """(what the branch's result is, its learning rate): fine-tuned, or the chosen head where nothing was fine-tuned."""
    if not branch["tuned"].get("best_step", 1):
        return "the head, in the network", f"{branch['chosen_learning_rate']:g}"
    return f"fine-tuned, {branch['bn_mode']}", f"{branch['tuned']['learning_rate']:g}"


def _row(posters: str, stage: str, rate: str, runs: Sequence[Mapping[str, Any]], metric: str) -> str:
    values = {part: [run[part]["metrics"][metric]["value"] for run in runs] for part in splits.PARTS}
    if len(runs) == 1:
        test = runs[0]["test"]["metrics"][metric]
        low, high = test["low"], test["high"]
    else:
        low, high = min(values["test"]), max(values["test"])
    means = "".join(f"{statistics.mean(values[part]):>7.3f}" for part in splits.PARTS)
    return f"{posters:<9}{stage:<27}{rate:>7}{means}  {cells.interval(low, high)}"
