"""A damaged checkpoint of many arrays is one line on stderr, where orbax alone would print hundreds."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_DAMAGED = 4
# Many arrays, so that reads are under way when orbax gives up at the first damaged one.
CODE = f"""
import contextlib, pathlib, sys
import jax
import numpy as np
from poster_jax.train import train_state
from poster_jax.workdir import checkpoint

if sys.argv[2] == "plain":
    checkpoint._without_stray_errors = contextlib.nullcontext

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


@pytest.mark.parametrize("muted", [True, False])
def test_a_damaged_checkpoint_is_one_line(muted: bool, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path), "muted" if muted else "plain"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stderr.splitlines()
    assert sum("the checkpoint of step 2 cannot be read" in line for line in lines) == NUM_DAMAGED
    # The negative control: without the muting there are tracebacks.
    assert (len(lines) == NUM_DAMAGED) == muted, done.stderr[-2000:]
