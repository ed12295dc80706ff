"""Skips in CI: those on the list are skips, all others failures, in a test, in a fixture, as a mark and in a whole file."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.helpers import skips

ROOT = pathlib.Path(__file__).resolve().parents[1]
ALLOWED = "torch is too large to install"
CODE = {
    "test_one.py": f"""
import pytest

@pytest.fixture
def fixture():
    pytest.skip("a reason of its own")

def test_within():
    pytest.skip("a reason of its own")

def test_fixture(fixture):
    pass

@pytest.mark.skip(reason="a reason of its own")
def test_marked():
    pass

def test_allowed():
    pytest.skip("{ALLOWED}")

@pytest.mark.xfail(reason="a reason of its own")
def test_expected():
    assert False

def test_runs():
    pass
""",
    "test_whole.py": "import pytest\npytest.importorskip('no_such_package', reason='a reason of its own')\n",
}


# Within a test a skip becomes a failure, before it and in place of a whole file an error.
HELD = "1 failed, 1 passed, 1 skipped, 1 xfailed, 3 errors"


@pytest.mark.parametrize(("ci", "summary"), [("true", HELD), ("", "1 passed, 5 skipped, 1 xfailed")])
def test_only_what_is_allowed_is_skipped_in_ci(ci: str, summary: str, tmp_path: pathlib.Path) -> None:
    for name, code in CODE.items():
        (tmp_path / name).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.helpers.skips", "-c", os.devnull, "--rootdir", str(tmp_path)]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1].startswith(f"{summary} in "), done.stdout
    assert (done.returncode != 0) == bool(ci)
    assert ("does not allow in CI: a reason of its own" in done.stdout) == bool(ci)


def test_what_needs_shared_is_skipped_only_where_it_is_not() -> None:
    reason = "needs ../shared, the real posters and weights, beside the checkout"
    assert skips.is_allowed(reason, has_shared=False) and not skips.is_allowed(reason, has_shared=True)
    assert not skips.is_allowed("the streaming path needs TensorFlow; ../shared is there", has_shared=False)
    assert all(skips.is_allowed(ALLOWED, has_shared) for has_shared in (True, False))
