"""The paper's claims, each measured on the finished workdirs of `protocols/reproduce.py` and judged by the rule of `verdicts`.

With softmax the paper's "accuracy" is top-1 accuracy. Rows have one genre there and classes are equally frequent, so its floor
is 1 / K. For the one-hot CNN it is Keras's "accuracy" under binary cross entropy, which is element-wise.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.verdicts import About, Above, AboveChance, Below, Claim, Estimate, Exactly, Within
from poster_jax.workdir import run_files

TOP1, BINARY, MAP = "top1_accuracy", "binary_accuracy", "mean_average_precision"
Row = tuple[Claim, Estimate]


def build(workdir: pathlib.Path, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All claims with their estimates and verdicts, ready for JSON.

    Args:
        workdir: has the finished workdir of each experiment.
        facts: from `facts`. "parameters": {"body", "total", "trainable"}. "population": {"num_movies", "counts"} of the six
            genres by any mention in the catalog of the full set, the most frequent first; None without a catalog.
            "softmax_gap": the largest difference between softmax cross entropy on integers and on one-hot.
    """
    rows = [
        *data_rows(facts),
        *transfer_rows(workdir),
        *search_rows(workdir),
        *one_hot_rows(workdir),
        *encoding_rows(workdir, facts),
    ]
    return [verdicts.as_row(claim, estimate) for claim, estimate in rows]


def data_rows(facts: Mapping[str, Any]) -> Iterator[Row]:
    """Claims of sections I-A and II-A: counts."""
    population = facts["population"]
    counts = list(population["counts"].values()) if population else []
    for text, where, measured, relation, value in (
        (
            "39,515 posters",
            "I-A",
            "movies in the catalog of genre strings",
            Exactly(39515),
            population and population["num_movies"],
        ),
        (
            "at least 1,000 posters for each of the six genres",
            "I-A, Figure 2",
            "movies of the rarest of the six, by any mention",
            Above(999),
            counts[-1] if counts else None,
        ),
        (
            "great imbalance between genres",
            "I-A, Figure 1",
            "movies of the most frequent of the six over those of the rarest",
            Above(2),
            counts[0] / counts[-1] if counts else None,
        ),
        (
            "449 steps of 32 an epoch: 14,368 to 14,399 training rows, 60 % of at least 3,991 a genre",
            "Table 1",
            "movies of the rarest of the six, by any mention",
            Above(3990),
            counts[-1] if counts else None,
        ),
    ):
        yield Claim(text, where, measured, relation), estimates.count(value)
    for text, name, target in (
        ("the body has 2,257,984 parameters", "body", 2257984),
        ("2,265,670 with its head", "total", 2265670),
        ("7,686 train when the body is frozen", "trainable", 7686),
    ):
        yield (
            Claim(text, "Figure 5", "parameters of our network at 128 x 128", Exactly(target)),
            estimates.count(facts["parameters"][name]),
        )


def transfer_rows(workdir: pathlib.Path) -> Iterator[Row]:
    """Claims of sections II-A and III-A: posters in [0, 1], as in the paper; the mean over seeds."""
    seeds = list(run_files.list_seeds(workdir / "transfer").values())
    paper = [seed["branches"][0] for seed in seeds]
    fitting = [seed["branches"][-1] for seed in seeds]
    where, fed = "III-A", "test top-1 accuracy after fine-tuning"
    yield (
        Claim("transfer learning reaches 30 % on the test set", where, f"{fed}, posters in [0, 1]", About(0.30)),
        estimates.score([branch["tuned"]["splits"] for branch in paper], TOP1),
    )
    yield (
        Claim("transfer learning reaches 30 % on the test set", where, f"{fed}, posters in the weights' range", About(0.30)),
        estimates.score([branch["tuned"]["splits"] for branch in fitting], TOP1),
    )
    lowest, *higher = sorted(head["learning_rate"] for head in paper[0]["frozen"])

    def best(branch: Mapping[str, Any], rate: float) -> float:
        return max(estimates.curve(estimates.find_head(branch, rate)["history"], "validation", TOP1))

    def roughness(branch: Mapping[str, Any], rate: float) -> float:
        return float(np.abs(np.diff(estimates.curve(estimates.find_head(branch, rate)["history"], "validation", TOP1))).mean())

    gaps = [best(branch, lowest) - max(best(branch, rate) for rate in higher) for branch in paper]
    yield (
        Claim(f"{lowest:g} is the best rate", "II-A", "its best validation top-1 minus the best of the other rates", Above(0)),
        verdicts.over_repeats(gaps, "seeds"),
    )
    rough = [roughness(branch, higher[-1]) - roughness(branch, lowest) for branch in paper]
    yield (
        Claim(
            "rates above 0.001 are erratic",
            "II-A",
            f"mean step of validation top-1 from epoch to epoch at {higher[-1]:g}, minus the same at {lowest:g}",
            Above(0),
        ),
        verdicts.over_repeats(rough, "seeds"),
    )
    for part, relation, text in (
        ("train", Above(0), "fine-tuning improves training accuracy greatly"),
        ("validation", Below(verdicts.MARGIN), "and does not raise validation accuracy"),
    ):
        gain = [
            branch["tuned"]["splits"][part]["metrics"][TOP1]["value"]
            - estimates.find_head(branch, branch["chosen_learning_rate"])["splits"][part]["metrics"][TOP1]["value"]
            for branch in paper
        ]
        yield (
            Claim(text, "III-A, Figure 7", f"{part} top-1, fine-tuned minus frozen", relation),
            verdicts.over_repeats(gain, "seeds"),
        )


def search_rows(workdir: pathlib.Path) -> Iterator[Row]:
    """Claims of sections II-B and III-B: the search."""
    winner = workdir / "search"
    networks = [folder / "range_0" for folder in run_files.list_seeds(workdir / "transfer")]
    yield (
        Claim(
            "the searched CNN is less accurate than transfer learning", "III-B", "test top-1, best CNN minus transfer", Below(0)
        ),
        estimates.difference([winner], networks, TOP1),
    )
    table = run_files.read_results(workdir / "rates")["search"]
    folds = [trial["folds"] for trial in table["trials"]]
    others = [None if None in row else float(np.mean(row)) for row in zip(*folds[1:5], strict=True)]
    yield (
        Claim("set 1 is worse than the others", "III-B, Figure 9", "fold top-1, mean of sets 2 to 5 minus set 1", Above(0)),
        estimates.over_folds(others, folds[0]),
    )
    yield (
        Claim(
            "its learning rate is what makes set 1 worse",
            "III-B",
            "fold top-1, set 1 at the rate of set 2 minus set 1",
            Above(0),
        ),
        estimates.over_folds(folds[5], folds[0]),
    )
    plain, normed = (run_files.read_results(workdir / name)["search"]["trials"] for name in ("search", "search_batch_norm"))
    changes = [
        None if None in (one["mean"], other["mean"]) else other["mean"] - one["mean"]
        for one, other in zip(plain, normed, strict=True)
    ]
    yield (
        Claim(
            "batch norm gives similar results",
            "III-B, Figure 10",
            "mean fold top-1 with minus without, trial by trial",
            Within(verdicts.MARGIN),
        ),
        verdicts.over_repeats(changes, "trials"),
    )


def one_hot_rows(workdir: pathlib.Path) -> Iterator[Row]:
    """Claims of section III-C and the conclusion: the one-hot CNN."""
    splits = [seed["splits"] for seed in run_files.list_seeds(workdir / "one_hot").values()]
    yield (
        Claim("the one-hot CNN has an accuracy of 72.24 %", "III-C", "test binary accuracy (element-wise)", About(0.7224)),
        estimates.score(splits, BINARY),
    )
    strict = [seed["splits"] for seed in run_files.list_seeds(workdir / "one_hot_strict").values()]
    yield (
        Claim(
            "the one-hot CNN has an accuracy of 72.24 %", "III-C, Table 5", "the same with a single 1 per row", About(0.7224)
        ),
        estimates.score(strict, BINARY),
    )
    zeros = [split["test"]["metrics"][BINARY]["all_zeros"] for split in splits]
    above = estimates.score(splits, BINARY)
    yield (
        Claim(
            "72.24 % shows that genres are predicted",
            "III-C",
            'test binary accuracy beside "no" to everything',
            Above(float(np.mean(zeros))),
        ),
        above,
    )
    yield (
        Claim(
            "it is possible to predict movie genre from posters",
            "Conclusion",
            "test mean average precision beside that of permuted labels",
            AboveChance(),
        ),
        estimates.against_chance(list(run_files.list_seeds(workdir / "one_hot")), splits),
    )
    yield from _dropout_rows(workdir)
    yield from _generalisation_rows(workdir)


def _dropout_rows(workdir: pathlib.Path) -> Iterator[Row]:
    with_all = list(run_files.list_seeds(workdir / "one_hot"))
    for name, text, where in (
        ("one_hot_no_conv_dropout", "dropout is not helpful: without the first one", "Conclusion, Figure 12"),
        ("one_hot_no_dropout", "without any dropout and at 1e-3 the results look better", "Conclusion"),
    ):
        relation = Above(-verdicts.MARGIN) if name == "one_hot_no_conv_dropout" else Above(0)
        measured = "test mean average precision, without minus with, mean over seeds"
        yield (
            Claim(text, where, measured, relation),
            estimates.difference(list(run_files.list_seeds(workdir / name)), with_all, MAP),
        )


def _generalisation_rows(workdir: pathlib.Path) -> Iterator[Row]:
    folders = [workdir / "one_hot" / "seed_0", workdir / "one_hot_split_1", workdir / "one_hot_split_2"]
    ends = [estimates.last_losses(folder) for folder in folders]
    over = "splits"
    yield (
        Claim(
            "validation beats training",
            "III-C, Figure 11",
            "validation loss minus the loss of training steps, with dropout on, in the last epoch",
            Below(0),
        ),
        verdicts.over_repeats([end["validation"] - end["train"] for end in ends], over),
    )
    fair = verdicts.over_repeats([end["validation"] - end["train_inference"] for end in ends], over)
    for text, relation in (("because of dropout", Above(0)), ("or because it was an easier sample to predict", Below(0))):
        yield Claim(text, "III-C", "validation loss minus training loss, both without dropout", relation), fair
    runs = [workdir / name for name in ("one_hot_no_dropout", "one_hot_long")]
    short, long = (list(run_files.list_seeds(run)) for run in runs)
    few, many = (next(iter(run_files.list_seeds(run).values()))["num_steps"] for run in runs)
    times = many / few
    yield (
        Claim(
            "training is stuck for want of epochs",
            "Conclusion",
            f"training mean average precision, {times:.3g} times the steps minus the paper's",
            Above(verdicts.MARGIN),
        ),
        estimates.difference(long, short[:1], MAP, part="train"),
    )
    yield (
        Claim(
            "more epochs would improve it",
            "Conclusion",
            f"test mean average precision, {times:.3g} times the steps minus the paper's",
            Above(0),
        ),
        estimates.difference(long, short[:1], MAP),
    )


def encoding_rows(workdir: pathlib.Path, facts: Mapping[str, Any]) -> Iterator[Row]:
    """Claims of the conclusion's first paragraph: the effect of the encoding, one change at a time."""
    where, raised = "Conclusion", "one-hot instead of integer encoding raised the accuracy"
    yield (
        Claim(
            "integer encoding trains the model incorrectly",
            where,
            "largest difference of softmax cross entropy on integers and on one-hot, in losses and gradients",
            Above(1e-5),
        ),
        estimates.count(facts["softmax_gap"]),
    )
    integers, one_hot, sigmoid = (
        estimates.find_cell(workdir / "ablation", network="table 6", labels=labels, dropout="kept")
        for labels in ("softmax integers", "softmax one-hot", "sigmoid one-hot")
    )
    narrow = estimates.find_cell(workdir / "ablation", network="table 2", labels="softmax integers", dropout="kept")
    free = estimates.find_cell(workdir / "ablation", network="table 6", labels="sigmoid one-hot", dropout="removed")
    same = "test top-1, same network (Table 6)"
    yield (
        Claim(raised, where, f"{same}, softmax on one-hot minus on integers", Above(0)),
        estimates.difference(one_hot, integers, TOP1),
    )
    yield (
        Claim(raised, where, f"{same}, sigmoid on one-hot minus softmax on integers", Above(0)),
        estimates.difference(sigmoid, integers, TOP1),
    )
    splits = [run_files.read_results(folder)["splits"] for folder in narrow]
    yield (
        Claim(
            "integer encoding scored far less than 72.24 %",
            where,
            "test binary accuracy (the measure of the 72.24 %) of Table 2's network, softmax on integers",
            Below(0.7224),
        ),
        estimates.score(splits, BINARY),
    )
    yield (
        Claim(
            "Table 6's network is better than Table 2's",
            "III-C",
            "test top-1, softmax on integers, Table 6 minus Table 2",
            Above(0),
        ),
        estimates.difference(integers, narrow, TOP1),
    )
    yield (
        Claim(
            "dropout is not helpful",
            where,
            "test top-1, Table 6, sigmoid, one rate, dropout removed minus kept",
            Above(-verdicts.MARGIN),
        ),
        estimates.difference(free, sigmoid, TOP1),
    )
