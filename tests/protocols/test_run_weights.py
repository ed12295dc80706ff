"""The weights that a run begins with: told, remembered, and no others on resume."""

import dataclasses
import hashlib
import pathlib
from typing import Any

import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.models import pretrained, weight_files
from poster_jax.protocols import stages
from poster_jax.train.run import Run
from tests.helpers.made_weights import keras_arrays, write_h5


def run_of(workdir: pathlib.Path, weights: str, sha256: str = "") -> Run:
    config = config_lib.derive(config_lib.base("mobilenet_v2"), {"model.weights": weights, "model.weights_sha256": sha256})
    nothing: Any = None
    return Run(config, 0, workdir, nothing, nothing, nothing)


def test_a_run_goes_on_with_the_file_that_it_began_with(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, workdir = tmp_path / "body.h5", tmp_path / "run"
    workdir.mkdir()
    weights = write_h5(file, keras_arrays())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    loaded = stages.load_weights(run_of(workdir, weights))
    assert loaded is not None and loaded.origin()["sha256"] == digest
    assert f"weights: body.h5, sha256 {digest}\n" in capsys.readouterr().out
    assert stages.load_weights(run_of(workdir, weights, digest)) is not None
    other = {name: array + 1 for name, array in keras_arrays().items()}
    write_h5(file, other)
    with pytest.raises(errors.UserError, match=f"began with weights of sha256 {digest} .body.h5., and body.h5 has "):
        stages.load_weights(run_of(workdir, weights))
    with pytest.raises(errors.UserError, match=f"not {digest}: give the file that the hash is of"):
        stages.load_weights(run_of(workdir, weights, digest))
    (tmp_path / "another").mkdir()
    assert stages.load_weights(run_of(tmp_path / "another", weights)) is not None
    assert stages.load_weights(run_of(workdir, "")) is None


def test_a_converted_file_is_told_by_its_own_hash_and_its_source_s(tmp_path: pathlib.Path) -> None:
    source = weight_files.load(write_h5(tmp_path / "body.h5", keras_arrays()))
    pretrained.save(tmp_path / "body.npz", source)
    loaded = weight_files.load(f"poster_jax:{tmp_path / 'body.npz'}")
    own = hashlib.sha256((tmp_path / "body.npz").read_bytes()).hexdigest()
    assert loaded.origin() == {**source.provenance, "file_sha256": own} and source.origin() == source.provenance
    assert dataclasses.replace(loaded, file_sha256="").origin() == source.provenance


def test_a_hash_that_is_none_is_refused_with_the_config(tmp_path: pathlib.Path) -> None:
    for wrong in ("abc", "G" * 64, "A" * 64, "0" * 63):
        with pytest.raises(errors.UserError, match="config.model.weights_sha256 is no sha256"):
            config_lib.load("finetune_mobilenet.py", [("model.weights_sha256", wrong)])
    assert config_lib.load("finetune_mobilenet.py", [("model.weights_sha256", "0" * 64)]).model.weights_sha256 == "0" * 64


def test_a_hash_may_be_given_to_a_run_that_has_begun() -> None:
    before = config_lib.base("mobilenet_v2")
    assert not config_lib.refused_changes(before, config_lib.derive(before, {"model.weights_sha256": "0" * 64}))
    assert config_lib.refused_changes(before, config_lib.derive(before, {"model.weights": "keras:other.h5"}))
