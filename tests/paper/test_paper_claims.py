"""The claims on workdirs made by hand: every claim has one row and one rule, and changed results turn its verdict both ways."""

import copy
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from poster_jax.paper import claims, estimates
from poster_jax.paper import evidence as evidence_lib
from poster_jax.paper import verdicts as verdicts_lib
from poster_jax.paper.verdicts import FAILS, HOLDS, OPEN, SHORT
from poster_jax.report.tables import claims_table
from poster_jax.workdir import run_files
from tests.helpers import made_paper
from tests.helpers.made_paper import FACTS, cell, set_curve, set_folds, set_last_epoch, set_metric, set_scores

Alter = Callable[[pathlib.Path, dict[str, Any]], object]
# In the report's order.
SECTIONS = ("I-A", "I-B", "II-A", "II-B", "III-A", "III-B", "III-C", "Conclusion")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return made_paper.write(tmp_path_factory.mktemp("claims"))


@pytest.fixture(scope="module")
def rows(finished: pathlib.Path) -> list[dict[str, Any]]:
    return claims.build(finished, FACTS)


def judge(folder: pathlib.Path, facts: dict[str, Any], text: str) -> dict[str, Any]:
    """The row of one claim; the others are not measured."""
    [(claim, how)] = [(claim, how) for claim, how in claims.ENTRIES if claim.text.startswith(text)]
    return verdicts_lib.as_row(claim, evidence_lib.measure(claim, how, evidence_lib.Evidence(folder, facts)))


def test_every_claim_stands_once_in_the_reports_order_with_its_rule(rows: list[dict[str, Any]]) -> None:
    texts = [row["claim"] for row in rows]
    assert len(set(texts)) == len(texts) > 35
    order = [SECTIONS.index(row["where"].partition(",")[0]) for row in rows]
    assert order == sorted(order)
    for row in rows:
        assert row["rule"].startswith("holds if ") and "\n" not in row["rule"]
        assert row["verdict"] in (HOLDS, FAILS, OPEN), row["claim"]
        assert row["value"] is not None, row["claim"]


def test_a_second_reading_stands_beside_the_row(rows: list[dict[str, Any]]) -> None:
    def beside(text: str) -> str:
        [row] = [row for row in rows if row["claim"].startswith(text)]
        assert all(other["value"] is not None for other in row["also"])
        return "; ".join(other["text"] for other in row["also"])

    assert "posters in the weights' range" in beside("transfer learning reaches 30 %")
    assert "a single 1 per row" in beside("the one-hot CNN has an accuracy of 72.24 %")
    assert "softmax on one-hot minus softmax on integers" in beside("one-hot instead of integer encoding raised the accuracy")
    assert "top-1, minus transfer" in beside("which is better than all") and "search" in beside("which is better than all")
    assert "the report's own pair" in beside("dropout is not helpful") and "at 1e-3" in beside("dropout is not helpful")
    assert "with batch norm" in beside("ten random draws") and "best of the ten" in beside("ten random draws")


def test_one_function_is_told_and_how_it_was_shown(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["claim"].startswith("one-hot instead of integer"):
            assert "losses and gradients agree to 1e-07" in row["also"][0]["same"]


def test_readings_that_were_chosen_are_told(rows: list[dict[str, Any]]) -> None:
    notes = " ".join([*(row["note"] for row in rows), *claims.READINGS])
    for text in ("47,872", "59,200", "exploded", "without repeats", "none beyond the table was run", "at once"):
        assert text in notes, text


def facts_with(**values: Any) -> Alter:
    return lambda _, facts: facts.update(values)


def counts(*numbers: int) -> Alter:
    named = dict(zip(("Drama", "Comedy", "Horror"), numbers, strict=True))
    return facts_with(population={"num_movies": 36917, "counts": named})


def depthwise(what: str, value: Any) -> Alter:
    return lambda _, facts: facts["depthwise"].update({what: value})


def scores(**qualities: float) -> Alter:
    """Scores of experiments; cells of the ablation are named by their place in it."""
    names = {"wide": cell("table 6", "softmax integers"), "narrow": cell("table 2", "softmax integers")}
    names["sigmoid"] = cell("table 6", "sigmoid one-hot")
    return lambda folder, _: [set_scores(folder / names.get(name, name), quality) for name, quality in qualities.items()]


def binary(low: float, high: float, name: str = "one_hot", **more: float) -> Alter:
    values = {"value": (low + high) / 2, "low": low, "high": high, "best_floor": 0.5, **more}
    return lambda folder, _: set_metric(folder / name, "binary_accuracy", values)


def top1(low: float, high: float) -> Alter:
    values = {"value": (low + high) / 2, "low": low, "high": high, "best_floor": 0.167}
    return lambda folder, _: set_metric(folder / "transfer", "top1_accuracy", values, branch=0)


def curve(part: str, values: list[float], rate: float = 0.0, name: str = "transfer") -> Alter:
    return lambda folder, _: set_curve(folder / name, part, values, rate)


def trials(name: str, folds: list[list[float]]) -> Alter:
    return lambda folder, _: set_folds(folder / name, folds)


def epoch(train: float, train_inference: float, validation: float) -> Alter:
    values = {"train": train, "train_inference": train_inference, "validation": validation}
    return lambda folder, _: set_last_epoch(folder, values)


def around(value: float, number: int) -> list[list[float]]:
    """Trials of nearly the same scores."""
    return [[value + 0.001 * n, value, value + 0.001, value] for n in range(number)]


RAISED = "one-hot instead of integer encoding raised"
NARROW = cell("table 2", "softmax integers")
CASES: list[tuple[str, str, Alter]] = [
    ("39,515 posters", HOLDS, facts_with()),
    ("39,515 posters", OPEN, counts(9000, 8000, 7000)),
    ("39,515 posters", OPEN, facts_with(population=None)),
    ("great imbalance", HOLDS, facts_with()),
    ("great imbalance", FAILS, counts(6000, 5000, 3990)),
    ("at least 1,000 posters", HOLDS, counts(6000, 5000, 1000)),
    ("at least 1,000 posters", FAILS, counts(6000, 5000, 999)),
    ("449 steps", HOLDS, counts(6000, 5000, 3991)),
    ("449 steps", OPEN, counts(6000, 5000, 3990)),
    ("449 steps", OPEN, facts_with(population=None)),
    ("depthwise separable convolutions decrease", HOLDS, facts_with()),
    ("depthwise separable convolutions decrease", FAILS, depthwise("parameters", {"separable": 80, "full": 10})),
    ("depthwise separable convolutions increase", HOLDS, facts_with()),
    ("depthwise separable convolutions increase", OPEN, depthwise("rounds", [[1.0, 0.5], [1.0, 2.0], [1.0, 1.0]])),
    ("depthwise separable convolutions increase", FAILS, depthwise("rounds", [[2.0, 1.0], [2.1, 1.0], [2.0, 1.1]])),
    ("a pretrained network speeds", HOLDS, facts_with()),
    ("a pretrained network speeds", FAILS, curve("train", [0.9, 0.9, 0.9], 1e-4, "transfer_drawn")),
    ("and helps it to predict", HOLDS, scores(transfer=0.9, transfer_drawn=0)),
    ("and helps it to predict", FAILS, scores(transfer=0, transfer_drawn=0.9)),
    ("0.0001 is the best rate", HOLDS, facts_with()),
    ("0.0001 is the best rate", FAILS, curve("validation", [0.2, 0.3, 0.4], 1e-2)),
    # The epoch that counts is the last.
    ("0.0001 is the best rate", HOLDS, curve("validation", [0.2, 0.9, 0.2], 1e-2)),
    ("0.0001 is slower", FAILS, facts_with()),
    ("0.0001 is slower", HOLDS, curve("validation", [0.28, 0.3, 0.2], 1e-2)),
    ("rates above 0.001 are erratic", HOLDS, facts_with()),
    ("rates above 0.001 are erratic", FAILS, curve("validation", [0.1, 0.9, 0.1], 1e-4)),
    ("fine-tuning improves", HOLDS, facts_with()),
    ("fine-tuning improves", FAILS, curve("train", [0.9, 0.35])),
    ("and validation accuracy remains", HOLDS, facts_with()),
    ("and validation accuracy remains", FAILS, curve("validation", [0.3, 0.4])),
    ("and validation accuracy remains", FAILS, curve("validation", [0.3, 0.2])),
    ("about 30 % on the validation set", HOLDS, curve("validation", [0.9, 0.32])),
    ("about 30 % on the validation set", FAILS, curve("validation", [0.3, 0.4])),
    ("about 30 % on the validation set", FAILS, curve("validation", [0.3, 0.2])),
    ("transfer learning reaches 30 %", HOLDS, top1(0.32, 0.4)),
    ("transfer learning reaches 30 %", HOLDS, top1(0.5, 0.6)),
    ("transfer learning reaches 30 %", OPEN, top1(0.28, 0.32)),
    ("transfer learning reaches 30 %", FAILS, top1(0.2, 0.28)),
    ("ten random draws", HOLDS, trials("rates", around(0.3, 6))),
    ("ten random draws", FAILS, trials("rates", around(0.2, 6))),
    ("the searched CNN is less accurate", HOLDS, scores(search=0, transfer=0.9)),
    ("the searched CNN is less accurate", FAILS, scores(search=0.9, transfer=0)),
    ("set 1 is worse", HOLDS, facts_with()),
    ("set 1 is worse", FAILS, trials("rates", [[0.4, 0.41, 0.4, 0.4], *around(0.3, 5)])),
    ("its learning rate is what", HOLDS, facts_with()),
    ("its learning rate is what", FAILS, trials("rates", [[0.4, 0.41, 0.4, 0.4], *around(0.3, 5)])),
    ("batch norm gives similar", HOLDS, facts_with()),
    ("batch norm gives similar", FAILS, trials("search_batch_norm", around(0.4, 10))),
    ("the one-hot CNN has an accuracy", HOLDS, binary(0.71, 0.74)),
    ("the one-hot CNN has an accuracy", FAILS, binary(0.8, 0.9)),
    ("the one-hot CNN has an accuracy", OPEN, binary(0.71, 0.74, best_floor=0.72)),
    ("which is better than all", HOLDS, scores(one_hot_strict=0.9, transfer=0, search=0.1)),
    ("which is better than all", FAILS, scores(one_hot_strict=0.1, transfer=0, search=0.9)),
    ("which is better than all", FAILS, scores(one_hot_strict=0.1, transfer=0.9, search=0)),
    ("72.24 % shows", HOLDS, binary(0.71, 0.74, all_zeros=0.7)),
    ("72.24 % shows", OPEN, binary(0.71, 0.74, all_zeros=0.72)),
    ("72.24 % shows", FAILS, binary(0.71, 0.74, all_zeros=0.75)),
    ("validation accuracy is higher", HOLDS, epoch(0.6, 0.9, 0.7)),
    ("validation accuracy is higher", FAILS, epoch(0.8, 0.9, 0.7)),
    ("because of dropout", HOLDS, epoch(0.6, 0.9, 0.7)),
    ("because of dropout", FAILS, epoch(0.6, 0.65, 0.7)),
    ("or because it was an easier", HOLDS, epoch(0.6, 0.65, 0.7)),
    ("or because it was an easier", FAILS, epoch(0.6, 0.9, 0.7)),
    ("Table 6's network is better", HOLDS, scores(wide=0.9, narrow=0)),
    ("Table 6's network is better", FAILS, scores(wide=0, narrow=0.9)),
    ("integer encoding trains", FAILS, facts_with()),
    ("integer encoding trains", HOLDS, facts_with(softmax_gap=0.1)),
    (f"{RAISED} validation accuracy", HOLDS, scores(sigmoid=0.9, wide=0)),
    (f"{RAISED} validation accuracy", FAILS, scores(sigmoid=0, wide=0.9)),
    (f"{RAISED} the accuracy", HOLDS, scores(sigmoid=0.9, wide=0)),
    # Exactly 0, between two networks that answer alike.
    (f"{RAISED} the accuracy", OPEN, scores(sigmoid=1, wide=1)),
    (f"{RAISED} the accuracy", FAILS, scores(sigmoid=0, wide=0.9)),
    ("integer encoding scored far less", HOLDS, binary(0.6, 0.7, NARROW)),
    ("integer encoding scored far less", FAILS, binary(0.8, 0.9, NARROW)),
    ("dropout is not helpful", HOLDS, scores(one_hot=0, one_hot_fast=0, one_hot_no_dropout=0.9, one_hot_no_dropout_slow=0.9)),
    # It helps at one of the rates.
    ("dropout is not helpful", FAILS, scores(one_hot=0, one_hot_fast=0.9, one_hot_no_dropout=0, one_hot_no_dropout_slow=0.9)),
    ("dropout is not helpful", FAILS, scores(one_hot=0.9, one_hot_fast=0, one_hot_no_dropout=0.9, one_hot_no_dropout_slow=0)),
    ("without the first dropout", HOLDS, scores(one_hot_no_conv_dropout=0.9, one_hot=0)),
    ("without the first dropout", FAILS, scores(one_hot_no_conv_dropout=0, one_hot=0.9)),
    ("without any dropout", HOLDS, scores(one_hot_no_dropout=0.9, one_hot=0)),
    ("without any dropout", FAILS, scores(one_hot_no_dropout=0, one_hot=0.9)),
    ("training is stuck", HOLDS, scores(one_hot_long=0.9, one_hot_no_dropout=0)),
    ("training is stuck", FAILS, scores(one_hot_long=0, one_hot_no_dropout=0.9)),
    ("it is possible to predict", HOLDS, facts_with()),
    ("it is possible to predict", OPEN, lambda folder, _: made_paper.shuffle_labels(folder / "one_hot")),
    ("more epochs", HOLDS, scores(one_hot_long=0.9, one_hot_no_dropout=0)),
    ("more epochs", FAILS, scores(one_hot_long=0, one_hot_no_dropout=0.9)),
    ("a grid of learning rates", HOLDS, scores(one_hot_fast=0.9, one_hot=0)),
    ("a grid of learning rates", FAILS, scores(one_hot_fast=0, one_hot=0.9)),
    ("more images", HOLDS, scores(one_hot=0.9, one_hot_half=0)),
    ("more images", FAILS, scores(one_hot=0, one_hot_half=0.9)),
    ("data augmentation", HOLDS, scores(one_hot_augmented=0.9, one_hot=0)),
    ("data augmentation", FAILS, scores(one_hot_augmented=0, one_hot=0.9)),
]


@pytest.mark.parametrize(("text", "expected", "alter"), CASES, ids=[f"{text[:30]}-{expected}" for text, expected, _ in CASES])
def test_altered_results_turn_the_verdict_of_every_claim(
    text: str, expected: str, alter: Alter, finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder, facts = shutil.copytree(finished, tmp_path / "altered"), copy.deepcopy(FACTS)
    alter(folder, facts)
    assert judge(folder, facts, text)["verdict"] == expected


def test_no_claim_is_left_without_a_case_on_both_sides() -> None:
    for claim, _ in claims.ENTRIES:
        expected = {verdict for text, verdict, _ in CASES if claim.text.startswith(text)}
        assert HOLDS in expected and expected & {FAILS, OPEN}, claim.text


def test_what_was_not_run_is_not_measured(finished: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "part")
    shutil.rmtree(folder / "table4")
    found = judge(folder, FACTS, "ten random draws")
    assert (found["value"], found["verdict"]) == (None, OPEN)
    assert judge(folder, FACTS, "batch norm gives similar")["verdict"] == HOLDS


def test_a_reduced_experiment_gives_no_verdict_to_what_rests_on_it(finished: pathlib.Path) -> None:
    reduced = {"transfer": ["train.num_epochs: 20.0 -> 3.0"], "search": []}
    for row in claims.build(finished, FACTS, reduced=reduced):
        touched = "transfer" in row["rests_on"]
        assert (row["verdict"] == SHORT) == touched, row["claim"]
        assert row["reduction"] == ("transfer with train.num_epochs: 20.0 -> 3.0" if touched else "")


def test_drawn_posters_get_no_verdict_at_all_and_one_sentence(finished: pathlib.Path) -> None:
    rows = claims.build(finished, FACTS, judged=False)
    assert {row["verdict"] for row in rows} == {""}
    text = claims_table.ledger_text({"ledger": rows, "reductions": [], "withheld": "No verdicts: the posters are drawn."})
    assert text.count("No verdicts") == 1
    for verdict in (HOLDS, FAILS, OPEN, SHORT):
        assert f"{verdict}; rule" not in text and f"{verdict}: " not in text


def test_a_difference_between_equal_networks_is_none(finished: pathlib.Path) -> None:
    networks = list(run_files.list_seeds(finished / "one_hot"))
    gap = estimates.difference(networks, networks, "mean_average_precision")
    assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
    other = estimates.difference(networks[:1], networks[1:], "mean_average_precision")
    assert other.low is not None and other.high is not None and other.low < (other.value or 0.0) < other.high


def test_the_last_losses_are_those_of_the_last_epoch(tmp_path: pathlib.Path) -> None:
    lines = [("train", 5, 9.0), ("validation", 10, 8.0), ("train", 15, 3.0), ("train", 20, 5.0), ("validation", 20, 2.0)]
    text = "".join(json.dumps({"step": step, "part": part, "loss": loss}) + "\n" for part, step, loss in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert estimates.last_epoch(tmp_path) == {"train": 4.0, "validation": 2.0}


def test_a_line_counts_as_many_times_as_it_has_steps(tmp_path: pathlib.Path) -> None:
    """Losses logged at 4 and 6 are means over four steps and over two."""
    lines = [("train", 4, 3.0), ("train", 6, 6.0), ("validation", 6, 2.0)]
    text = "".join(json.dumps({"step": step, "part": part, "loss": loss}) + "\n" for part, step, loss in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert estimates.last_epoch(tmp_path)["train"] == pytest.approx((4 * 3 + 2 * 6) / 6)
    assert estimates.last_epoch(tmp_path, "binary_accuracy")["train"] is None


def test_the_text_and_the_table_say_all_of_it(rows: list[dict[str, Any]]) -> None:
    printed = [{"fact": "steps", "where": "Table 1", "report": "449", "ours": "44"}]
    results = {"ledger": rows, "reductions": ["train.num_epochs=3.0"], "printed": printed, "readings": claims.READINGS}
    text, table = claims_table.ledger_text(results), claims_table.ledger_table(results)
    assert "Reduced, so not the paper's own scale: train.num_epochs=3.0." in text and "train.num_epochs=3.0" in table.caption
    assert len(table.rows) == len(rows) and {row[1] for row in table.rows} == {row["verdict"] for row in rows}
    assert all(len(line) <= 180 for line in text.splitlines())
    flat = " ".join(text.split())
    for row in rows:
        if row["floor"] is not None:
            assert f"floor {row['floor']:.3f}" in text
        assert row["rule"][:40] in flat
    assert claims_table.facts_table(results).rows == [["steps", "Table 1", "449", "44"]] and "ours: 44" in text
    assert "Reduced" not in claims_table.ledger_text({**results, "reductions": []})


def test_a_ledger_of_an_older_version_is_shown() -> None:
    old = {"claim": "c", "where": "I", "measured": "m", "asked": {"relation": "about", "target": 0.3}, "value": 0.3, "low": 0.2}
    old |= {"high": 0.4, "over": "movies", "floor": 0.1, "ceiling": None, "verdict": HOLDS}
    results = {"ledger": [old], "reductions": []}
    assert "holds; rule: holds if = 0.3" in claims_table.ledger_text(results)
    assert claims_table.ledger_table(results).rows[0][4] == "floor 0.100"


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    # The training line at an evaluation's step is about the steps before it.
    [((10, 20), 4.0), ((20,), 19 / 4), ((5, 10, 20), 4.0), ((10, 15, 20), 5.0)],
)
def test_the_last_training_loss_is_of_the_steps_since_the_evaluation_before(
    evaluations: tuple[int, ...], expected: float, tmp_path: pathlib.Path
) -> None:
    lines = []
    for step, loss in ((5, 9.0), (10, 2.0), (15, 3.0), (20, 5.0)):
        lines.append({"step": step, "part": "train", "loss": loss})
        if step in evaluations:
            lines += [{"step": step, "part": part, "loss": loss / 2} for part in ("train_inference", "validation")]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert estimates.last_epoch(tmp_path) == {"train": expected, "train_inference": 2.5, "validation": 2.5}
