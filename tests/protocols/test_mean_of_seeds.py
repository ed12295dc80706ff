"""Several seeds as one: the mean of their scores, measured beside the mean of their metrics, and what `predict` answers."""

import html
import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import poster_jax
from poster_jax import config as config_lib
from poster_jax import features, main, predict
from poster_jax.metrics import calibration, definitions, scoring
from poster_jax.report import page
from poster_jax.report.tables import cells
from poster_jax.workdir import run_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = (3, 4)
RUN = (
    f"--config={ROOT}/configs/cnn_onehot.py:smoke",
    f"--config.seed={SEEDS[0]}",
    f"--config.num_seeds={len(SEEDS)}",
    "--config.train.num_epochs=1.0",
    "--config.eval.bootstrap_samples=20",
    "--config.eval.baselines=False",
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("seeds") / "run"
    assert main.main([*RUN, f"--workdir={workdir}"]) == 0
    return workdir


def read(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "results.json").read_text())


def arrays_of(workdir: pathlib.Path) -> list[dict[str, np.ndarray]]:
    found = []
    for seed in SEEDS:
        with np.load(workdir / f"seed_{seed}" / "predictions.npz") as arrays:
            found.append(dict(arrays))
    return found


def mean_scores(workdir: pathlib.Path, part: str) -> np.ndarray:
    return np.mean([arrays[f"{part}_score"].astype(np.float64) for arrays in arrays_of(workdir)], axis=0)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_mean_of_the_scores_is_measured_as_any_scores_are(workdir: pathlib.Path, part: str) -> None:
    """Against numpy and the definitions on the saved predictions; the mean of the metrics is another number."""
    results = read(workdir)
    split = results["mean_of_scores"]["splits"][part]
    held, label = mean_scores(workdir, part), arrays_of(workdir)[0][f"{part}_label"]
    validation = mean_scores(workdir, "validation").astype(np.float32)
    tuned = scoring.choose_thresholds(validation, arrays_of(workdir)[0]["validation_label"])
    assert [entry["threshold@tuned"] for entry in split["per_genre"].values()] == tuned.tolist()
    targets = definitions.make_targets(label, held.shape[1])
    values = {name: split["metrics"][name]["value"] for name in ("binary_accuracy", "binary_accuracy@tuned", "top1_accuracy")}
    answers = held.astype(np.float32)
    assert values["binary_accuracy"] == pytest.approx(((answers >= 0.5) == targets).mean())
    assert values["binary_accuracy@tuned"] == pytest.approx(((answers >= tuned) == targets).mean())
    assert values["top1_accuracy"] == pytest.approx(targets[np.arange(len(held)), held.argmax(1)].mean())
    of_mean = split["metrics"]["mean_average_precision"]
    assert of_mean["value"] == pytest.approx(scoring.headline(answers, label)["mean_average_precision"])
    assert of_mean["low"] <= of_mean["high"] and of_mean["best_floor"] > 0 and of_mean["chance"] > 0
    of_seeds = [one["splits"][part]["metrics"]["mean_average_precision"]["value"] for one in results["seeds"]]
    assert of_mean["value"] != pytest.approx(np.mean(of_seeds), abs=1e-6)


def test_it_has_a_row_of_the_closing_table_and_a_column_of_the_full_one(
    workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = read(workdir)["mean_of_scores"]["splits"]["test"]["metrics"]["mean_average_precision"]
    assert main.main([*RUN, f"--workdir={workdir}"]) == 0
    said = capsys.readouterr().out
    [row] = [line for line in said.splitlines() if line.startswith("mAP, mean of scores  ")]
    assert row.split()[4:] == [*cells.value(entry).split(), f"{entry['best_floor']:.3f}", f"{entry['chance']:.3f}"]
    assert "mAP, mean of scores: the seeds' scores averaged; [95 % interval]" in said
    assert main.main([*RUN, "--verbose", f"--workdir={workdir}"]) == 0
    said = capsys.readouterr().out
    assert cells.value(entry) in said and max(map(len, said.splitlines())) <= 120


def test_the_page_has_a_table_of_it_beside_those_of_the_seeds(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    text = html.unescape(page.write([workdir], tmp_path / "page.html")[0].read_text())
    for entry in read(workdir)["mean_of_scores"]["splits"]["test"]["metrics"].values():
        assert cells.value(entry) in text
    assert "The 2 networks as one, each poster with the mean of their scores" in text
    shutil.copytree(workdir, tmp_path / "older")
    results = read(workdir)
    del results["mean_of_scores"]
    (tmp_path / "older" / "results.json").write_text(json.dumps(results))
    older = page.write([tmp_path / "older"], tmp_path / "older.html")[0].read_text()
    assert "The 2 networks as one" not in older


def test_a_second_start_reads_it_and_measures_what_is_missing_or_damaged(
    workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workdir / "results.json"
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert main.main([*RUN, f"--workdir={workdir}"]) == 0
    assert path.stat().st_mtime_ns == stamp
    for spoil in (
        lambda results: results.pop("mean_of_scores"),
        lambda results: results["mean_of_scores"]["splits"].pop("test"),
        lambda results: results["mean_of_scores"]["calibration"]["thresholds"].popitem(),
        lambda results: results["mean_of_scores"]["splits"]["test"].update(num_rows=1),
    ):
        results = read(workdir)
        spoil(results)
        path.write_text(json.dumps(results))
        assert main.main([*RUN, f"--workdir={workdir}"]) == 0
        assert path.read_bytes() == before


def test_predict_answers_with_the_mean_and_says_so(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (268, 182, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "poster.png")
    answers = tmp_path / "answers.json"
    arguments = [str(workdir), str(tmp_path / "poster.png"), f"--json={answers}", f"--explain={tmp_path / 'maps'}"]
    assert predict.main(arguments) == 0
    said = capsys.readouterr()
    assert "by the mean of the scores of 2 networks, seeds 3, 4" in said.err
    assert len(list((tmp_path / "maps").iterdir())) == 1

    results = read(workdir)["mean_of_scores"]
    network = poster_jax.load(workdir)
    temperatures, thresholds = calibration.of_results(results, network.genres)
    assert temperatures is not None and network.seeds == SEEDS
    [found] = json.loads(answers.read_text())["pictures"]
    shown = np.array(list(found["probabilities"].values()))
    alone = [poster_jax.load(workdir / f"seed_{seed}") for seed in SEEDS]
    for seed, one in zip(SEEDS, alone, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.variables, network.variables[f"seed_{seed}"])
    # The scores of each as they were before calibration, whose temperatures are its own.
    own = [read(workdir)["seeds"][place] for place in range(2)]
    raw = []
    for one, each in zip(alone, own, strict=True):
        its, _ = calibration.of_results(each, network.genres)
        calibrated = np.array(one.predict(tmp_path / "poster.png").probabilities, np.float64)
        raw.append(1 / (1 + ((1 - calibrated) / calibrated) ** np.asarray(its, np.float64)))
    np.testing.assert_allclose(shown, calibration.apply(np.mean(raw, axis=0), temperatures), atol=1e-5)
    assert np.abs(shown - calibration.apply(raw[0], temperatures)).max() > 1e-4
    assert list(json.loads(answers.read_text())["thresholds"].values()) == thresholds.tolist()


def test_what_needs_one_network_is_refused_all_of_them(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features.main([str(workdir), f"--out={tmp_path / 'a.npz'}"]) == 2
    assert f"holds several networks, and one is needed here: give one of {workdir / 'seed_3'}" in capsys.readouterr().err
    # Nor has the report's network a body that others could stand on.
    assert features.main([str(workdir / "seed_3"), f"--out={tmp_path / 'a.npz'}"]) == 2
    assert "is a network without a body" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_one_network_has_no_mean(tmp_path: pathlib.Path) -> None:
    config = config_lib.load(RUN[0].partition("=")[2])
    assert config.num_seeds == 1
    assert main.main([*RUN, "--config.num_seeds=1", f"--workdir={tmp_path / 'run'}"]) == 0
    assert "mean_of_scores" not in run_files.read_whole(tmp_path / "run")
    assert poster_jax.load(tmp_path / "run").seeds == ()
