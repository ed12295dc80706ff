"""A damaged checkpoint of many arrays is one warning, and the tracebacks that orbax adds are muted."""

import os
import pathlib
import subprocess
import sys
import types

import pytest

from poster_jax.workdir import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_DAMAGED = 4
# Many arrays, so that reads are under way when orbax gives up at the first damaged one.
CODE = f"""
import pathlib, sys
import jax
import numpy as np
from poster_jax.train import train_state
from poster_jax.workdir import checkpoint

def make(seed):
    rng = np.random.default_rng(seed)
    params = {{f"w{{i}}": jax.numpy.asarray(rng.normal(size=25_000).astype(np.float32)) for i in range(60)}}
    return train_state.TrainState(jax.numpy.int32(seed), params, {{}}, (), None)

for number in range({NUM_DAMAGED}):
    workdir = pathlib.Path(sys.argv[1]) / str(number)
    opened = checkpoint.Checkpoints(workdir)
    for step in (1, 2):
        opened.save(step, make(step), {{}})
    opened.close()
    for path in (workdir / "checkpoints/latest/2").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) if number % 2 else path.unlink()
    opened = checkpoint.Checkpoints(workdir)
    assert opened.restore_latest(train_state.abstract(make(0)))[1] == 1
    opened.close()
"""


def test_each_damaged_checkpoint_of_many_arrays_is_one_warning(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    # On a busy machine a read may outlast SETTLE_SECS and print more, so other lines are not counted.
    assert sum("the checkpoint of step 2 cannot be read" in line for line in done.stderr.splitlines()) == NUM_DAMAGED


@pytest.mark.parametrize(
    ("error", "muted"),
    [
        (RuntimeError("Event loop is closed"), True),
        (RuntimeError("another"), False),
        (ValueError("Event loop is closed"), False),
    ],
)
def test_only_errors_of_the_closed_event_loop_are_muted(error: Exception, muted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Exception] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda stray: shown.append(stray.exc_value))
    stray = types.SimpleNamespace(exc_value=error, object=None)
    with checkpoint._without_stray_errors():
        sys.unraisablehook(stray)
    assert shown == ([] if muted else [error])
    # Outside the block nothing is muted.
    sys.unraisablehook(stray)
    assert shown[-1] is error
