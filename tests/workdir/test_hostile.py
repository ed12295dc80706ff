"""Packed caches and workdirs of a stranger: bounded, one sentence that names what is wrong, and nothing in them is executed."""

import pathlib
import resource
import shutil
import threading
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from poster_jax import cli, compare, errors, main, predict
from poster_jax.data import resident
from poster_jax.report import __main__ as report
from tests.helpers import hostile
from tests.workdir.old_run import make

OLD = pathlib.Path(__file__).with_name("old_run")
ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE_SIZE = (18, 16)
LONGEST_SECS, LARGEST_MB = 60, 300


def bounded(call: Callable[[], object]) -> object:
    """What the call returns or raises; fails where it has no end or takes much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: list[object] = []

    def attempt() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(LONGEST_SECS)
    assert found, "it has no end"
    taken_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert taken_mb < LARGEST_MB, f"{taken_mb:.0f} MB"
    return found[0]


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(next(OLD.glob("packed-*")), tmp_path / "packed")


def test_the_cache_and_the_run_are_good_before(cache: pathlib.Path) -> None:
    found = resident.load_packed(cache, IMAGE_SIZE)
    assert len(found.table) == len(found.pixels) == 60 and found.refused["reason"].tolist() == []


@pytest.mark.parametrize("what", hostile.CACHES)
def test_packed_caches_of_a_stranger(what: str, cache: pathlib.Path) -> None:
    hostile.CACHES[what](cache)
    raised = bounded(lambda: resident.load_packed(cache, IMAGE_SIZE))
    assert isinstance(raised, errors.UserError), repr(raised)
    said = str(raised)
    assert str(cache) in said and "\n" not in said and len(said) < 600 and "root:" not in said
    assert not list(cache.parent.rglob("EXECUTED"))


@pytest.mark.parametrize("what", ["packed.json of {}", "images pickled", "table of one poster fewer"])
def test_a_run_on_such_a_cache_is_refused(what: str, cache: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile.CACHES[what](cache)
    arguments = [argument.replace("configs/", f"{ROOT}/configs/") for argument in make.ARGUMENTS]
    arguments += ["--config.data.variant=packed", f"--config.data.dir={cache}", f"--workdir={cache.parent / 'run'}"]
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("poster_jax: ") and said.count("\n") == 1 and "no packed cache" in said
    assert not list(cache.parent.rglob("EXECUTED"))


@pytest.mark.parametrize("what", hostile.WORKDIRS)
def test_workdirs_of_a_stranger(
    what: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command, named, spoil = hostile.WORKDIRS[what]
    folder = shutil.copytree(OLD / "finished", tmp_path / "run")
    spoil(folder)
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save("poster.png")
    run = {
        "report": lambda: report.main([str(folder), "--out=page.html"]),
        "predict": lambda: predict.main([str(folder), "poster.png"]),
        "compare": lambda: compare.main([str(folder), str(OLD / "finished"), "--samples=5"]),
    }[command]
    code = bounded(run)
    said = capsys.readouterr().err
    assert code == 2, (code, said)
    assert said.startswith("poster_jax: ") and said.count("\n") == 1 and named in said, said
    assert not list(tmp_path.rglob("EXECUTED"))


def test_too_little_memory_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def ask(argv: list[str]) -> int:
        raise MemoryError("Unable to allocate 1 TiB")

    assert cli.run_command(ask, []) == 2
    assert "Unable to allocate 1 TiB" in capsys.readouterr().err
