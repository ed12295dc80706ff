"""The command as a process, or as several that are one run, for tests that kill it, stop it and run it again."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_SECS = 600


def start(arguments: Sequence[str], workdir: pathlib.Path) -> subprocess.Popen:
    """`python -m poster_jax.main` on CPU."""
    return start_python(["-m", "poster_jax.main", *arguments, f"--workdir={workdir}"])


def start_python(arguments: Sequence[str], **variables: str) -> subprocess.Popen:
    """`python ARGUMENTS` at the root of the project, on CPU, with these environment variables."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_joined(arguments: Sequence[str], num_processes: int, num_devices: int) -> list[subprocess.Popen]:
    """The same command as so many processes of one run on this machine, each with so many simulated devices.

    They compile without optimising, which takes half the time and rounds a little differently.
    """
    address = free_address()
    return [
        start_python(
            arguments,
            JAX_NUM_CPU_DEVICES=str(num_devices),
            XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
            JAX_COORDINATOR_ADDRESS=address,
            POSTER_JAX_NUM_PROCESSES=str(num_processes),
            POSTER_JAX_PROCESS_ID=str(number),
        )
        for number in range(num_processes)
    ]


def free_address() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


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
