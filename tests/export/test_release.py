"""A released network: a small run folder without checkpoints and paths, with the scores of its run."""

import io
import json
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

import poster_jax
from poster_jax import compare, errors, models, predict
from poster_jax.export import __main__ as export
from poster_jax.models.files import half_weights
from poster_jax.runtime import storage
from poster_jax.workdir import run_files
from tests.helpers.made_run import GENRES, make_workdir, mobilenet_config

NOISE = np.random.default_rng(5).integers(0, 256, (9, 40, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    config = mobilenet_config()
    config.data.dir, config.data.csv = "/home/somebody/posters", "~/labels.csv"
    made = make_workdir(tmp_path_factory.mktemp("release") / "run", config)
    rows = np.arange(9)
    samples = {"image": NOISE, "id": rows, "label": np.ones((9, 3)), "map": np.ones((9, 2, 2)), "score": np.ones((9, 3))}
    run_files.write_samples(made, samples | {"genre": np.zeros(9, np.int32), "spread": np.ones(9, bool)})
    rng, rows = np.random.default_rng(3), np.arange(60)
    label, scores = rng.integers(0, 2, (60, 3)), rng.random((60, 3), np.float32)
    parts = dict.fromkeys(("train", "validation", "test"), rows)
    run_files.write_predictions(made, parts, rows, rows, label=label, scores=dict.fromkeys(parts, scores))
    (made / "metrics.jsonl").write_text("")
    (made.parent / "origin.md").write_text("Weights of a friend, under the MIT licence.\n")
    return made


@pytest.fixture(scope="module")
def released(workdir: pathlib.Path) -> pathlib.Path:
    folder = workdir.parent / "made"
    assert export.main([str(workdir), str(folder), f"--release={workdir.parent / 'origin.md'}"]) == 0
    return folder


def test_its_scores_are_those_of_the_run_and_it_is_written_twice_alike(
    workdir: pathlib.Path, released: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert export.main([str(workdir), str(tmp_path / "made"), f"--release={workdir.parent / 'origin.md'}"]) == 0
    names = sorted(path.name for path in released.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "made").iterdir())
    for name in names:
        assert (released / name).read_bytes() == (tmp_path / "made" / name).read_bytes(), name
    found, wanted = predict.load_network(released), predict.load_network(workdir)
    ours, theirs = (np.asarray(network.score(network.variables, NOISE)) for network in (found, wanted))
    difference = np.abs(ours - theirs).max()
    about = json.loads((released / "release.json").read_text())
    np.testing.assert_allclose(about["largest_difference"], difference, atol=1e-6)
    assert 0 < difference <= 0.01  # halved, and not by much
    np.testing.assert_array_equal(found.thresholds, wanted.thresholds)
    sizes = [sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) for folder in (released, workdir)]
    assert sizes[0] < 0.6 * sizes[1]


def test_it_holds_no_poster_and_no_path_of_this_machine(released: pathlib.Path) -> None:
    assert not (released / "samples.npz").exists() and not (released / "checkpoints").exists()
    for path in released.iterdir():
        content = path.read_bytes()
        assert b"/home/somebody" not in content and str(released.parent).encode() not in content, path.name
    config = json.loads((released / "config.json").read_text())
    assert config["data"]["dir"] == "posters" and config["data"]["csv"] == "labels.csv"
    card = (released / "MODEL_CARD.md").read_text()
    assert "poster-jax predict released:made POSTER" in card and "Weights of a friend, under the MIT licence." in card
    assert "which are not known here" not in card and "half precision" in card


def test_it_stands_where_a_run_may(
    released: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage, "released", lambda name: released.parent / name)
    Image.fromarray(NOISE[0]).save(tmp_path / "poster.png")
    answer = poster_jax.load("released:made").predict(tmp_path / "poster.png")
    assert answer.labels == tuple(GENRES)
    capsys.readouterr()
    assert predict.main(["released:made", str(tmp_path / "poster.png")]) == 0
    assert f"{max(answer.probabilities):.2f}" in capsys.readouterr().out
    assert compare.main(["released:made", "released:made"]) == 0


@pytest.mark.parametrize("name", ["nobody", "../released/mobilenet_v2", ""])
def test_other_names_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(errors.UserError, match=f"released:{name} does not come with poster_jax: take one of "):
        storage.as_path(f"released:{name}")


def _pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"params/a": np.array([None] * 3, object), "params/b": np.zeros((2, 2))})
    return buffer.getvalue()


def _huge() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("params/a", "params/b"):
            member = io.BytesIO()
            np.save(member, np.zeros(2_000_000, np.float32))
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


SHAPES = {"params/a": (3,), "params/b": (2, 2)}
GOOD = {"params/a": np.arange(3.0), "params/b": np.ones((2, 2))}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_pickled, "larger than|allow_pickle=False"),
        (_huge, "larger than the network's"),
        (lambda: b"", "not a zip file"),
        (lambda: b"PK\x03\x04 no archive", "not a zip file"),
        (lambda: half_weights.to_bytes(GOOD)[:-40], "not a zip file"),
        (lambda: half_weights.to_bytes({"params/a": GOOD["params/a"]}), "1 arrays, not the 2"),
        (lambda: half_weights.to_bytes({**GOOD, "params/c": np.ones(1)}), "3 arrays, not the 2"),
        (lambda: half_weights.to_bytes({**GOOD, "params/b": np.ones(4)}), r"params/b is float32 \(4,\)"),
        (lambda: half_weights.to_bytes({**GOOD, "params/b": np.full((2, 2), np.nan)}), "params/b is not finite"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused(make: Callable[[], bytes], says: str) -> None:
    found = half_weights.from_bytes(half_weights.to_bytes(GOOD), SHAPES)
    assert all((found[name] == GOOD[name]).all() and found[name].dtype == np.float32 for name in GOOD)
    with pytest.raises(ValueError, match=says):
        half_weights.from_bytes(make(), SHAPES)


def test_mistakes_are_one_sentence(
    workdir: pathlib.Path, released: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(released, tmp_path / "damaged")
    (damaged / half_weights.NAME).write_bytes(b"nothing")
    Image.fromarray(NOISE[0]).save(tmp_path / "poster.png")
    origin = f"--release={workdir.parent / 'origin.md'}"
    without = shutil.copytree(workdir, tmp_path / "without")
    (without / "samples.npz").unlink()
    capsys.readouterr()
    for command, arguments, says in (
        (predict.main, [str(damaged), str(tmp_path / "poster.png")], "weights.npz .*: install poster_jax again"),
        (export.main, [str(workdir), str(tmp_path / "out"), "--release=nowhere.md"], "--release=nowhere.md is no text"),
        (export.main, [str(workdir), str(tmp_path / "out"), origin, "--tflite"], "--release writes a run folder"),
        (export.main, [str(without), str(tmp_path / "out"), origin], "has no samples.npz"),
    ):
        assert command(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert re.search(says, said) and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()


def test_its_body_is_where_another_training_starts(released: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "released", lambda name: released.parent / name)
    config = mobilenet_config()
    config.model.weights = "released:made"
    loaded = models.load_pretrained(**config.model)
    assert loaded is not None and loaded.provenance["source"] == "released:made"
    found, wanted = (
        traverse_util.flatten_dict(tree, sep="/") for tree in (loaded.variables, predict.load_network(released).variables)
    )
    assert len(found) > 200 and not [name for name in found if "/head" in name]
    for name, array in found.items():
        np.testing.assert_array_equal(array, np.asarray(wanted[name]), err_msg=name)
    assert loaded.fields() == models.body_fields(predict.load_network(released).model)
