"""Claims of the conclusion: encoding, dropout, and what would improve the result; one change at a time."""

import dataclasses
import pathlib

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.evidence import Entry, Evidence, Measure
from poster_jax.paper.verdicts import Above, AboveChance, AtLeast, Below, Beside, Claim, Found

TOP1, BINARY, MAP = "top1_accuracy", "binary_accuracy", "mean_average_precision"
CELLS = "ablation"
# Dropout x rate, each with three seeds and the report's 1,796 steps.
DROPOUT, DROPOUT_FAST = "one_hot", "one_hot_fast"  # 1e-4, 1e-3
NONE_SLOW, NONE = "one_hot_no_dropout_slow", "one_hot_no_dropout"  # 1e-4, 1e-3
NO_CONV, LONG = "one_hot_no_conv_dropout", "one_hot_long"
HALF, AUGMENTED = "one_hot_half", "one_hot_augmented"
# Softmax on integers and on one-hot is one function if losses and gradients differ by no more than float32 rounds off.
SAME_UP_TO = 1e-6
CONFUSED = "The report changed dropout and rate at once: no dropout at 1e-3 against dropout at 1e-4."


def _cell(evidence: Evidence, network: str, labels: str, dropout: str = "kept") -> list[pathlib.Path]:
    return estimates.find_cell(evidence.workdir / CELLS, network=network, labels=labels, dropout=dropout)


def _softmax_gap(evidence: Evidence) -> Found:
    return Found(estimates.count(evidence.facts["softmax_gap"]))


def _raised(part: str) -> Measure:
    """The change of the report, sigmoid on one-hot for softmax on integers, and the change of the encoding alone beside it."""

    def found(evidence: Evidence) -> Found:
        integers, one_hot, sigmoid = (
            _cell(evidence, "table 6", labels) for labels in ("softmax integers", "softmax one-hot", "sigmoid one-hot")
        )
        gap = evidence.facts["softmax_gap"]
        same = f"one function: their losses and gradients agree to {gap:.1g}" if gap <= SAME_UP_TO else ""
        alone = dataclasses.replace(estimates.difference(one_hot, integers, TOP1, part), same=same)
        beside = Beside("the encoding alone: softmax on one-hot minus softmax on integers", alone)
        return Found(estimates.difference(sigmoid, integers, TOP1, part), (beside,))

    return found


def _integers_score(evidence: Evidence) -> Found:
    seeds = _cell(evidence, "table 2", "softmax integers")
    return Found(estimates.score([estimates.read_splits(folder) for folder in seeds], BINARY))


def _between(ones: str, others: str) -> Measure:
    """Test mean average precision of one experiment minus that of another."""

    def found(evidence: Evidence) -> Found:
        return Found(estimates.difference(evidence.folders(ones), evidence.folders(others), MAP))

    return found


def _dropout(evidence: Evidence) -> Found:
    gaps = {
        rate: estimates.difference(evidence.folders(without), evidence.folders(kept), MAP)
        for rate, without, kept in (("1e-4", NONE_SLOW, DROPOUT), ("1e-3", NONE, DROPOUT_FAST))
    }
    also = [Beside(f"at {rate}", gap) for rate, gap in gaps.items()]
    own = estimates.difference(evidence.folders(NONE), evidence.folders(DROPOUT), MAP)
    also.append(Beside("the report's own pair: none at 1e-3 minus dropout at 1e-4, two changes at once", own))
    if evidence.has(CELLS):
        pair = [_cell(evidence, "table 6", "sigmoid one-hot", dropout) for dropout in ("removed", "kept")]
        also.append(Beside("top-1 at 1e-4 on rows of one genre, 15 epochs", estimates.difference(pair[0], pair[1], TOP1)))
    return Found(estimates.smallest(list(gaps.values())), tuple(also))


def _longer(part: str) -> Measure:
    """Four times the steps minus the report's, no dropout, the same seed."""

    def found(evidence: Evidence) -> Found:
        short, long = evidence.folders(NONE)[:1], evidence.folders(LONG)[:1]
        return Found(estimates.difference(long, short, MAP, part=part))

    return found


def _above_chance(evidence: Evidence) -> Found:
    return Found(estimates.against_chance(evidence.folders(DROPOUT), evidence.splits(DROPOUT)))


WHERE = "Conclusion"
SAME_NETWORK = "same network (Table 6), sigmoid on one-hot minus softmax on integers, the epoch chosen by validation"

ENCODING: tuple[Entry, ...] = (
    (
        Claim(
            "integer encoding trains the model incorrectly",
            WHERE,
            "largest difference of softmax cross entropy on integers and on one-hot, in losses and gradients",
            Above(1e-5),
        ),
        _softmax_gap,
    ),
    (
        Claim(
            "one-hot instead of integer encoding raised validation accuracy tremendously",
            WHERE,
            f"validation top-1, {SAME_NETWORK}",
            AtLeast(verdicts.GREATLY),
            (CELLS,),
            f'"Tremendously" is read as {verdicts.GREATLY:g} or more. The loss changes with the encoding, as in the report.',
        ),
        _raised("validation"),
    ),
    (
        Claim(
            "one-hot instead of integer encoding raised the accuracy",
            WHERE,
            f"test top-1, {SAME_NETWORK}",
            Above(0),
            (CELLS,),
            "The loss changes with the encoding, as in the report.",
        ),
        _raised("test"),
    ),
    (
        Claim(
            "integer encoding scored far less than 72.24 %",
            WHERE,
            "test binary accuracy (the measure of the 72.24 %) of Table 2's network, softmax on integers",
            Below(0.7224),
            (CELLS,),
        ),
        _integers_score,
    ),
)

DROPOUTS: tuple[Entry, ...] = (
    (
        Claim(
            "dropout is not helpful",
            WHERE,
            "test mean average precision, none minus dropout at equal rate, the smaller of the differences at 1e-4 and 1e-3",
            Above(-verdicts.MARGIN),
            (DROPOUT, DROPOUT_FAST, NONE_SLOW, NONE),
            f"Not helpful: none costs less than {verdicts.MARGIN:g} at both rates. {CONFUSED}",
        ),
        _dropout,
    ),
    (
        Claim(
            "without the first dropout the results look alike or better",
            f"{WHERE}, Figure 12",
            "test mean average precision at 1e-4, without minus with",
            Above(-verdicts.MARGIN),
            (NO_CONV, DROPOUT),
        ),
        _between(NO_CONV, DROPOUT),
    ),
    (
        Claim(
            "without any dropout and at 1e-3 the results look better",
            WHERE,
            "test mean average precision, none at 1e-3 minus dropout at 1e-4",
            Above(0),
            (NONE, DROPOUT),
            f"{CONFUSED} So the row does not say which of the two did it.",
        ),
        _between(NONE, DROPOUT),
    ),
)

IMPROVEMENTS: tuple[Entry, ...] = (
    (
        Claim(
            "training is stuck for want of epochs",
            WHERE,
            "training mean average precision, 4 times the steps minus the report's",
            Above(verdicts.MARGIN),
            (NONE, LONG),
        ),
        _longer("train"),
    ),
    (
        Claim(
            "it is possible to predict movie genre from posters",
            WHERE,
            "test mean average precision beside that of permuted labels",
            AboveChance(),
            (DROPOUT,),
        ),
        _above_chance,
    ),
    (
        Claim(
            "more epochs would improve it",
            WHERE,
            "test mean average precision, 4 times the steps minus the report's",
            Above(0),
            (NONE, LONG),
        ),
        _longer("test"),
    ),
    (
        Claim(
            "a grid of learning rates would improve it",
            WHERE,
            "test mean average precision with dropout, 1e-3 minus the report's 1e-4",
            Above(0),
            (DROPOUT_FAST, DROPOUT),
            "The grid is the other rate of the 2 x 2 of dropout and rate.",
        ),
        _between(DROPOUT_FAST, DROPOUT),
    ),
    (
        Claim(
            "more images would improve it",
            WHERE,
            "test mean average precision, all training posters minus half of them, the same number of steps",
            Above(0),
            (DROPOUT, HALF),
            "What more than all posters would give is read off what all give over half.",
        ),
        _between(DROPOUT, HALF),
    ),
    (
        Claim(
            "data augmentation would improve it",
            WHERE,
            "test mean average precision, with minus without flips, shifts, zoom and changes of colour",
            Above(0),
            (AUGMENTED, DROPOUT),
        ),
        _between(AUGMENTED, DROPOUT),
    ),
)
