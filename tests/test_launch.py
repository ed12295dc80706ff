"""The launch scripts: what they say when they are misused, and that a linter for shells has nothing to say."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCHERS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / "launch" / "slurm.sbatch"]
SCRIPTS = [*LAUNCHERS, *sorted((ROOT / "launch").glob("*.bash")), ROOT / ".ci" / "run"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_and_strict_mode(script: pathlib.Path) -> None:
    checked = run("shellcheck", "--external-sources", str(script), PATH=bin_path())
    assert checked.returncode == 0, checked.stdout
    assert "set -euo pipefail" in script.read_text()


def bin_path() -> str:
    """shellcheck comes as a package, beside the interpreter."""
    return f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def test_shellcheck_would_see_a_fault(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.sh").write_text("#!/usr/bin/env bash\nrm -rf $1/*\n")
    assert run("shellcheck", str(tmp_path / "bad.sh"), PATH=bin_path()).returncode != 0


@pytest.mark.parametrize("script", LAUNCHERS, ids=lambda path: path.name)
def test_every_script_has_a_manual(script: pathlib.Path) -> None:
    helped = run("bash", str(script), "--help")
    assert helped.returncode == 2
    assert f"launch/{script.name} " in helped.stdout
    assert "DRY_RUN=1" in helped.stdout
    # The manual ends where the script begins.
    assert "set -euo" not in helped.stdout
    # test.sh without arguments runs everything.
    if script.name != "test.sh":
        assert run("bash", str(script)).stdout == helped.stdout


def test_an_old_interpreter_is_refused_before_anything_is_made(tmp_path: pathlib.Path) -> None:
    told = run("bash", "launch/install.sh", str(tmp_path / "venv"), PYTHON="false")
    assert told.returncode == 2
    assert "PYTHON=" in told.stderr
    assert not (tmp_path / "venv").exists()


def fake_python(path: pathlib.Path, *, starts: bool) -> pathlib.Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\nexit {0 if starts else 127}\n")
    path.chmod(0o755)
    return path


def test_the_newest_interpreter_that_starts_is_taken_and_told(tmp_path: pathlib.Path) -> None:
    """The stand-ins make no environment, so install.sh ends after its sentence."""
    home, tools = tmp_path / "home", tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "cksum"):
        (tools / name).symlink_to(shutil.which(name) or "")
    pyenv = home / ".pyenv" / "versions"

    def chosen() -> str:
        told = run("bash", "launch/install.sh", str(tmp_path / "venv"), PATH=str(tools), HOME=str(home))
        assert told.returncode == 2 and "the newest of 3.13, 3.12 and 3.11 that starts here" in told.stderr
        return told.stderr.partition("is made with ")[2].partition(",")[0]

    fake_python(pyenv / "3.13.1" / "bin" / "python", starts=False)
    older = fake_python(pyenv / "3.11.7" / "bin" / "python", starts=True)
    assert chosen() == str(older)
    newer = fake_python(pyenv / "3.12.9" / "bin" / "python", starts=True)
    assert chosen() == str(newer)
    # A shim of pyenv lies on PATH for a version that is not chosen.
    shim = tools / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert chosen() == str(newer)
    shim.write_text("#!/bin/sh\nexit 0\n")
    assert chosen() == "python3.12"
    at_uv = fake_python(tmp_path / "uv" / "python3.13", starts=True)
    uv = tools / "uv"
    uv.write_text(f'#!/bin/sh\ncase "$*" in *3.13) echo {at_uv};; esac\n')
    uv.chmod(0o755)
    assert chosen() == str(at_uv)
    dry = run("bash", "launch/install.sh", str(tmp_path / "venv"), PATH=str(tools), HOME=str(home), DRY_RUN="1")
    assert "uv pip install --quiet --python" in dry.stdout, "uv installs where it is there"


def test_pins_name_every_dependency_and_no_registry() -> None:
    pins = (ROOT / "launch" / "constraints.txt").read_text()
    assert "://" not in pins
    names = {line.split("==")[0].lower().replace("-", "_") for line in pins.splitlines() if "==" in line}
    assert names >= {"jax", "jaxlib", "flax", "optax", "orbax_checkpoint", "numpy", "tensorflow_datasets", "pytest"}
