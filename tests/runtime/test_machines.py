"""Machines on which something is missing: one sentence before any work, or a run that does without."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from poster_jax import errors
from poster_jax.data import cache
from poster_jax.runtime import devices

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMOKE = [sys.executable, "-m", "poster_jax.main", "--config=configs/cnn_onehot.py:smoke"]


def run(*arguments: bytes | str, limit: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """The smoke run with other environment variables, and with at most `limit` open files."""
    limited = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"] if limit else []
    command = [*map(os.fsencode, [*limited, *SMOKE]), *map(os.fsencode, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refused run; signs of life may stand before it."""
    *before, said = done.stderr.splitlines()
    assert done.returncode == 2 and said.startswith("poster_jax: ") and "Traceback" not in done.stderr, done.stderr
    assert all(line.startswith("loading jax") for line in before), done.stderr
    return said


def test_a_platform_that_cannot_be_used_is_told_before_any_work(tmp_path: pathlib.Path) -> None:
    told = refusal(run(f"--workdir={tmp_path / 'run'}", JAX_PLATFORMS="cuda"))
    assert "no device to compute on with JAX_PLATFORMS=cuda" in told and "set JAX_PLATFORMS=cpu" in told
    assert not list(tmp_path.iterdir())


def test_a_driver_that_does_not_fit_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda': INTERNAL: no supported\n  devices found")

    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(
        errors.UserError, match=r"\(Unable to initialize backend 'cuda': INTERNAL: no supported devices found\)"
    ):
        devices.require()


def test_a_workdir_that_is_not_utf_8_is_refused_before_it_is_made(tmp_path: pathlib.Path) -> None:
    told = refusal(run(b"--workdir=" + os.fsencode(tmp_path / "run") + b"\xff"))
    assert "run\\udcff is not UTF-8" in told and not list(tmp_path.iterdir())


@pytest.mark.parametrize("home", ["/dev/null", "/nowhere/at/all", "relative"])
def test_a_home_that_is_no_folder_is_told(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTER_JAX_CACHE", raising=False)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(errors.UserError, match=f"below the home folder, and {home} is no folder: set HOME, POSTER_JAX_CACHE"):
        cache.cache_root("")
    assert cache.cache_root("here") == pathlib.Path("here")


def test_no_folder_for_temporary_files_and_few_open_files_are_enough(tmp_path: pathlib.Path) -> None:
    done = run(f"--workdir={tmp_path / 'run'}", TMPDIR="/nowhere", limit=64)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]


def test_what_changes_numbers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = devices.numerics()
    assert found == {
        "jax": jax.__version__,
        "device_kind": "cpu",
        "x64": False,
        "matmul_precision": "default",
        "deterministic_operations": False,
    }
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    with jax.default_matmul_precision("highest"), jax.enable_x64(True):
        changed = devices.numerics()
    assert changed == {**found, "x64": True, "matmul_precision": "highest", "deterministic_operations": True}
