"""One line that tells how far a search is: rewritten in place on a terminal, once a minute elsewhere; process 0 tells it."""

import sys
import time

from poster_jax.runtime import multihost

QUIET_SECS = 60.0


class Progress:
    """Counts epochs of networks; those of earlier starts do not enter the estimate of the time left."""

    def __init__(self, num_epochs: int, num_trials: int, metric: str) -> None:
        """`num_epochs` is the sum over networks."""
        self._total, self._num_trials, self._metric = num_epochs, num_trials, metric
        self._done, self._here, self._trials = 0, 0, 0
        self._best = ""
        self._began = self._shown = time.monotonic()
        self._live, self._tells = sys.stderr.isatty(), multihost.is_main()

    def skip(self, num_epochs: int) -> None:
        """Epochs that need no work: done at an earlier start."""
        self._done += num_epochs

    def advance(self, num_epochs: int, what: str) -> None:
        """Epochs that were trained just now; `what` names the networks and their last score."""
        self._done += num_epochs
        self._here += num_epochs
        now = time.monotonic()
        if not self._tells:
            return
        if self._live:
            sys.stderr.write(f"\r\x1b[K{self._line(what, now)}")
            sys.stderr.flush()
        elif now - self._shown > QUIET_SECS:
            self._shown = now
            print(self._line(what, now), file=sys.stderr, flush=True)

    def note_trials(self, num_ended: int, best: str) -> None:
        """How many trials have ended, and the best of them in words."""
        self._trials, self._best = num_ended, best

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._tells:
            print(f"\r\x1b[K{text}" if self._live else text, file=sys.stderr, flush=True)

    def _line(self, what: str, now: float) -> str:
        left = (self._total - self._done) * (now - self._began) / max(1, self._here) / 60
        best = f"  best {self._best}" if self._best else ""
        return f"trials {self._trials}/{self._num_trials}  epochs {self._done}/{self._total}  {what}{best}  {left:.0f} min left"
