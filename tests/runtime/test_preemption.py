"""A signal that comes while Python would drop an exception still stops the run."""

import gc
import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from poster_jax import errors
from poster_jax.runtime import preemption

PATIENCE_SECS = 20.0


def send_and_linger(number: int) -> None:
    """Sends the signal and runs bytecode until its handler has been called in this frame."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


def in_a_finalizer(number: int) -> None:
    class Dying:
        def __del__(self) -> None:
            send_and_linger(number)

    Dying()


def in_a_weak_reference(number: int) -> None:
    class Key:
        pass

    key = Key()
    reference = weakref.ref(key, lambda _: send_and_linger(number))
    del key
    assert reference() is None


def in_a_generator_that_is_closed(number: int) -> None:
    def generate() -> Iterator[int]:
        try:
            yield 0
        finally:
            send_and_linger(number)

    next(generate())


def in_a_collection(number: int) -> None:
    def collected(phase: str, _: Any) -> None:
        if phase == "start":
            gc.callbacks.remove(collected)
            send_and_linger(number)

    gc.callbacks.append(collected)
    gc.collect()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "send", [in_a_finalizer, in_a_weak_reference, in_a_generator_that_is_closed, in_a_collection, send_and_linger]
)
def test_a_signal_is_not_lost(send: Any, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    name = signal.Signals(number).name
    with pytest.raises(errors.Interrupted, match=name), preemption.StopRequest().installed():
        send(number)
        deadline = time.monotonic() + PATIENCE_SECS
        while time.monotonic() < deadline:
            time.sleep(0.01)
    assert "Traceback" not in capsys.readouterr().err


def test_what_others_raise_there_is_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_value))

    class Dying:
        def __del__(self) -> None:
            raise ValueError("mine")

    with preemption.StopRequest().installed():
        Dying()
    Dying()
    assert [str(error) for error in told] == ["mine", "mine"]


def test_inside_deferred_it_is_read_by_the_next_check() -> None:
    request = preemption.StopRequest()
    with request.installed(), pytest.raises(errors.Interrupted, match="SIGTERM"), request.deferred():
        in_a_collection(signal.SIGTERM)
        time.sleep(3 * preemption.AGAIN_SECS)
        request.check()


def test_a_second_interrupt_is_the_keyboards() -> None:
    request = preemption.StopRequest()
    with request.installed(), pytest.raises(KeyboardInterrupt), request.deferred():
        send_and_linger(signal.SIGINT)
        send_and_linger(signal.SIGINT)
