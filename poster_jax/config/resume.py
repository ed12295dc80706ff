"""What may change when a workdir is used again after its first checkpoint: its cache can move, and some runs can get longer.

A run can be longer where the steps already taken are those that the longer run takes. That holds for a constant learning rate,
and for further trials of a search: trial n is drawn from (seed, n) alone.
"""

from collections.abc import Mapping
from typing import Any

from poster_jax.config import grid, loading, types

# These change nothing that a run computes.
HARMLESS = ("data.cache_dir", "model.weights_sha256", "train.tensorboard")
LENGTH = ("train.num_epochs", "train.num_steps")
TRIALS = ("search.num_trials", "search.trials")


def changes_outcome(old: types.Config, new: types.Config) -> bool:
    """True if the two differ in more than `HARMLESS` keys."""
    return any(_key(line) not in HARMLESS for line in loading.differences(old, new))


def refused_changes(old: types.Config, new: types.Config) -> list[str]:
    """`key: old -> new`, and the reason where there is more to say, of every change that a begun workdir does not allow."""
    before, after = loading.flatten(old), loading.flatten(new)
    found = []
    for line in loading.differences(old, new):
        reason = _reason(_key(line), before, after)
        if reason is not None:
            found.append(f"{line}, but {reason}" if reason else line)
    return found


def _key(line: str) -> str:
    return line.split(":")[0]


def _reason(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Why a key cannot change, "" where its name says it; None where it can."""
    if key in HARMLESS:
        return None
    if before["protocol"] != after["protocol"]:
        return ""
    protocol = before["protocol"]
    if key in LENGTH:
        return _length_reason(protocol, before)
    if key == "search.vectorize" and protocol == "search" and {before[key], after[key]} == {"folds", "processes"}:
        return None  # the same networks, in one process or in several
    if key in TRIALS and protocol == "search":
        return _trials_reason(key, before, after)
    if key == "transfer.head_epochs" and protocol == "transfer":
        return "the network is fine-tuned from the heads that the earlier epochs gave"
    return ""


def _length_reason(protocol: str, before: Mapping[str, Any]) -> str | None:
    if protocol == "search":
        return "the trials of a search are compared after equally many epochs"
    schedules = {before["optim.schedule"]}
    if protocol == "ablation":
        schedules = {cell.values.get("optim.schedule", before["optim.schedule"]) for cell in grid.cells(before)}
    moving = sorted(schedules - {"constant"})
    return f"optim.schedule={moving[0]} is spread over all steps, and those already taken would be others" if moving else None


def _trials_reason(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    if before["search.halving"]:
        return "search.halving has dropped trials by comparing them with the others"
    if key == "search.num_trials":
        return None if after[key] > before[key] else "trials can be added to a search, not taken away"
    earlier, given = before[key], after[key]
    if earlier and given[: len(earlier)] == earlier:
        return None
    return "trials can be added behind the earlier ones, and those must stay as they are"
