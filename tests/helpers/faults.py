"""`python -m tests.helpers.faults [--kills=50] [--seed=0]`: runs killed at random moments of every stage, and resumed.

After these, fine-tuning is killed once in every epoch.

A process is first stopped, then asked where it is, then killed, so that every kill is counted for the stage that it fell in.
The resumed run must end in the bits of the uninterrupted one: the digest of the final parameters, `results.json`,
`metrics.jsonl`, and the scores. The last line is `faults: N tried, N survived`; the exit code is 1 where the numbers differ.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from tests.helpers import processes, staged

KILLED_IN = ("prepare", "training", "evaluation", "saving", "features", "search")
# 30 steps with dropout and augmentation, a checkpoint every 3, an evaluation every 6.
SINGLE = (
    "--config=configs/cnn_onehot.py:smoke",
    "--config.train.num_epochs=0.0",
    "--config.train.num_steps=30",
    "--config.checkpoint.every_epochs=0.0",
    "--config.checkpoint.every_steps=3",
    "--config.eval.every_epochs=0.0",
    "--config.eval.every_steps=6",
    "--config.train.log_every_steps=4",
    "--config.train.augment.flip=True",
)
# One branch from frozen features to fine-tuning, with averaged weights, falling rates and augmentation.
TRANSFER = (
    "--config=configs/transfer_mobilenet.py:smoke",
    "--config.transfer.input_ranges=((),)",
    "--config.train.num_epochs=4.0",
    "--config.train.average_decay=0.9",
    "--config.train.augment.flip=True",
    "--config.train.augment.zoom=0.2",
    "--config.optim.schedule=cosine",
    "--config.model.dropout=0.2",
    "--config.eval.baselines=False",
)
SEARCH = (
    "--config=configs/search_cnn.py:smoke",
    "--config.search.num_trials=2",
    "--config.search.vectorize=folds",
    "--config.train.num_epochs=4",
    "--config.eval.baselines=False",
)
ARGUMENTS = {"single": SINGLE, "transfer": TRANSFER, "search": SEARCH}
KIND_OF = {"features": "transfer", "search": "search"}


@dataclasses.dataclass(frozen=True)
class Whole:
    """An uninterrupted run: what it left, what its cache held, and how long each visit of a stage took, in seconds."""

    kind: str
    fingerprint: dict[str, str]
    cache: pathlib.Path
    visits: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One kill or signal: where it fell, and whether the resumed run ended like the whole one."""

    stage: str
    step: int
    survived: bool
    secs: float
    said: str


def start(kind: str, place: pathlib.Path, more: Sequence[str] = ()) -> subprocess.Popen:
    """The noted run of a kind in `place`, which holds its `run`, its `cache` and its `notes`, with `more` arguments."""
    arguments = ["-m", "tests.helpers.staged", str(place / "notes"), *ARGUMENTS[kind], *more, f"--workdir={place / 'run'}"]
    return processes.start_python(arguments, POSTER_JAX_CACHE=str(place / "cache"))


def resume(kind: str, workdir: pathlib.Path, cache: pathlib.Path, more: Sequence[str] = ()) -> tuple[int, str]:
    """(exit code, what was said) of the plain command with `more` arguments."""
    arguments = ["-m", "poster_jax.main", *ARGUMENTS[kind], *more, f"--workdir={workdir}"]
    return processes.finish(processes.start_python(arguments, POSTER_JAX_CACHE=str(cache)))


def fingerprint(workdir: pathlib.Path, cache: pathlib.Path) -> dict[str, str]:
    """What equal runs have in common, as digests: parameters, results, metrics, scores, prepared posters and features."""
    found = {name: _sha256((workdir / name).read_bytes()) for name in ("results.json", "metrics.jsonl")}
    with np.load(workdir / "predictions.npz") as arrays:
        found |= {name: _sha256(arrays[name].tobytes()) for name in arrays.files}
    for path in sorted(workdir.rglob("_CHECKPOINT_METADATA")):
        about = json.loads(path.read_text())["custom_metadata"]
        if about:
            found[str(path.parent.relative_to(workdir))] = about["sha256"]
    for path in (*cache.glob("*/images.npy"), *cache.glob("features-*.npy")):
        found[str(path.relative_to(cache))] = _sha256(path.read_bytes())
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run_whole(kind: str, folder: pathlib.Path) -> Whole:
    """Runs one kind to its end; raises AssertionError when it fails."""
    place = folder / kind
    place.mkdir(parents=True)
    code, said = processes.finish(start(kind, place))
    assert code == 0, said
    visits: dict[str, list[float]] = {stage: [] for stage in staged.STAGES}
    entered: dict[str, float] = {}
    for line in (place / "notes").read_text().splitlines():
        word, stage, _, at = line.split()
        if word == "enter":
            entered[stage] = float(at)
        else:
            visits[stage].append(float(at) - entered[stage])
    return Whole(kind, fingerprint(place / "run", place / "cache"), place / "cache", visits)


def stop_in(process: subprocess.Popen, notes: pathlib.Path, stage: str, visit: int, wait_secs: float) -> int | None:
    """Stops the process `wait_secs` after it has entered the stage for the `visit`-th time, or later, if it is in it then.

    Returns the step, with the process stopped (SIGSTOP), or None when it ended before.
    """
    deadline = time.monotonic() + processes.PATIENCE_SECS
    while process.poll() is None and time.monotonic() < deadline:
        text = notes.read_text() if notes.exists() else ""
        if text.count(f"enter {stage} ") <= visit:
            time.sleep(0.001)
            continue
        time.sleep(wait_secs)
        os.kill(process.pid, signal.SIGSTOP)
        _wait_until_stopped(process.pid)
        stages, step = staged.active(notes.read_text())
        # A save goes on behind what else is done: it is the stage whenever it is under way.
        at = "saving" if "saving" in stages else stages[-1] if stages else ""
        if at == stage:
            return step
        os.kill(process.pid, signal.SIGCONT)
        visit, wait_secs = text.count(f"enter {stage} "), wait_secs / 2
    return None


def _wait_until_stopped(pid: int) -> None:
    while pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("T", "Z"):
        time.sleep(0.0005)


def end_in(
    whole: Whole, stage: str, place: pathlib.Path, rng: np.random.Generator, kind: signal.Signals, *, visit: int | None = None
) -> tuple[int, int, str]:
    """(step, exit code, what was said) of a run in `place` that gets the signal in a visit of the stage (None: any)."""
    for attempt in range(20):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        # What prepares must find nothing prepared; the others need not do it again.
        if stage not in ("prepare", "features"):
            shutil.copytree(whole.cache, place / "cache")
        process = start(whole.kind, place)
        visits = whole.visits[stage]
        # The last visits may be behind the last step, where there is nothing left to resume.
        at = int(rng.integers(max(1, 2 * len(visits) // 3))) if visit is None else visit
        # The whole run may have compiled what this one finds in a compilation cache: its stages are shorter.
        wait_secs = float(rng.random()) * visits[at] / 2**attempt
        step = stop_in(process, place / "notes", stage, at, wait_secs)
        if step is not None:
            process.send_signal(kind)
            process.send_signal(signal.SIGCONT)
            return step, *processes.finish(process)
    raise AssertionError(f"no signal fell into {stage}")


def kill_and_resume(
    whole: Whole, stage: str, place: pathlib.Path, rng: np.random.Generator, *, visit: int | None = None
) -> Fault:
    """One kill -9 within a visit of a stage, a random one if None, and the same command again."""
    began = time.monotonic()
    step, code, _ = end_in(whole, stage, place, rng, signal.SIGKILL, visit=visit)
    assert code == -signal.SIGKILL and not (place / "run" / "results.json").exists()
    code, said = resume(whole.kind, place / "run", place / "cache")
    return Fault(stage, step, code == 0 and ended_alike(whole, place), time.monotonic() - began, said)


def ended_alike(whole: Whole, place: pathlib.Path) -> bool:
    """Whether the finished run in `place` is the whole one, bit for bit, and nothing half-made lies in its cache."""
    return fingerprint(place / "run", place / "cache") == whole.fingerprint and not list((place / "cache").glob(".*"))


def main(argv: Sequence[str] | None = None) -> int:
    """Kills, resumes and counts; 0 when all survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(argv)
    rng = np.random.default_rng(flags.seed)
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        wholes = {kind: run_whole(kind, pathlib.Path(folder)) for kind in ARGUMENTS}
        planned: list[tuple[str, str, int | None]] = []
        for number in range(flags.kills):
            stage = KILLED_IN[number % len(KILLED_IN)]
            planned.append((KIND_OF.get(stage, ("single", "transfer")[number // len(KILLED_IN) % 2]), stage, None))
        planned += [("transfer", "training", epoch) for epoch in range(len(wholes["transfer"].visits["training"]))]
        for number, (kind, stage, visit) in enumerate(planned):
            whole = wholes[kind]
            fault = kill_and_resume(whole, stage, pathlib.Path(folder) / "kill", rng, visit=visit)
            faults.append(fault)
            outcome = "survived" if fault.survived else f"NOT survived:\n{fault.said}"
            where = f"{whole.kind:<8} in {stage:<10} at step {fault.step:>3}"
            print(f"kill {number + 1:>3}, {where}, {fault.secs:4.0f} s: {outcome}", flush=True)
    counts = {stage: sum(fault.stage == stage for fault in faults) for stage in KILLED_IN}
    print(f"seed {flags.seed}; " + ", ".join(f"{stage} {count}" for stage, count in counts.items()))
    survived = sum(fault.survived for fault in faults)
    print(f"faults: {len(faults)} tried, {survived} survived")
    return 0 if survived == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
