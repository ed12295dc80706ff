"""What takes long says what it is, at once and then every few seconds; what is quick or speaks itself is left alone."""

import io
import sys
import time
import types

import pytest

from poster_jax.runtime import alive, multihost


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "FIRST_SECS", 0.15)
    monkeypatch.setattr(alive, "EVERY_SECS", 0.4)


def test_a_long_task_is_told_and_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    with alive.doing("compiling the train step", 20):
        time.sleep(1.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "compiling the train step, about 20 s ..." and 2 <= len(lines) <= 5
    assert all(line.startswith("compiling the train step, about 20 s: ") for line in lines[1:])


def test_a_quick_task_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with alive.doing("a moment"):
        pass
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_what_speaks_itself_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with alive.doing("training"):
        for _ in range(20):
            alive.spoke()
            time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_of_tasks_within_tasks_the_innermost_speaks_and_then_the_outer_again(capsys: pytest.CaptureFixture[str]) -> None:
    at = [1]
    with alive.doing(lambda: f"step {at[0]} of 9"):
        with alive.doing("scoring"):
            time.sleep(0.5)
        assert "step" not in capsys.readouterr().err
        at[0] = 7
        time.sleep(0.8)
    assert "step 7 of 9" in capsys.readouterr().err


def test_an_error_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), alive.doing("work"):
        raise ValueError("x")
    time.sleep(0.4)
    assert capsys.readouterr().err == "" and not alive._doing


def test_a_half_imported_jax_does_not_stop_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "jax", types.ModuleType("jax"))
    with alive.doing("loading jax"):
        time.sleep(0.5)
    assert capsys.readouterr().err.startswith("loading jax ...")


def test_on_a_terminal_the_line_is_written_over_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    with alive.doing("x" * 200):
        time.sleep(0.4)
    said = terminal.getvalue()
    assert "\n" not in said and said.startswith("\r" + "x" * 79 + "\x1b[K") and said.endswith("\r\x1b[K")


def test_a_process_that_still_imports_jax_has_joined_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", types.ModuleType("jax"))
    assert multihost.is_main() and multihost.count() == 1
