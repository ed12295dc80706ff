"""The transfer protocol as a process: its results and its refusals."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main
from poster_jax.data import input_pipeline, splits
from poster_jax.protocols import transfer
from poster_jax.report.tables import transfer_table
from poster_jax.runtime import sharding
from poster_jax.train import heads
from poster_jax.workdir import run_files
from tests.helpers import processes, runs

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRANSFER = f"{ROOT}/configs/transfer_mobilenet.py:smoke"
# One branch, an evaluation and a checkpoint every third step of twelve.
ARGUMENTS = (
    "--verbose",
    f"--config={TRANSFER}",
    "--config.transfer.input_ranges=((),)",
    "--config.train.num_epochs=0.0",
    "--config.train.num_steps=12",
    "--config.checkpoint.every_epochs=0.0",
    "--config.checkpoint.every_steps=3",
    "--config.eval.every_epochs=0.0",
    "--config.eval.every_steps=3",
    "--config.eval.bootstrap_samples=10",
    "--config.train.average_decay=0.9",
    "--config.model.dropout=0.2",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    workdir = tmp_path_factory.mktemp("transfer") / "run"
    code, said = processes.finish(processes.start(ARGUMENTS, workdir))
    assert code == 0, said
    return workdir, said


def test_results_hold_every_stage_beside_baselines_on_the_same_features(uninterrupted: tuple[pathlib.Path, str]) -> None:
    workdir, out = uninterrupted
    results = json.loads((workdir / "results.json").read_text())
    [branch] = results["branches"]
    assert [head["learning_rate"] for head in branch["frozen"]] == [1e-4, 1e-3, 1e-2]
    for head in branch["frozen"]:
        assert [(row["epoch"], row["part"]) for row in head["history"]] == [
            (epoch, part) for epoch in (1.0, 2.0) for part in ("train", "validation")
        ]
    # The report's run 1, whatever validation says.
    assert branch["chosen_learning_rate"] == 1e-4
    assert {row["part"] for row in branch["tuned"]["history"]} == {"train", "validation"}
    assert set(results["baselines"]) == {"color_histogram_logistic", "feature_neighbours", "feature_logistic"}
    assert results["splits"] == branch["tuned"]["splits"]
    assert transfer_table.transfer_table([results]).strip() in out
    assert (workdir / "samples.npz").exists()


def test_a_finished_run_is_only_read(uninterrupted: tuple[pathlib.Path, str], capsys: pytest.CaptureFixture) -> None:
    before = (uninterrupted[0] / "results.json").stat().st_mtime_ns
    assert main.main([*ARGUMENTS, f"--workdir={uninterrupted[0]}"]) == 0
    assert (uninterrupted[0] / "results.json").stat().st_mtime_ns == before
    assert "fine-tuned, training" in capsys.readouterr().out


def test_fine_tuning_starts_from_the_last_epoch_of_the_rate_that_is_given() -> None:
    tuned = [
        heads.Head(rate, {"kernel": f"{rate:g} best"}, {"kernel": f"{rate:g} last"}, 1, value, [])
        for rate, value in ((1e-4, 0.3), (1e-3, 0.5), (1e-2, 0.4))
    ]
    start, params = transfer.choose_start(tuned, 1e-4)
    assert (start.learning_rate, params) == (1e-4, {"kernel": "0.0001 last"})
    start, params = transfer.choose_start(tuned, 0.0)
    assert (start.learning_rate, params) == (1e-3, {"kernel": "0.001 best"})


def test_longer_heads_are_refused_with_the_reason_and_damage_is_measured_again(
    uninterrupted: tuple[pathlib.Path, str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    workdir = shutil.copytree(uninterrupted[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert main.main([*ARGUMENTS, "--config.transfer.head_epochs=3.0", f"--workdir={workdir}"]) == 2
    assert "transfer.head_epochs: 2.0 -> 3.0, but the network is fine-tuned from the heads" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
    results = json.loads((workdir / "results.json").read_text())
    del results["branches"][0]["tuned"]["splits"]["test"]["per_genre"]
    (workdir / "results.json").write_text(json.dumps(results))
    code, said = processes.finish(processes.start(ARGUMENTS, workdir))
    assert code == 0 and "results.json is damaged (branches[0].tuned.splits.test.per_genre: missing), so it is measured" in said
    assert (workdir / "results.json").read_bytes() == before[workdir / "results.json"]


def result(test: float, chosen: float, encoding: str = "first") -> dict[str, Any]:
    metric = {"value": test, "low": test - 0.1, "high": test + 0.1, "best_floor": 0.167}
    measured = {"metrics": {"top1_accuracy": metric, "mean_average_precision": metric}}
    parts = dict.fromkeys(splits.PARTS, measured)
    branch = {
        "input_range": [0.0, 1.0],
        "bn_mode": "training",
        "frozen": [{"learning_rate": 1e-3, "splits": parts}],
        "chosen_learning_rate": chosen,
        "tuned": {"learning_rate": 1e-5, "splits": parts},
    }
    return {"data": {"encoding": encoding}, "splits": parts, "baselines": {"feature_neighbours": parts}, "branches": [branch]}


def test_the_table_says_floor_interval_and_how_often_a_rate_was_chosen() -> None:
    lines = transfer_table.transfer_table([result(0.3, 1e-3), result(0.4, 1e-4)]).splitlines()
    assert "floor 0.167" in lines[0]
    assert "range over 2 seeds" in lines[0]
    assert "chosen 1 of 2" in lines[2]
    assert lines[2].endswith("0.350  [0.300, 0.400]")
    single = transfer_table.transfer_table([result(0.3, 1e-3, "multi_hot")])
    assert single.startswith("mean_average_precision")
    assert "[0.200, 0.400]" in single


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((("transfer.learning_rates", "()"),), "one or more"),
        ((("transfer.learning_rates", "(0.0,)"),), "above zero"),
        ((("transfer.input_ranges", "((1.0, 0.0),)"),), "low below high"),
        ((("transfer.unfreeze_epochs", "1.0"),), "bn_mode=frozen"),
        ((("model.bn_mode", "froze"),), 'did you mean "frozen"'),
        ((("data.num_auxiliary", "3"),), "multi_hot"),
        ((("transfer.head_epochs", "0.0"),), "above zero"),
        ((("transfer.start_rate", "5e-4"),), "no head to start from"),
        ((("transfer.start_rate", "-1e-4"),), "below zero"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(overrides: tuple[tuple[str, str], ...], says: str) -> None:
    with pytest.raises(errors.UserError, match=says):
        config_lib.load(TRANSFER, overrides)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--config.model.weights=keras:none.h5", "does not exist"),
        ("--config.model.weights=nonsense", "is unknown"),
        ("--config.model.train_from=block_17", "is unknown"),
        ("--config.data.image_size=(31, 40)", "32 px a side"),
    ],
)
def test_bad_weights_and_sizes_end_with_exit_code_2(
    argument: str, says: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    assert main.main([f"--config={TRANSFER}", argument, f"--workdir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run" / "results.json").exists()


def test_weights_of_another_width_are_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture, shared_dir: pathlib.Path
) -> None:
    weights = f"keras:{shared_dir}/weights/mobilenetv2_1.00_160_keras.h5"
    arguments = [f"--config={TRANSFER}", f"--config.model.weights={weights}", f"--workdir={tmp_path / 'run'}"]
    assert main.main(arguments) == 2
    assert "--config.model.width=1" in capsys.readouterr().err


def test_the_summary_is_the_paper_s_figure_5(capsys: pytest.CaptureFixture) -> None:
    assert main.main([f"--config={ROOT}/configs/transfer_mobilenet.py", "--summary"]) == 0
    out = capsys.readouterr().out
    for number in ("2257984", "7686", "2,265,670", "2,231,558"):
        assert number in out
    assert main.main([f"--config={ROOT}/configs/cnn_onehot.py", "--summary"]) == 0
    assert "6,295,558" in capsys.readouterr().out


def test_auxiliary_genres_are_learnt_and_not_measured(tmp_path: pathlib.Path) -> None:
    """The recipe of the config, in three steps; its synthetic posters have six genres, so that three leave some over."""
    overrides = {
        "data.num_genres": "3",
        "data.num_auxiliary": "2",
        "transfer.learning_rates": "(1e-2,)",
        "transfer.head_epochs": "1.0",
        "train.num_epochs": "0.0",
        "train.num_steps": "3",
        "eval.bootstrap_samples": "2",
        # So that cached features give the scores, and programs are small.
        "model.train_from": "head",
        "eval.mirror": "False",
    }
    config = config_lib.load(f"{ROOT}/configs/finetune_mobilenet.py:smoke", overrides.items())
    feed = input_pipeline.open_loader(config.data, sharding.make_shardings(jax.devices()[:1]))
    rows = feed.rows
    assert (len(rows.genres), rows.num_outputs) == (3, 5)
    outcome, tuned = transfer.run_branch(runs.make_run(config, feed, tmp_path), None)

    [head] = outcome["frozen"]
    for part, at in rows.parts.items():
        assert tuned.scores[part].shape == (len(at), 3)
        for measured in (head, outcome["tuned"]):
            assert list(measured["splits"][part]["per_genre"]) == list(rows.genres)
    # Biases do not decay, so what moved them from zero is the loss.
    assert (np.asarray(tuned.variables["params"]["head"]["bias"]) != 0).all()

    at = rows.parts["validation"]
    logits = np.asarray(tuned.model.apply(tuned.variables, tuned.features.of(at), False, method="classify"))
    np.testing.assert_allclose(tuned.scores["validation"], 1 / (1 + np.exp(-logits[:, :3])), rtol=1e-4)
    terms = np.logaddexp(0, logits) - (0.95 * rows.target[at] + 0.025) * logits
    best = (outcome["tuned"]["best_step"], "validation")
    lines = run_files.read_lines(tmp_path)
    [told] = [line["loss"] for line in lines if (line["step"], line["part"]) == best]
    assert told == pytest.approx(terms.mean(), rel=1e-4)
    assert abs(terms[:, :3].mean() - told) > 1e-3, "a loss of the measured genres alone must be told apart"
