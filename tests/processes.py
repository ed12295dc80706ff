"""The command as a process, for tests that kill it, stop it and run it again."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PATIENCE_SECS = 600


def start(arguments: Sequence[str], workdir: pathlib.Path) -> subprocess.Popen:
    """`python -m poster_jax.main` on CPU."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "poster_jax.main", *arguments, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """(exit code, everything it said)."""
    out, err = process.communicate(timeout=PATIENCE_SECS)
    return process.returncode, out + err


def wait_until(process: subprocess.Popen, seen: Callable[[], bool]) -> None:
    """Returns as soon as `seen` says so; fails the test when the process has ended before."""
    deadline = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < deadline and process.poll() is None:
        if seen():
            return
        time.sleep(0.002)
    pytest.fail(f"it was not seen; the process said: {finish(process)[1][-2000:]}")
