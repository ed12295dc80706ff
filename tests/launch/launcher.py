"""A launch script as a process, among fakes of the programs that it calls."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAKES = pathlib.Path(__file__).parent
PATIENCE_SECS = 120
# What a user may have set, and a test must not see.
SETTINGS = (
    "PYTHON",
    "VENV",
    "EXTRAS",
    "DRY_RUN",
    "LOGS",
    "PORT",
    "DEVICES_PER_PROCESS",
    "XLA_FLAGS",
    "NAME",
    "ZONE",
    "PROJECT",
)


class Launcher:
    """`launch/NAME` run with fakes first on the PATH; `folder` holds what they record (see the .sh files beside this one)."""

    def __init__(self, folder: pathlib.Path, name: str, fakes: Mapping[str, str], **settings: str) -> None:
        self.folder = folder
        self.script = ROOT / "launch" / name
        self.environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment |= {"PATH": path, "RECORD": str(folder), "VENV": str(folder / "venv"), "LOGS": str(folder / "logs")}
        self.environment |= settings
        self.started: list[subprocess.Popen[str]] = []
        put_fake(folder / "venv" / "bin" / "python", "fake_python.sh")
        for program, fake in fakes.items():
            put_fake(folder / "bin" / program, fake)

    def plan(self, *plans: str) -> None:
        """What process 0, 1, ... does, one line a start; the lines are in fake_python.sh."""
        for i, plan in enumerate(plans):
            (self.folder / f"plan-{i}").write_text(plan + "\n")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The script, begun."""
        command = ["bash", str(self.script), *arguments]
        pipe = subprocess.PIPE
        # A shell does not hear what is ignored when it starts, as SIGINT is below a background job and SIGHUP below nohup.
        before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=pipe, stderr=pipe, text=True)
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGHUP, before[1])
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The script from start to end: (exit code, stdout, stderr)."""
        return finish(self.start(*arguments))

    def close(self) -> None:
        """Ends what a test that failed has left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        for record in self.folder.glob("pid-*"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(record.read_text()), signal.SIGTERM)

    def read(self, name: str) -> str:
        """What a fake has recorded under this name."""
        return (self.folder / name).read_text()

    def signal_task(self, i: int) -> None:
        """SIGTERM to the shell around task i of slurm.sbatch, its first process."""
        pid = int(self.read(f"pid-{i}"))
        parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGTERM)

    def wait_for(self, *names: str) -> None:
        """Returns when all these records have been written."""
        records = [self.folder / name for name in names]
        wait_until(lambda: all(record.exists() and record.read_text() for record in records), f"{names} in {self.folder}")

    def left(self, count: int) -> list[int]:
        """Which of `count` fake processes that lead process groups, and of what they have started, are still there."""
        return [pid for i in range(count) for pid in members(int(self.read(f"pid-{i}")))]


def put_fake(path: pathlib.Path, fake: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FAKES / fake, path)
    path.chmod(0o755)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a script that was begun."""
    out, err = process.communicate(timeout=PATIENCE_SECS)
    return process.returncode, out, err


def members(group: int) -> list[int]:
    """The pids of a process group, without zombies."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(seen: Callable[[], bool], what: str) -> None:
    """Returns as soon as `seen` says so; fails the test when it never does."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not seen():
        if time.monotonic() > deadline:
            pytest.fail(f"not seen: {what}")
        time.sleep(0.02)
