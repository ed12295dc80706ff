"""Signs of life: what takes long says what it is, and goes on saying so until it is done.

On a terminal that is one line which is written over and goes; elsewhere, as in a log, a line at most every EVERY_SECS, and only
while nothing else is said through `spoke`.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from poster_jax.runtime import multihost

FIRST_SECS, EVERY_SECS = 1.0, 8.0
_doing: list[object] = []  # what is being done, the innermost last; only that one speaks
_spoken = 0.0


def spoke() -> None:
    """Notes that a line was printed, so that none is added right behind it."""
    global _spoken
    _spoken = time.monotonic()


@contextlib.contextmanager
def doing(what: str | Callable[[], str], about_secs: float = 0.0) -> Iterator[None]:
    """Says on stderr what is done inside the block, once it has taken FIRST_SECS; process 0 alone speaks.

    what: a phrase, or a function of none that gives it, with how far it is; about_secs: how long it takes, where that is known.
    """
    ended, own = threading.Event(), object()
    began = time.monotonic()
    expected = f", about {about_secs:.0f} s" if about_secs else ""

    def watch() -> None:
        wait, is_first = FIRST_SECS, True
        while not ended.wait(wait):
            quiet = time.monotonic() - max(began if is_first else 0.0, _spoken)
            if _doing[-1:] != [own] or quiet < 0.95 * (FIRST_SECS if is_first else EVERY_SECS):
                wait = FIRST_SECS
                continue
            text = what if isinstance(what, str) else what()
            _say(f"{text}{expected} ..." if is_first else f"{text}{expected}: {time.monotonic() - began:.0f} s")
            wait, is_first = FIRST_SECS, False

    _doing.append(own)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        _doing.remove(own)
        if sys.stderr.isatty() and _spoken > began:
            _write("\r\x1b[K")


def _say(text: str) -> None:
    if multihost.is_main():
        _write(f"\r{text[:79]}\x1b[K" if sys.stderr.isatty() else f"{text}\n")
    spoke()


def _write(text: str) -> None:
    # A reader of stderr may have gone; that ends nothing.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
