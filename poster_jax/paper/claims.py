"""The paper's claims in its order, each measured on the finished workdirs of `protocols/reproduce.py` and judged by one rule.

Every claim stands once; a second reading of it stands beside its value. What the paper prints as a setting or a count, and what
needs no verdict, is in `facts`. With softmax the paper's "accuracy" is top-1 accuracy: rows have one genre there and classes
are equally frequent, so its floor is 1 / K. For the one-hot CNN it is Keras's "accuracy" under binary cross entropy, which is
element-wise.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax.paper import claims_conclusion, claims_data, claims_one_hot, claims_search, claims_transfer, verdicts
from poster_jax.paper.evidence import Entry, Evidence, measure

ENTRIES: tuple[Entry, ...] = (
    *claims_data.COUNTS,
    *claims_data.DEPTHWISE,
    *claims_transfer.PRETRAINING,
    *claims_data.STEPS,
    *claims_transfer.RATES,
    *claims_search.DRAWS,
    *claims_transfer.TUNING,
    *claims_search.SEARCH,
    *claims_one_hot.ONE_HOT,
    *claims_conclusion.ENCODING,
    *claims_conclusion.DROPOUTS,
    *claims_conclusion.IMPROVEMENTS,
)
# What was chosen where the report leaves a choice, beside the notes of single claims.
READINGS = (
    f"Balanced: {claims_data.BALANCED}",
    "Exploded rows: a row for each genre of a movie, which the report may have used, contradict each other and can be on both "
    "sides of a split; here a label is the first-listed genre, or all genres of a movie.",
    f"Padding: {claims_one_hot.PADDING_NOTE}",
    "Rates: those of Table 1; none beyond it was run.",
)


def build(
    workdir: pathlib.Path,
    facts: Mapping[str, Any],
    *,
    reduced: Mapping[str, Sequence[str]] | None = None,
    judged: bool = True,
) -> list[dict[str, Any]]:
    """All claims with their estimates and verdicts, ready for JSON.

    Args:
        workdir: has the finished workdir of each experiment; a claim on one that is missing is not measured.
        facts: from `facts`. "population": {"num_movies", "counts"} of the six genres by any mention in the catalog of the full
            set, the most frequent first; None without a catalog. "softmax_gap": the largest difference between softmax cross
            entropy on integers and on one-hot. "depthwise": {"parameters", "operations": {"full", "separable"}, "rounds"}.
        reduced, judged: as `verdicts.as_row` takes them.
    """
    evidence = Evidence(workdir, facts)
    return [verdicts.as_row(claim, measure(claim, how, evidence), reduced, judged=judged) for claim, how in ENTRIES]
