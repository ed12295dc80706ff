"""The exported folder: the same scores as `predict` without the package, whole or not there, and what is refused."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from jax import export as jax_export

from poster_jax import errors, predict
from poster_jax.export import __main__ as export
from poster_jax.export import model_card
from poster_jax.runtime import storage
from poster_jax.workdir import run_files
from tests.helpers.made_run import AUXILIARY, GENRES, cnn_config, make_workdir, mobilenet_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = (1, 3, 7, 32)
NOISE = np.random.default_rng(5).integers(0, 256, (max(SIZES), 40, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_workdir(tmp_path_factory.mktemp("export") / "run", cnn_config())


@pytest.fixture(scope="module")
def out(workdir: pathlib.Path) -> pathlib.Path:
    """The bundle of `workdir`, by the command."""
    made = workdir.parent / "bundle"
    assert export.main([str(workdir), str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def network(workdir: pathlib.Path) -> predict.Predictor:
    return predict.load_network(workdir)


@pytest.fixture(scope="module")
def program(out: pathlib.Path) -> bytes:
    return (out / "program.jax_export").read_bytes()


def check_parity(network: predict.Predictor, serialized: bytes, accelerator: str) -> tuple[str, str]:
    """Program and `predict` agree for all SIZES, also in the form of `accelerator`; returns the HLO (here, there)."""
    wanted = np.asarray(network.score(network.variables, NOISE))
    assert wanted.shape == (32, 3) and wanted.std(0).min() > 1e-3 and 0.01 < wanted.min() and wanted.max() < 0.99
    program = jax_export.deserialize(bytearray(serialized))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals) == "(ShapedArray(uint8[b,40,32,3]),)"
    call = jax.jit(program.call)
    compiled = {size: call.lower(NOISE[:size]).compile() for size in SIZES}
    for size in SIZES:
        found = np.asarray(compiled[size](NOISE[:size]))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted[:size], atol=2e-6)

    # The branches lie in the order of the platforms: under another order this CPU runs what the accelerator would run.
    others = [platform for platform in program.platforms if platform not in ("cpu", accelerator)]
    index = program.platforms.index(accelerator)
    swapped = [others[0], others[0], others[0]]
    swapped[index], swapped[0 if index else 1] = "cpu", accelerator
    other = jax.jit(dataclasses.replace(program, platforms=tuple(swapped)).call).lower(NOISE[:3]).compile()
    np.testing.assert_allclose(np.asarray(other(NOISE[:3])), wanted[:3], atol=1e-4)
    return compiled[3].as_text(), other.as_text()


def test_the_cnns_program_gives_the_scores_of_predict_for_any_batch_and_in_a_gpus_form(
    network: predict.Predictor, program: bytes
) -> None:
    here, there = check_parity(network, program, "cuda")
    # Two views through a first convolution and one of 32 channels, whose rows a CPU does as six by Winograd.
    assert here.count("convolution(") > there.count("convolution(") == 4


def test_mobilenets_program_gives_the_scores_of_predict_for_any_batch_and_in_a_tpus_form(tmp_path: pathlib.Path) -> None:
    network = predict.load_network(make_workdir(tmp_path / "run", mobilenet_config()))
    forms = check_parity(network, export.build_program(network), "tpu")
    # 17 depthwise convolutions, which a CPU computes as shifted sums.
    assert [form.count("feature_group_count=") for form in forms] == [0, 17]


def test_mirror_averaging_and_the_cut_to_the_genres_are_in_the_program(network: predict.Predictor, program: bytes) -> None:
    assert network.model.num_genres == len(GENRES) + len(AUXILIARY)
    image = NOISE[:3]
    found, turned = (np.asarray(bundle_call(program)(view)) for view in (image, image[:, :, ::-1]))
    apply = jax.jit(lambda x: jax.nn.sigmoid(network.model.apply(network.variables, x, False)))
    views = [np.asarray(apply(view.astype(np.float32) / 255)) for view in (image, image[:, :, ::-1])]
    np.testing.assert_allclose(found, ((views[0] + views[1]) / 2)[:, : len(GENRES)], atol=1e-5)
    np.testing.assert_allclose(found, turned, atol=1e-6)
    assert np.abs(views[0] - views[1])[:, : len(GENRES)].max() > 1e-3


@functools.cache
def bundle_call(program: bytes) -> Any:
    return jax.jit(jax_export.deserialize(bytearray(program)).call)


def test_labels_and_manifest_say_what_lies_there(workdir: pathlib.Path, out: pathlib.Path) -> None:
    assert {path.name for path in out.iterdir()} == {
        "program.jax_export",
        "labels.json",
        "MODEL_CARD.md",
        "predict.py",
        "pictures.py",
        "picture_files.py",
        "csv_tables.py",
        "manifest.json",
    }
    labels = json.loads((out / "labels.json").read_text())
    per_genre = json.loads((workdir / "results.json").read_text())["splits"]["validation"]["per_genre"]
    assert labels["genres"] == list(GENRES) and labels["image_size"] == [40, 32]
    assert labels["thresholds"] == [per_genre[genre]["threshold@tuned"] for genre in GENRES]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["jax"] == jax.__version__ and manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert set(manifest["sha256"]) == {path.name for path in out.iterdir()} - {"manifest.json"}
    assert manifest["sha256"]["labels.json"] == hashlib.sha256((out / "labels.json").read_bytes()).hexdigest()


def test_equal_networks_give_equal_programs_without_this_machines_paths(network: predict.Predictor, program: bytes) -> None:
    assert export.build_program(network) == program
    assert b".py" not in program and str(ROOT).encode() not in program
    assert jax.config.jax_traceback_in_locations_limit > 0


def test_a_program_that_is_not_the_checkpoint_is_not_written(
    workdir: pathlib.Path,
    network: predict.Predictor,
    program: bytes,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export.check_program(program, network, NOISE[:3], "float32")
    params = network.variables["params"]
    last = sorted(name for name in params if "kernel" in params[name])[-1]
    other = {**params, last: {**params[last], "kernel": params[last]["kernel"] * 1.01}}
    changed = dataclasses.replace(network, variables={**network.variables, "params": other})
    with pytest.raises(RuntimeError, match="differ from the checkpoint"):
        export.check_program(program, changed, NOISE[:3], "float32")
    wide = dataclasses.replace(network, score=lambda variables, image: np.zeros((len(image), 5), np.float32))
    with pytest.raises(RuntimeError, match=r"\(3, 3\), the checkpoint float32 \(3, 5\)"):
        export.check_program(program, wide, NOISE[:3], "float32")

    monkeypatch.setattr(export, "build_program", lambda network: program)
    monkeypatch.setattr(predict, "load_network", lambda workdir: changed)
    with pytest.raises(RuntimeError):
        export.main([str(workdir), str(tmp_path / "bundle")])
    assert not list(tmp_path.iterdir())


def test_posters_that_the_run_has_kept_are_checked_beside_noise(tmp_path: pathlib.Path) -> None:
    noise = export.choose_posters(tmp_path, (4, 5))
    samples = {
        "image": np.full((9, 4, 5, 3), 8, np.uint8),
        "id": np.arange(9),
        "label": np.ones((9, 2)),
        "map": np.ones((9, 2, 2)),
    }
    samples |= {"score": np.ones((9, 2)), "genre": np.zeros(9, np.int32), "spread": np.ones(9, bool)}
    run_files.write_samples(tmp_path, samples)
    kept = export.choose_posters(tmp_path, (4, 5))
    assert noise.shape == kept.shape == (3, 4, 5, 3) and noise.std((1, 2, 3)).min() > 50
    assert (kept[:2] == 8).all() and (kept[2] == noise[2]).all()
    with pytest.raises(errors.UserError, match=r"samples\.npz is damaged \(posters of 4 x 5 pixels where the config has 5 x 4"):
        export.choose_posters(tmp_path, (5, 4))


def test_a_killed_write_leaves_no_folder_and_the_next_one_succeeds(tmp_path: pathlib.Path) -> None:
    code = """
import os, pathlib, signal, sys
from poster_jax.runtime import storage
write, written = storage.write_atomic, []
def dying(path, content):
    write(path, content)
    written.append(path)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
storage.write_atomic = dying
storage.write_folder(pathlib.Path(sys.argv[1]), {"a": b"1", "b": b"2", "c": b"3"})
"""
    target = tmp_path / "bundle"
    done = subprocess.run([sys.executable, "-c", code, str(target)], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)
    assert done.returncode == -9 and not target.exists()
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".bundle.") and sorted(path.name for path in left.iterdir()) == ["a", "b"]
    storage.write_folder(target, {"a": b"1", "b": b"2"})
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a": b"1", "b": b"2"}
    with pytest.raises(OSError, match="not empty"):
        storage.write_folder(target, {"c": b"3"})
    assert len(list(target.iterdir())) == 2 and set(tmp_path.iterdir()) == {target, left}


def test_the_card_has_every_number_beside_its_floor(workdir: pathlib.Path, out: pathlib.Path) -> None:
    card = (out / "MODEL_CARD.md").read_text()
    results = json.loads((workdir / "results.json").read_text())
    test = results["splits"]["test"]
    for name, entry in test["metrics"].items():
        interval = f" [{entry['low']:.3f}, {entry['high']:.3f}]" if entry["low"] is not None else ""
        assert f"| {name} | {entry['value']:.3f}{interval} | {entry['best_floor']:.3f} | " in card
    for genre in GENRES:
        entry = test["per_genre"][genre]
        ranked = entry["average_precision"]
        told = f"{ranked['value']:.3f} [{ranked['low']:.3f}, {ranked['high']:.3f}] | {ranked['floor']:.3f}"
        assert f"| {genre} | {entry['threshold@tuned']:.6f} | {entry['count']} | {told} | " in card
    for words in (
        "uint8 [B, 40, 32, 3]",
        "its mirror image",
        "180 posters, beside 3 catalog rows that were refused (cut file 2, empty file 1)",
        "**Leaked**: 4 of test",
        "War, Western",
        "- Training began from random weights.",
        "step 12 of 20, the best by mean_average_precision on validation.",
        "seed 7",
        "Apache License 2.0",
        "## Intended use and limits",
        "drew",  # the posters are synthetic
    ):
        assert words in card, words
    assert "| None" not in card and "| nan" not in card and "cannot be told from" not in card


def test_the_card_tells_pretrained_weights_a_useless_network_and_undefined_scores(tmp_path: pathlib.Path) -> None:
    config = mobilenet_config()
    results = json.loads((make_workdir(tmp_path / "run", config) / "results.json").read_text())
    best = results["splits"]["test"]["metrics"][config.eval.best_metric]
    best["p_value"] = 0.026  # its interval may lie above the floor all the same
    results["splits"]["test"]["metrics"]["macro_auc"] |= {"value": None, "low": None, "high": None}
    results["best_step"] = 20
    config.data.variant, config.data.balance, config.data.split_grouped = "kaggle", "equal", False
    config.train.teacher, config.train.teacher_share = "runs/one/, other.csv", 0.5
    card = model_card.write(config, results, thresholds=[0.5] * 3, use=["As it is."])
    for words in (
        "Training targets: 0.5 the mean of the scores of other networks (one, other.csv), the rest the labels.",
        "step 20 of 20.",
        "`keras:imagenet`",
        "source: `body.h5`",
        "sum to one",
        "cannot be told from a constant answer",
    ):
        assert words in card, words
    assert "| macro_auc | - | 0.500 |" in card and "on two sides of the split" in card
    assert "balanced before the split, in the test part" in card and "drew" not in card and "mirror" not in card


def test_mistakes_are_one_sentence_and_exit_code_2(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("unfinished", "several", "search"):
        shutil.copytree(workdir, tmp_path / name)
    (tmp_path / "unfinished" / "results.json").unlink()
    (tmp_path / "several" / "results.json").write_text(json.dumps({"seeds": [{"seed": 4}, {"seed": 5}]}))
    results = json.loads((workdir / "results.json").read_text())
    (tmp_path / "search" / "results.json").write_text(json.dumps({**results, "protocol": "search"}))
    before = set(tmp_path.iterdir())
    for arguments, says in (
        ([str(tmp_path / "unfinished"), str(tmp_path / "out")], "has not finished"),
        ([str(tmp_path / "several"), str(tmp_path / "out")], f"{tmp_path}/several/seed_4, {tmp_path}/several/seed_5"),
        ([str(tmp_path / "search"), str(tmp_path / "out")], "search/winner"),
        ([str(tmp_path / "empty"), str(tmp_path / "out")], "is not a workdir"),
        ([str(workdir), str(tmp_path / "empty")], "empty exists already"),
        ([str(workdir), str(tmp_path / "link")], "link exists already"),
        ([str(workdir), str(tmp_path / "no" / "out")], f"{tmp_path}/no does not exist"),
        ([str(workdir)], "OUT"),
    ):
        assert export.main(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1 and said.endswith(".\n"), said
    assert set(tmp_path.iterdir()) == before
