"""Claims of section III-C: the one-hot CNN. Its "accuracy" is Keras's under binary cross entropy, which is element-wise."""

import numpy as np

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.evidence import Entry, Evidence
from poster_jax.paper.verdicts import About, Above, Below, Beside, Claim, Estimate, Found

TOP1, BINARY, MAP = "top1_accuracy", "binary_accuracy", "mean_average_precision"
RUN, STRICT = "one_hot", "one_hot_strict"
SPLITS = ("one_hot", "one_hot_split_1", "one_hot_split_2")
CELLS = "ablation"
PADDING_NOTE = (
    "The report prints no padding: 3x3 convolutions without any (VALID) leave 47,872 features before the dense layer, SAME "
    "would leave 59,200."
)


def _accuracy(evidence: Evidence) -> Found:
    strict = estimates.score(evidence.splits(STRICT), BINARY)
    return Found(
        estimates.score(evidence.splits(RUN), BINARY), (Beside("with a single 1 per row, as Table 5 is printed", strict),)
    )


def _against_no(evidence: Evidence) -> Found:
    """The score minus that of "no" to everything on the same rows, which has no noise of its own."""
    found = estimates.score(evidence.splits(RUN), BINARY)
    zeros = float(np.mean([split["test"]["metrics"][BINARY]["all_zeros"] for split in evidence.splits(RUN)]))
    value, low, high = (None if number is None else number - zeros for number in (found.value, found.low, found.high))
    beside = Beside('"no" to everything', estimates.count(zeros))
    return Found(Estimate(value, low, high, found.over), (beside,))


def _better_than_all(evidence: Evidence) -> Found:
    strict = evidence.folders(STRICT)
    earlier = {"transfer": evidence.branch_folders("transfer"), "the search's best": [evidence.workdir / "search"]}
    by_map, by_top1 = (
        {name: estimates.difference(strict, folders, metric) for name, folders in earlier.items()} for metric in (MAP, TOP1)
    )
    also = [Beside(f"mean average precision, minus {name}", gap) for name, gap in by_map.items()]
    also += [Beside(f"top-1, minus {name}", gap) for name, gap in by_top1.items()]
    return Found(estimates.smallest(list(by_map.values())), tuple(also))


def _first_seeds(evidence: Evidence) -> list:
    return [evidence.folders(name)[0] for name in SPLITS]


def _gap_of_last_epochs(evidence: Evidence, metric: str, other: str) -> Estimate:
    """Validation minus `other`, a part of `estimates.last_epoch`, in the last epoch; over splits."""
    gaps: list[float | None] = []
    for folder in _first_seeds(evidence):
        ends = estimates.last_epoch(folder, metric)
        one, two = ends.get("validation"), ends.get(other)
        gaps.append(None if one is None or two is None else one - two)
    return verdicts.over_repeats(gaps, "splits")


def _above_training(evidence: Evidence) -> Found:
    return Found(
        _gap_of_last_epochs(evidence, BINARY, "train"),
        (Beside("loss instead of accuracy", _gap_of_last_epochs(evidence, "loss", "train")),),
    )


def _without_dropout(evidence: Evidence) -> Found:
    return Found(
        _gap_of_last_epochs(evidence, BINARY, "train_inference"),
        (Beside("loss instead of accuracy", _gap_of_last_epochs(evidence, "loss", "train_inference")),),
    )


def _table_6(evidence: Evidence) -> Found:
    wide, narrow = (
        estimates.find_cell(evidence.workdir / CELLS, network=network, labels="softmax integers", dropout="kept")
        for network in ("table 6", "table 2")
    )
    return Found(estimates.difference(wide, narrow, TOP1))


BOTH_WITHOUT = "validation minus training binary accuracy, both without dropout, after the last epoch"

ONE_HOT: tuple[Entry, ...] = (
    (
        Claim(
            "the one-hot CNN has an accuracy of 72.24 %",
            "III-C",
            "test binary accuracy (element-wise), all genres of a movie",
            About(0.7224),
            (RUN, STRICT),
            PADDING_NOTE,
        ),
        _accuracy,
    ),
    (
        Claim(
            "which is better than all previous models",
            "III-C",
            "test mean average precision on the same rows of one genre, minus the better of transfer and the search's best",
            Above(0),
            (STRICT, "transfer", "search"),
            "The report compares an element-wise accuracy with top-1 accuracies; here one measure ranks all.",
        ),
        _better_than_all,
    ),
    (
        Claim(
            "72.24 % shows that genres are predicted",
            "III-C",
            'test binary accuracy minus that of "no" to everything',
            Above(0),
            (RUN,),
        ),
        _against_no,
    ),
    (
        Claim(
            "validation accuracy is higher than training accuracy",
            "III-C, Figure 11",
            "validation binary accuracy minus that of training steps, with dropout on, in the last epoch",
            Above(0),
            SPLITS,
        ),
        _above_training,
    ),
    (
        Claim(
            "because of dropout", "III-C", BOTH_WITHOUT, Below(0), SPLITS, "If dropout is the cause, it vanishes without it."
        ),
        _without_dropout,
    ),
    (
        Claim("or because it was an easier sample to predict", "III-C", BOTH_WITHOUT, Above(0), SPLITS),
        _without_dropout,
    ),
    (
        Claim(
            "Table 6's network is better than Table 2's",
            "III-C",
            "test top-1, softmax on integers, Table 6 minus Table 2",
            Above(0),
            (CELLS,),
        ),
        _table_6,
    ),
)
