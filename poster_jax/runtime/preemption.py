"""Stops a run on a signal, on all of its processes at the same step."""

import collections
import contextlib
import functools
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from poster_jax import errors
from poster_jax.runtime import multihost
from poster_jax.runtime import sharding as sharding_lib

# Steps between starting the check for a signal on any process and reading its result, so that no step waits for it.
STOP_LAG = 2
AGAIN_SECS = 0.05  # after which a signal that reached nobody comes once more


class StopRequest:
    """SIGTERM and Ctrl-C as `Interrupted`: raised at once outside `deferred`, by the next `check` inside.

    Inside, a signal to one process stops all processes, at the same check, a few steps later.
    """

    def __init__(self) -> None:
        self._deferred = False
        self._received = ""
        self._pending: collections.deque[jax.Array] = collections.deque()
        self._again: threading.Timer | None = None

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopRequest"]:
        """Catches both signals inside the block; a second Ctrl-C is an ordinary KeyboardInterrupt."""
        kinds = (signal.SIGTERM, signal.SIGINT)
        before = {kind: signal.signal(kind, self._handle) for kind in kinds}
        report = sys.unraisablehook

        def report_others(dropped: "sys.UnraisableHookArgs") -> None:
            if not self._send_again(dropped.exc_value):
                report(dropped)

        sys.unraisablehook = report_others
        try:
            yield self
        finally:
            sys.unraisablehook = report
            if self._again is not None:
                self._again.cancel()
            for kind, handler in before.items():
                signal.signal(kind, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal only sets a flag that `check` reads."""
        self._deferred = True
        try:
            self.check()
            yield
            self._read(0)
        finally:
            self._deferred = False
            self._pending.clear()

    def check(self) -> None:
        """Raises `Interrupted` after a signal. All processes must call this equally often."""
        if multihost.count() > 1:
            self._pending.append(_anywhere(bool(self._received)))
            self._read(STOP_LAG)
        elif self._received:
            raise errors.Interrupted(self._received)

    def _read(self, lag: int) -> None:
        """Reads the results of checks that are more than `lag` old."""
        while len(self._pending) > lag:
            if int(self._pending.popleft()):
                raise errors.Interrupted(self._received or "a signal to another process")

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name
        if not self._deferred:
            raise errors.Interrupted(self._received, alone=True)

    def _send_again(self, dropped: BaseException | None) -> bool:
        """Python drops what is raised in a finalizer or in a callback of its garbage collector: the signal comes once more."""
        if not isinstance(dropped, errors.Interrupted) or not self._received:
            return False
        number, self._received = signal.Signals[self._received], ""
        self._again = threading.Timer(AGAIN_SECS, os.kill, (os.getpid(), number))
        self._again.daemon = True
        self._again.start()
        return True


def _anywhere(flag: bool) -> jax.Array:
    """Number of devices whose process has the flag set, int32 []; returns before it is computed."""
    summed, sharding = _counter()
    return summed(jax.make_array_from_process_local_data(sharding, np.full(jax.local_device_count(), flag, np.int32)))


@functools.cache
def _counter() -> tuple[Callable[[jax.Array], jax.Array], NamedSharding]:
    shardings = sharding_lib.make_shardings()
    return jax.jit(jnp.sum, out_shardings=shardings.replicated), shardings.batch
