"""The network that comes with the package: whole, small, and with the scores that it says it has."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import poster_jax
from poster_jax import predict
from poster_jax.metrics import calibration
from poster_jax.runtime import storage
from poster_jax.workdir import run_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
POSTERS = ROOT.parent / "shared" / "data" / "posters" / "posters"
NUM_POSTERS = 48
RELEASED = storage.as_path(predict.DEFAULT_RUN)


def test_it_is_whole_and_small_and_says_where_it_comes_from() -> None:
    about = json.loads((RELEASED / "release.json").read_text())
    files = {path.name: path.read_bytes() for path in RELEASED.iterdir() if path.name != "release.json"}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == about["sha256"]
    assert sum(map(len, files.values())) <= 10_000_000
    card = files["MODEL_CARD.md"].decode()
    assert "which are not known here" not in card and "posters" in card
    for name, content in files.items():
        assert b"/work/" not in content and b"/home/" not in content and b"/root/" not in content, name


def test_a_poster_is_predicted_and_the_network_named(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (268, 182, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "poster.png")
    assert predict.main([str(tmp_path / "poster.png")]) == 0
    said = capsys.readouterr()
    results = run_files.read_results(RELEASED)
    ranked = results["splits"]["test"]["metrics"]["mean_average_precision"]
    assert f"mAP {ranked['value']:.3f} [{ranked['low']:.3f}, {ranked['high']:.3f}]" in said.err
    answer = poster_jax.load(predict.DEFAULT_RUN).predict(tmp_path / "poster.png")
    assert f"{answer.labels[int(answer.probabilities.argmax())]} {answer.probabilities.max():.2f}" in said.out


@pytest.mark.skipif(not POSTERS.is_dir(), reason="needs ../shared/data")
def test_its_scores_on_real_posters_are_those_that_were_measured() -> None:
    network = poster_jax.load(predict.DEFAULT_RUN)
    rows = run_files.read_predictions(RELEASED)
    chosen = np.random.default_rng(0).choice(len(rows["test_id"]), NUM_POSTERS, replace=False)
    temperatures, _ = calibration.of_results(run_files.read_results(RELEASED), network.genres)
    assert temperatures is not None
    wanted = calibration.apply(rows["test_score"][chosen], temperatures)
    paths = [POSTERS / f"{number}.jpg" for number in rows["test_id"][chosen]]
    found = [each.scores for each in predict.predict(network, paths, with_maps=False) if isinstance(each, predict.Prediction)]
    np.testing.assert_allclose(np.stack(found), wanted, atol=0.02)
    # Other posters have other scores: the rows are not matched by chance.
    assert np.abs(np.stack(found) - wanted[::-1]).max() > 0.2
