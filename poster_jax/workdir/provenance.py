"""Where a run's numbers come from: commit, versions, machine, command, date and seconds, as lines of its timings.jsonl.

They differ between equal runs, so results.json, which does not, has none of them. Every start that does something adds a line
when it ends; one that was killed leaves none, so its seconds are not in the sum.
"""

import contextlib
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from poster_jax import cli
from poster_jax.runtime import multihost, storage
from poster_jax.workdir import run_files

EVENT = "run"
DATE = "%Y-%m-%d %H:%M UTC"
CPU_INFO = pathlib.Path("/proc/cpuinfo")


@contextlib.contextmanager
def recorded(workdir: pathlib.Path, command: str = "") -> Iterator[None]:
    """Adds a line to the workdir's timings.jsonl when the block ends, also by an error; none where nothing was run.

    command: what was typed, "" for what another run starts.
    """
    started, before = time.perf_counter(), _state(workdir)
    try:
        yield
    finally:
        if multihost.is_main() and _state(workdir) != before and (workdir / "config.json").exists():
            made = {**describe(), "date": time.strftime(DATE, time.gmtime()), **({"command": command} if command else {})}
            line = {"event": EVENT, **made, "secs": round(time.perf_counter() - started, 1)}
            with contextlib.closing(storage.Log(workdir / run_files.TIMINGS)) as log:
                log.append(line)


def _state(workdir: pathlib.Path) -> tuple[float | None, int]:
    """What changes when a run does something: its results, and the length of its logs; on a store only that it has results."""
    results = workdir / run_files.RESULTS
    if storage.is_remote(workdir):
        return float(results.exists()), 0
    logs = [path for name in (run_files.METRICS, run_files.TIMINGS) for path in workdir.glob(f"**/{name}")]
    changed = results.stat().st_mtime if results.exists() else None
    return changed, sum(path.stat().st_size for path in logs)


def describe() -> dict[str, str]:
    """{"commit", "version", "jax", "python", "machine"} of this process; the version is that of the package."""
    versions = {"version": cli.version_of("poster_jax"), "jax": cli.version_of("jax"), "python": platform.python_version()}
    return {"commit": _commit(), **versions, "machine": _machine()}


def _commit() -> str:
    """The short commit of the checkout, with "+" where files differ from it; else the version of the package."""
    package = pathlib.Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(package), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    try:
        # A package that lies in someone else's checkout is not of its commit.
        tracked = ["git", "-C", str(package), "ls-files", "--error-unmatch", "errors.py"]
        subprocess.run(tracked, capture_output=True, check=True, timeout=10)
        found = subprocess.run(command, capture_output=True, check=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return cli.version_of("poster_jax")
    return found.stdout.strip()


def _machine() -> str:
    """The devices of jax, or of a CPU its name and the number of its cores."""
    import jax

    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    names = [line.partition(":")[2].strip() for line in _read_cpu_info() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {names[0] if names else platform.machine()}"


def _read_cpu_info() -> list[str]:
    return CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []


def read(workdir: pathlib.Path) -> dict[str, Any]:
    """{"commit", "version", "jax", "python", "machine", "date", "command"} of the last start and "secs" of all.

    Folders of older versions have no version, no date and no command; {} for a folder without such lines.
    """
    lines = [line for line in run_files.read_lines(workdir, run_files.TIMINGS) if line["event"] == EVENT]
    if not lines:
        return {}
    about = {name: value for name, value in lines[-1].items() if name not in ("event", "secs")}
    return {**about, "secs": sum(line["secs"] for line in lines)}
