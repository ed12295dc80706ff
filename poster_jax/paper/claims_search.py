"""Claims of sections II-B and III-B: the random search over the Table 2 network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.evidence import Entry, Evidence
from poster_jax.paper.verdicts import Above, Below, Beside, Claim, Estimate, Found, Within

TOP1 = "top1_accuracy"
PLAIN, NORMED = "search", "search_batch_norm"
# The printed sets: Table 3 with a sixth row, its set 1 at the rate of its set 2; Table 4.
TABLE_3, TABLE_4, NUM_SETS = "rates", "table4", 5
Trials = Sequence[Mapping[str, Any]]


def _fold_means(trials: Trials) -> list[float | None]:
    """The mean over trials, fold by fold; None for a fold on which one of them diverged."""
    return [None if None in row else float(np.mean(row)) for row in zip(*(trial["folds"] for trial in trials), strict=True)]


def _best(trials: Trials) -> Mapping[str, Any]:
    return max(trials, key=lambda trial: -1.0 if trial["mean"] is None else trial["mean"])


def _drawn_and_printed(evidence: Evidence) -> Found:
    pairs = {
        "": (evidence.trials(PLAIN), evidence.trials(TABLE_3)[:NUM_SETS]),
        ", with batch norm": (evidence.trials(NORMED), evidence.trials(TABLE_4)),
    }
    means = {
        which: estimates.of_groups([one["mean"] for one in drawn], [one["mean"] for one in printed], "sets")
        for which, (drawn, printed) in pairs.items()
    }
    also = [Beside(f"the same{which}", gap) for which, gap in means.items() if which]
    also += [
        Beside(
            f"best of the ten minus best of the five{which}", estimates.over_folds(_best(one)["folds"], _best(five)["folds"])
        )
        for which, (one, five) in pairs.items()
    ]
    return Found(means[""], tuple(also))


def _against_transfer(evidence: Evidence) -> Found:
    return Found(estimates.difference([evidence.workdir / PLAIN], evidence.branch_folders("transfer"), TOP1))


def _set_1(evidence: Evidence) -> Found:
    table = evidence.trials(TABLE_3)
    return Found(estimates.over_folds(_fold_means(table[1:NUM_SETS]), table[0]["folds"]))


def _set_1_at_another_rate(evidence: Evidence) -> Found:
    table = evidence.trials(TABLE_3)
    return Found(estimates.over_folds(table[NUM_SETS]["folds"], table[0]["folds"]))


def _batch_norm(evidence: Evidence) -> Found:
    pairs = zip(evidence.trials(PLAIN), evidence.trials(NORMED), strict=True)
    means = [(one["mean"], other["mean"]) for one, other in pairs]
    changes = [None if one is None or other is None else other - one for one, other in means]
    return Found(verdicts.over_repeats(changes, "trials"), (_printed_batch_norm(evidence),))


def _printed_batch_norm(evidence: Evidence) -> Beside:
    """Tables 3 and 4 have other sets, so their difference is one of samples."""
    text = "mean of the printed sets, Table 4 minus Table 3"
    if not (evidence.has(TABLE_3) and evidence.has(TABLE_4)):
        return Beside(text, Estimate(None))
    ones, others = evidence.trials(TABLE_4), evidence.trials(TABLE_3)[:NUM_SETS]
    return Beside(text, estimates.of_groups([one["mean"] for one in ones], [one["mean"] for one in others], "sets"))


DRAWS: tuple[Entry, ...] = (
    (
        Claim(
            "ten random draws in each case, of which Tables 3 and 4 print five",
            "II-B, Tables 3 and 4",
            "mean fold top-1 of our ten draws minus that of the five printed sets, the same folds",
            Within(verdicts.MARGIN),
            (PLAIN, NORMED, TABLE_3, TABLE_4),
            "Which five of its ten the report printed is not said; if they were its best, ours are behind.",
        ),
        _drawn_and_printed,
    ),
)

SEARCH: tuple[Entry, ...] = (
    (
        Claim(
            "the searched CNN is less accurate than transfer learning",
            "III-B",
            "test top-1, best CNN minus transfer",
            Below(0),
            (PLAIN, "transfer"),
        ),
        _against_transfer,
    ),
    (
        Claim(
            "set 1 is worse than the others",
            "III-B, Figure 9",
            "fold top-1, mean of sets 2 to 5 minus set 1",
            Above(0),
            (TABLE_3,),
        ),
        _set_1,
    ),
    (
        Claim(
            "its learning rate is what makes set 1 worse",
            "III-B",
            "fold top-1, set 1 at the rate of set 2 minus set 1",
            Above(0),
            (TABLE_3,),
        ),
        _set_1_at_another_rate,
    ),
    (
        Claim(
            "batch norm gives similar results",
            "III-B, Figure 10",
            "mean fold top-1 with minus without, trial by trial",
            Within(verdicts.MARGIN),
            (PLAIN, NORMED),
            f'"Similar" is read as within {verdicts.MARGIN:g}.',
        ),
        _batch_norm,
    ),
)
