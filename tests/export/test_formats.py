"""TFLite and ONNX of a finished run: the scores of predict by their own runtimes, and what is refused."""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from poster_jax import errors, predict
from poster_jax.data import array_files
from poster_jax.export import __main__ as export
from poster_jax.export import formats
from poster_jax.train import train_state
from poster_jax.workdir import checkpoint
from tests.helpers.made_run import cnn_config, make_workdir, mobilenet_config

NOISE = np.random.default_rng(5).integers(0, 256, (7, 40, 32, 3), np.uint8)
RUNTIMES = {"tflite": ("tensorflow", "ai_edge_litert"), "onnx": ("jax2onnx", "onnxruntime")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the converters' own
@pytest.mark.parametrize("make_config", [cnn_config, mobilenet_config])
@pytest.mark.parametrize("kind", sorted(RUNTIMES))
def test_other_formats_give_the_scores_of_predict(
    kind: str, make_config: Callable[[], Any], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for guest in RUNTIMES[kind]:
        pytest.importorskip(guest, reason=f"{guest} makes or runs {kind}")
    workdir = make_workdir(tmp_path / "run", make_config())
    assert export.main([str(workdir), str(tmp_path / "bundle"), f"--{kind}"]) == 0
    name = formats.FILES[kind]
    assert name in capsys.readouterr().out and f"`{name}` is the same" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    program = (tmp_path / "bundle" / name).read_bytes()
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["sha256"][name] == hashlib.sha256(program).hexdigest()
    network = predict.load_network(workdir)
    for size in (1, 7):
        found = formats.run(kind, program, NOISE[:size])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.asarray(network.score(network.variables, NOISE[:size])), atol=2e-6)
    # The same program is not that of other weights, and then nothing is written.
    other = jax.tree.map(lambda leaf: leaf * 1.01, network.variables)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "build", lambda *_: program)
        patch.setattr(predict, "load_network", lambda _: dataclasses.replace(network, variables=other))
        with pytest.raises(RuntimeError, match="differ from the checkpoint"):
            export.main([str(workdir), str(tmp_path / "other"), f"--{kind}"])
    assert {path.name for path in tmp_path.iterdir()} == {"run", "bundle"}


@pytest.mark.parametrize("kind", sorted(RUNTIMES))
def test_a_format_that_cannot_be_is_refused_and_nothing_is_written(
    kind: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workdir = make_workdir(tmp_path / "run", cnn_config())
    with pytest.raises(errors.UserError, match=f"no form in {kind}"):
        formats.require(kind, "bfloat16")
    for guest in RUNTIMES[kind]:
        monkeypatch.setitem(sys.modules, guest, None)
    monkeypatch.setattr(predict, "load_network", None)  # said before anything is computed
    assert export.main([str(workdir), str(tmp_path / "bundle"), f"--{kind}"]) == 2
    said = capsys.readouterr().err
    assert f"--{kind} needs {RUNTIMES[kind][0]}: pip install 'poster_jax[{kind}]'" in said and said.count("\n") == 1
    with pytest.raises(errors.UserError, match=f"needs {RUNTIMES[kind][0]}"):
        formats.run(kind, b"", NOISE[:1])
    assert list(tmp_path.iterdir()) == [workdir]


def test_each_format_stands_alone(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = make_workdir(tmp_path / "run", cnn_config())
    network = predict.load_network(workdir)

    def fail(*_: Any) -> bytes:
        raise AttributeError("core has no\nClosedJaxpr")

    monkeypatch.setattr(formats, "require", lambda *_: None)
    monkeypatch.setattr(formats, "BUILDERS", {"tflite": lambda *_: b"made", "onnx": fail})
    scores = np.asarray(network.score(network.variables, export.choose_posters(workdir, network.image_size)))
    monkeypatch.setattr(formats, "RUNNERS", {"tflite": lambda program, image: scores[: len(image)]})
    assert export.main([str(workdir), str(tmp_path / "bundle"), "--tflite", "--onnx"]) == 2
    said = capsys.readouterr()
    assert "program.onnx could not be made (AttributeError: core has no ClosedJaxpr): the rest" in said.err
    assert said.err.count("\n") == 1 and "program.tflite" in said.out
    written = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["sha256"]
    assert "program.onnx" not in written and (tmp_path / "bundle" / "program.tflite").read_bytes() == b"made"
    assert "program.onnx" not in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("make_config", [cnn_config, mobilenet_config])
def test_weights_as_safetensors_are_those_of_the_checkpoint(make_config: Callable[[], Any], tmp_path: pathlib.Path) -> None:
    workdir = make_workdir(tmp_path / "run", make_config())
    for name in ("one", "other"):
        assert export.main([str(workdir), str(tmp_path / name), "--safetensors"]) == 0
    path = tmp_path / "one" / formats.WEIGHTS
    assert path.read_bytes() == (tmp_path / "other" / formats.WEIGHTS).read_bytes()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["sha256"][formats.WEIGHTS] == digest
    assert f"`{formats.WEIGHTS}` has" in (tmp_path / "one" / "MODEL_CARD.md").read_text()
    found = array_files.read(path)
    assert found.pop("format") == "poster_jax weights 1"
    # From the files of the checkpoint, not through what the export read.
    kept = checkpoint.Checkpoints(workdir)
    saved, _ = kept.restore_best(train_state.abstract(predict.load_network(workdir).variables))
    kept.close()
    wanted = traverse_util.flatten_dict(saved, sep="/")
    assert found.keys() == wanted.keys() and len(found) > 6
    for name, array in wanted.items():
        assert found[name].shape == array.shape and found[name].dtype == np.float32
        assert found[name].tobytes() == np.asarray(array).tobytes(), name


def test_safetensors_are_refused_without_the_package_and_beside_a_release(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = make_workdir(tmp_path / "run", cnn_config())
    assert export.main([str(workdir), str(tmp_path / "bundle"), "--safetensors", "--release=x.md"]) == 2
    assert "--release writes a run folder: leave" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert export.main([str(workdir), str(tmp_path / "bundle"), "--safetensors"]) == 2
    assert "--safetensors needs safetensors: pip install safetensors" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [workdir]
