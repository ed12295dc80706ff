"""`local_multiprocess.sh` with two real processes of one run, of which one is killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from poster_jax.workdir import run_files
from tests.helpers import faults, processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_STEPS = 24


def make_venv(folder: pathlib.Path) -> pathlib.Path:
    """This interpreter as an environment that launch/install.sh finds complete."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    pins = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "launch/constraints.txt"))
    checked = subprocess.run(["cksum"], input=pins, capture_output=True, check=True)
    (folder / ".installed").write_text(f"{checked.stdout.decode().strip()} \n")
    return folder


def start(folder: pathlib.Path, logs: str) -> subprocess.Popen:
    command = ["bash", "launch/local_multiprocess.sh", "2", *faults.SINGLE, f"--config.train.num_steps={NUM_STEPS}"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "VENV": str(folder / "venv"),
        "LOGS": str(folder / logs),
        "DEVICES_PER_PROCESS": "2",
        # Half the time to compile, as in `processes.start_joined`.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    command += [f"--workdir={folder / 'run'}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_process(folder: pathlib.Path, number: int) -> int:
    """The id of process `number` of the run, by its environment."""
    wanted = (f"POSTER_JAX_PROCESS_ID={number}".encode(), f"LOGS={folder / 'logs'}".encode())
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if all(name in variables for name in wanted) and b"poster_jax.main" in command:
            return int(path.parent.name)
    raise AssertionError(f"process {number} is not there")


def test_when_one_of_two_is_killed_the_job_ends_and_the_same_command_goes_on(tmp_path: pathlib.Path) -> None:
    make_venv(tmp_path / "venv")
    job = start(tmp_path, "logs")
    run, latest = tmp_path / "run", tmp_path / "run" / "checkpoints" / "latest"
    processes.wait_until(job, lambda: any(line["step"] >= 6 for line in run_files.read_lines(run)) and (latest / "3").exists())
    os.kill(find_process(tmp_path, 1), signal.SIGKILL)
    began = time.monotonic()
    code, said = processes.finish(job)
    assert time.monotonic() - began < 60
    assert code == 1, said
    assert f"process 1 of 2 was killed by SIGKILL, so the others were ended; its log: {tmp_path}/logs/process-1.log" in said
    assert not (tmp_path / "run" / "results.json").exists()

    code, said = processes.finish(start(tmp_path, "logs_again"))
    assert code == 0, said
    assert "step 0 of" not in said and f"of {NUM_STEPS}, 4 device(s)" in said
    steps = [line["step"] for line in run_files.read_lines(run) if line["part"] == "validation"]
    assert steps == [6, 12, 18, 24]
