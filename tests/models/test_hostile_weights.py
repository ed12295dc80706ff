"""Weights files of someone who means harm are refused in one line each, and neither run, believed nor followed."""

import os
import pathlib
from collections.abc import Iterator

import pytest

from poster_jax.models import convert
from tests.helpers import hostile_weights
from tests.helpers.made_weights import keras_arrays, refusal, write_weights_h5

MAX_GROWTH_MB = 300  # of a process that reads a file; what the bombs unpack to or state is 600 MB to a petabyte
KINDS = (hostile_weights.SAFETENSORS, hostile_weights.HDF5, hostile_weights.KERAS, hostile_weights.OURS)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, list[str]]:
    pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("hostile")
    return folder, hostile_weights.make(folder)


@pytest.fixture
def peak_mb() -> Iterator[None]:
    """Fails where the test lets the process grow by more than `MAX_GROWTH_MB` above what it has before; Linux alone tells."""
    resets = pathlib.Path("/proc/self/clear_refs")
    if not os.access(resets, os.W_OK):
        yield
        return
    resets.write_text("5")  # proc(5): the peak begins anew
    before = _status_mb("VmRSS")
    yield
    assert _status_mb("VmHWM") - before < MAX_GROWTH_MB


def _status_mb(name: str) -> float:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def test_every_hostile_file_is_refused_in_one_line(
    hostile: tuple[pathlib.Path, list[str]], peak_mb: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, files = hostile
    assert len(files) == sum(map(len, KINDS)) + 8 >= 49
    for weights in files:
        message = refusal(weights)
        assert message.isprintable() and len(message) < 5000 and folder.name in message
        assert "fetch it again" not in message or "beyond_the_end" in weights, message
        for given in (weights, weights.partition(":")[2]):
            assert convert.main([given, str(folder / "out.npz")]) == 2
            told = capsys.readouterr()
            assert told.err.count("\n") == 1 and not told.out and not (folder / "out.npz").exists()
    assert not (folder / "ran").exists()


def test_a_file_like_them_that_is_right_is_read(tmp_path: pathlib.Path) -> None:
    """So that it is the change of each that is refused."""
    source = tmp_path / "body.weights.h5"
    write_weights_h5(source, keras_arrays())
    assert convert.main([str(source), str(tmp_path / "out.npz")]) == 0
    assert convert.main([f"poster_jax:{tmp_path / 'out.npz'}", str(tmp_path / "again.npz")]) == 0
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "out.npz").read_bytes()
