"""Disks that are full or cannot be written, as small mounts: one sentence, exit code 2; with room the same command goes on."""

import contextlib
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from poster_jax.workdir import run_files
from tests.helpers import faults, processes

LOGGING = {
    "train.num_steps": 120,
    "train.log_every_steps": 1,
    "eval.every_steps": 120,
    "checkpoint.every_steps": 120,
}
Mount = Callable[[str, str], pathlib.Path]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> faults.Whole:
    return faults.run_whole("single", tmp_path_factory.mktemp("whole"))


@pytest.fixture
def mount(tmp_path: pathlib.Path) -> Iterator[Mount]:
    """`mount(name, options)` makes a disk in memory, or changes it; skips where that is not allowed."""
    mounted: set[str] = set()

    def mount(name: str, options: str) -> pathlib.Path:
        (tmp_path / name).mkdir(exist_ok=True)
        again = "remount," if name in mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}{options}", "tmpfs", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        mounted.add(name)
        return tmp_path / name

    yield mount
    for name in mounted:
        subprocess.run(["umount", "--lazy", str(tmp_path / name)], check=True)


def refused(cache: pathlib.Path, workdir: pathlib.Path, *more: str) -> str:
    """The one sentence of a refusal; nothing but it may be on stderr behind the run's own lines."""
    code, said = faults.resume("single", workdir, cache, more)
    assert code == 2, said
    assert "Traceback" not in said, said
    sentence = said.strip().splitlines()[-1]
    assert sentence.startswith("poster_jax: "), said
    return sentence


@pytest.mark.parametrize(
    ("full", "options", "says"),
    [
        # The records of 180 posters do not fit, or they do and the packed posters do not.
        ("cache", "size=1m", "No space left on device"),
        ("cache", "size=3500k", "MB free"),
        # The config and the first lines fit, a checkpoint does not.
        ("work", "size=120k", "No space left on device"),
    ],
)
def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(
    single: faults.Whole, tmp_path: pathlib.Path, mount: Mount, full: str, options: str, says: str
) -> None:
    small = mount(full, options)
    cache, workdir = (small if full == "cache" else single.cache), (small if full == "work" else tmp_path / "work") / "run"
    assert says in refused(cache, workdir)
    mount(full, "size=100m")
    code, said = faults.resume("single", workdir, cache)
    assert code == 0, said
    assert faults.fingerprint(workdir, cache) == single.fingerprint


def test_a_disk_that_fills_while_logging_is_one_sentence(single: faults.Whole, tmp_path: pathlib.Path, mount: Mount) -> None:
    """No checkpoint before the end: it is a line of a log that finds no room."""
    more = [f"--config.{key}={value}" for key, value in LOGGING.items()]
    run = mount("run", "size=1m")
    shutil.copytree(single.cache, tmp_path / "cache")
    process = faults.start("single", tmp_path, more)
    step = faults.stop_in(process, tmp_path / "notes", "training", 8, 0.0)
    assert step is not None
    with open(run / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    process.send_signal(signal.SIGCONT)
    code, said = processes.finish(process)
    assert code == 2 and "Traceback" not in said, said
    assert "No space left on device" in said.strip().splitlines()[-1], said
    (run / "filler").unlink()
    code, said = faults.resume("single", run, tmp_path / "cache", more)
    assert code == 0, said
    lines = run_files.read_lines(run)
    assert [line["step"] for line in lines if line["part"] == "train"] == list(range(1, 121))


def test_a_disk_that_cannot_be_written_is_one_sentence(single: faults.Whole, mount: Mount) -> None:
    """A mount, because root may write whatever the mode of a folder says."""
    disk = mount("disk", "ro")
    assert f"{disk / 'run'} cannot be used (Read-only file system)" in refused(single.cache, disk / "run")
    assert "Read-only file system" in refused(disk / "cache", disk.parent / "run")
