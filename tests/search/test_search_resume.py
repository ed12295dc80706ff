"""The search as a process, or as several: killed, stopped, and run again, it ends in the table of an uninterrupted one."""

import csv
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from poster_jax import errors
from poster_jax.protocols import search_worker
from poster_jax.runtime import alive
from poster_jax.search import workers
from tests.helpers import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARGUMENTS = (
    "--config=configs/search_cnn.py:smoke",
    "--config.search.num_trials=2",
    "--config.search.vectorize=folds",
    "--config.train.num_epochs=4",
    "--config.eval.baselines=False",
)


def start(workdir: pathlib.Path, *more: str) -> subprocess.Popen:
    return processes.start((*ARGUMENTS, *more), workdir)


def start_with_workers(workdir: pathlib.Path) -> subprocess.Popen:
    """The same search in processes of a core each, of which there are two."""
    program = (
        "import sys; from poster_jax.search import workers; workers.cores = lambda: [*CORES, *CORES][:2]; "
        "from poster_jax.main import main; sys.exit(main(sys.argv[1:]))"
    ).replace("CORES", str(sorted(os.sched_getaffinity(0))[:2]))
    asked = [argument.replace("vectorize=folds", "vectorize=processes") for argument in ARGUMENTS]
    return processes.start_python(["-c", program, *asked, f"--workdir={workdir}"])


def workers_of(process: subprocess.Popen) -> list[int]:
    """The process numbers of the workers that this search has started."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if b"poster_jax.protocols.search_worker" in words and parent == process.pid:
            found.append(int(entry.name))
    return sorted(found)


def outcome(workdir: pathlib.Path) -> dict[str, object]:
    """What equal searches have in common; trials.csv without its seconds."""
    found: dict[str, object] = {name: (workdir / name).read_bytes() for name in ("results.json", "metrics.jsonl")}
    with open(workdir / "trials.csv") as file:
        found["trials.csv"] = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    with np.load(workdir / "predictions.npz") as arrays:
        found |= {name: arrays[name].tobytes() for name in arrays.files}
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("whole") / "run"
    code, said = processes.finish(start(workdir))
    assert code == 0, said
    return workdir


def test_killed_then_stopped_it_ends_in_the_same_table(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    first, second = (workdir / "search" / f"cohort_0004_000{index}.npz" for index in (0, 1))

    process = start(workdir)
    processes.wait_until(process, first.exists)
    process.kill()
    process.communicate()
    assert first.exists() and not (workdir / "trials.csv").exists(), "killed within the first trial, behind a saved epoch"

    process = start(workdir)
    processes.wait_until(process, second.exists)
    process.send_signal(signal.SIGTERM)
    code, said = processes.finish(process)
    assert code == 75, said
    assert "stopped by SIGTERM at step" in said and "Traceback" not in said
    assert len((workdir / "trials.csv").read_text().splitlines()) == 2, "the first trial has ended, the second has not"

    code, said = processes.finish(start(workdir))
    assert code == 0, said
    assert outcome(workdir) == outcome(uninterrupted)
    assert not list((workdir / "search").glob("cohort_*"))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not pin processes to cores")
def test_workers_killed_stopped_and_left_alone_end_in_the_same_table(
    uninterrupted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"

    def saved() -> bool:
        return bool(list((workdir / "search").glob("cohort_0004_*")))

    process = start_with_workers(workdir)
    processes.wait_until(process, saved)
    both = workers_of(process)
    assert len(both) == 2
    os.kill(both[0], signal.SIGKILL)
    code, said = processes.finish(process)
    assert code == 2 and "was ended by SIGKILL" in said and "Traceback" not in said, said
    assert not workers_of(process)

    process = start_with_workers(workdir)
    processes.wait_until(process, lambda: len(workers_of(process)) == 2)
    both = workers_of(process)
    process.send_signal(signal.SIGTERM)
    code, said = processes.finish(process)
    assert code == 75 and "stopped by SIGTERM" in said and "Traceback" not in said, said
    assert not any(os.path.exists(f"/proc/{number}") for number in both)

    process = start_with_workers(workdir)
    processes.wait_until(process, lambda: len(workers_of(process)) == 2)
    both = workers_of(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + processes.PATIENCE_SECS
    while any(os.path.exists(f"/proc/{number}") for number in both):
        assert time.monotonic() < deadline, "the workers of a run that was killed have not ended"
        time.sleep(0.05)

    code, said = processes.finish(start_with_workers(workdir))
    assert code == 0 and "processes: 2, with a share of the cores each" in said, said
    assert outcome(workdir) == outcome(uninterrupted)
    assert not list((workdir / "search").glob("cohort_*"))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not pin processes to cores")
def test_a_mistake_that_a_worker_finds_is_told_once(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    (workdir / "search").mkdir(parents=True)
    for name in ("config.json", "chosen.json"):
        (workdir / name).write_text(
            (uninterrupted / name).read_text().replace('"vectorize": "folds"', '"vectorize": "processes"')
        )
    (workdir / "search" / "cohort_0004_0001.npz").write_bytes(b"no zip")
    code, said = processes.finish(start_with_workers(workdir))
    assert code == 2 and said.count("cohort_0004_0001.npz is damaged") == 1 and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("program", "kind", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", errors.UserError, "memory runs out"),
        ("import os; os.kill(os.getpid(), 15)", errors.Interrupted, "a signal to a process"),
        ("import sys; sys.exit(75)", errors.Interrupted, "a signal to a process"),
        ("import os; os.kill(os.getpid(), 11)", RuntimeError, "exit code -11"),
        ("import sys; sys.exit(3)", RuntimeError, "exit code 3"),
        ('print(\'{"mistake": "no room."}\', flush=True)', errors.UserError, "no room."),
    ],
)
def test_how_a_worker_ended_says_what_is_raised(program: str, kind: type[Exception], says: str) -> None:
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with pytest.raises(kind, match=says):
        list(workers.train([waiting, [sys.executable, "-c", program]], [0, 1], lambda message: None))


def test_a_worker_gives_no_signs_of_life(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(alive, "FIRST_SECS", search_worker.NEVER_SECS)
    with alive.doing("what the run says that started it"):
        time.sleep(0.05)
    assert not capsys.readouterr().err


def test_processes_are_as_many_as_cores_trials_and_quota_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    long = workers.MIN_STEPS
    with pytest.raises(errors.UserError, match="shares the cores of one CPU"):
        workers.choose_number("processes", "folds", 10, long)  # the tests have eight devices
    for name, value in {"cores": list(range(8)), "allowance": 2.5, "has_avx512": True}.items():
        monkeypatch.setattr(workers, name, lambda value=value: value)
    monkeypatch.setattr(workers.jax, "devices", lambda: [None])
    assert workers.choose_number("auto", "folds", 10, long) == workers.choose_number("processes", "folds", 10, 1) == 2
    for other in (("folds", "folds", 10, long), ("auto", "all", 10, long), ("auto", "folds", 10, long - 1)):
        assert workers.choose_number(*other) == 1
    monkeypatch.setattr(workers, "has_avx512", lambda: False)
    assert workers.choose_number("auto", "folds", 10, long) == 1
    for quota, trials, number in ((0.5, 10, 1), (float("inf"), 3, 3), (float("inf"), 20, 8)):
        monkeypatch.setattr(workers, "allowance", lambda quota=quota: quota)
        assert workers.choose_number("processes", "folds", trials, long) == number


def test_quota_and_instructions_are_read_as_the_system_writes_them(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    assert workers.allowance(file) == float("inf") and not workers.has_avx512(file)
    for text, cores in (("250000 100000\n", 2.5), ("max 100000\n", float("inf")), ("", float("inf"))):
        file.write_text(text)
        assert workers.allowance(file) == cores
    for text, known in (
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", True),
        ("flags\t\t: fpu avx2\nmodel name : avx512f\n", False),
    ):
        file.write_text(f"processor : 0\n{text}")
        assert workers.has_avx512(file) is known


def test_another_seed_ends_in_another_table(uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, said = processes.finish(start(tmp_path / "run", "--config.seed=1", "--config.train.num_epochs=1"))
    assert code == 0, said
    other, whole = outcome(tmp_path / "run"), outcome(uninterrupted)
    assert other["test_id"] == whole["test_id"]
    assert other["trials.csv"] != whole["trials.csv"] and other["test_score"] != whole["test_score"]
