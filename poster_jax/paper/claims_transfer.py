"""Claims of sections I-B, II-A and III-A on transfer learning: posters in [0, 1], as in the paper; means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.evidence import Entry, Evidence, Measure
from poster_jax.paper.verdicts import Above, AtLeast, Beside, Claim, Estimate, Found, Near, Within

TOP1 = "top1_accuracy"
RATE = 1e-4  # run 1 of Table 1
HIGHER = (1e-3, 1e-2)  # runs 2 and 3
RUNS, DRAWN = "transfer", "transfer_drawn"
Branch = Mapping[str, Any]


def _head(branch: Branch, rate: float, part: str = "validation") -> list[float]:
    """Top-1 of a frozen stage, epoch by epoch."""
    return estimates.curve(estimates.find_head(branch, rate)["history"], part, TOP1)


def _tuned(branch: Branch, part: str) -> list[float]:
    return estimates.curve(branch["tuned"]["history"], part, TOP1)


def _over_seeds(values: Sequence[float]) -> Estimate:
    return verdicts.over_repeats(values, "seeds")


def _rates(evidence: Evidence) -> tuple[float, ...]:
    """The higher rates of Table 1 that were run."""
    held = {head["learning_rate"] for head in evidence.branches(RUNS)[0]["frozen"]}
    return tuple(rate for rate in HIGHER if rate in held)


def _best_rate(evidence: Evidence) -> Found:
    branches = evidence.branches(RUNS)
    gaps = {
        rate: _over_seeds([_head(branch, RATE)[-1] - _head(branch, rate)[-1] for branch in branches])
        for rate in _rates(evidence)
    }
    also = tuple(Beside(f"the same against {rate:g}", gap) for rate, gap in gaps.items())
    return Found(estimates.smallest(list(gaps.values())), also)


def _slower(evidence: Evidence) -> Found:
    gaps = [
        float(np.mean([_head(branch, rate)[0] for rate in _rates(evidence)])) - _head(branch, RATE)[0]
        for branch in evidence.branches(RUNS)
    ]
    return Found(_over_seeds(gaps))


def _rougher(evidence: Evidence) -> Found:
    def roughness(branch: Branch, rate: float) -> float:
        return float(np.abs(np.diff(_head(branch, rate))).mean())

    return Found(_over_seeds([roughness(one, HIGHER[-1]) - roughness(one, RATE) for one in evidence.branches(RUNS)]))


def _gain(part: str) -> Measure:
    """The last epoch of fine-tuning minus the last epoch of the head that it starts from."""

    def gains(branches: Sequence[Branch]) -> Estimate:
        starts = [_head(branch, branch["chosen_learning_rate"], part)[-1] for branch in branches]
        return _over_seeds([_tuned(branch, part)[-1] - start for branch, start in zip(branches, starts, strict=True)])

    def found(evidence: Evidence) -> Found:
        beside = Beside("posters in the weights' range", gains(evidence.branches(RUNS, -1)))
        return Found(gains(evidence.branches(RUNS)), (beside,))

    return found


def _validation(evidence: Evidence) -> Found:
    def at_the_end(branches: Sequence[Branch]) -> Estimate:
        found = _over_seeds([_tuned(branch, "validation")[-1] for branch in branches])
        floors = [branch["tuned"]["splits"]["validation"]["metrics"][TOP1]["best_floor"] for branch in branches]
        return Estimate(found.value, found.low, found.high, found.over, floor=float(np.mean(floors)))

    beside = Beside("posters in the weights' range", at_the_end(evidence.branches(RUNS, -1)))
    return Found(at_the_end(evidence.branches(RUNS)), (beside,))


def _test(evidence: Evidence) -> Found:
    paper, fitting = (
        estimates.score([branch["tuned"]["splits"] for branch in evidence.branches(RUNS, at)], TOP1) for at in (0, -1)
    )
    return Found(paper, (Beside("posters in the weights' range", fitting),))


def _sooner(evidence: Evidence) -> Found:
    """Epochs of both stages that a pretrained network is ahead when it reaches the best that one from drawn weights has."""
    saved = []
    for pretrained, drawn in zip(evidence.branches(RUNS), evidence.branches(DRAWN), strict=False):
        quick, slow = (_head(one, one["chosen_learning_rate"], "train") + _tuned(one, "train") for one in (pretrained, drawn))
        saved.append(float(estimates.first_reaching(slow, max(slow)) - estimates.first_reaching(quick, max(slow))))
    return Found(_over_seeds(saved))


def _pretrained_gain(evidence: Evidence) -> Found:
    return Found(estimates.difference(evidence.branch_folders(RUNS), evidence.branch_folders(DRAWN), TOP1))


PRETRAINING_NOTE = "Both at the report's rates and epochs, which it chose for pretrained weights."

PRETRAINING: tuple[Entry, ...] = (
    (
        Claim(
            "a pretrained network speeds training up",
            "I-B",
            "epochs until training top-1 reaches the best of the same network from drawn weights: drawn minus pretrained",
            Above(0),
            (RUNS, DRAWN),
            PRETRAINING_NOTE,
        ),
        _sooner,
    ),
    (
        Claim(
            "and helps it to predict more accurately",
            "I-B",
            "test top-1 after fine-tuning, pretrained minus drawn weights",
            Above(0),
            (RUNS, DRAWN),
            PRETRAINING_NOTE,
        ),
        _pretrained_gain,
    ),
)

RATES: tuple[Entry, ...] = (
    (
        Claim(
            f"{RATE:g} is the best rate",
            "II-A",
            "validation top-1 after the last epoch, minus that of the best of the other rates",
            Above(0),
            (RUNS,),
            "All rates at the same epoch, the last, so that no choice of an epoch favours one.",
        ),
        _best_rate,
    ),
    (
        Claim(
            f"{RATE:g} is slower than the higher rates",
            "II-A",
            f"validation top-1 after the first epoch, mean of the higher rates minus {RATE:g}",
            Above(0),
            (RUNS,),
        ),
        _slower,
    ),
    (
        Claim(
            "rates above 0.001 are erratic, and 0.0001 rises smoothly",
            "II-A",
            f"mean step of validation top-1 from epoch to epoch at {HIGHER[-1]:g}, minus the same at {RATE:g}",
            Above(0),
            (RUNS,),
            f"The rates above 0.001 are those of Table 1, which is {HIGHER[-1]:g} alone; none beyond the table was run.",
        ),
        _rougher,
    ),
)

LAST_EPOCHS = "last epoch of fine-tuning minus last epoch of the head that it starts from"

TUNING: tuple[Entry, ...] = (
    (
        Claim(
            "fine-tuning improves training accuracy greatly",
            "III-A, Figure 7",
            f"training top-1 in inference mode, {LAST_EPOCHS}",
            AtLeast(verdicts.GREATLY),
            (RUNS,),
            f'"Greatly" is read as {verdicts.GREATLY:g} or more.',
        ),
        _gain("train"),
    ),
    (
        Claim(
            "and validation accuracy remains constant",
            "III-A, Figure 7",
            f"validation top-1, {LAST_EPOCHS}",
            Within(verdicts.MARGIN),
            (RUNS,),
            f'"Constant" is read as within {verdicts.MARGIN:g}.',
        ),
        _gain("validation"),
    ),
    (
        Claim(
            "about 30 % on the validation set",
            "III-A",
            "validation top-1 after the last epoch of fine-tuning, posters in [0, 1]",
            Near(0.30, verdicts.ROUNDED),
            (RUNS,),
            '"~30 %" is read as what rounds to it in tens.',
        ),
        _validation,
    ),
    (
        Claim(
            "transfer learning reaches 30 % on the test set",
            "III-A, Figure 8",
            "test top-1 accuracy after fine-tuning, posters in [0, 1], the epoch chosen by validation",
            AtLeast(0.30),
            (RUNS,),
        ),
        _test,
    ),
)
