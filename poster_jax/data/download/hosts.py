"""Who may be asked when: few requests at once for each host, and long pauses for a host that asks for them.

Tasks wait here and not in threads, so that one slow host holds up no other.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Manners:
    """`per_host` requests at once; after a failure a pause of `base_secs`, doubled each time, up to `longest_secs`.

    A host that asks for a longer pause than `longest_secs`, or fails `patience` times without a success in between, is left
    alone for the rest of the run.
    """

    per_host: int
    base_secs: float
    longest_secs: float
    patience: int


@dataclass
class _Host:
    width: float
    ready: deque = field(default_factory=deque)
    active: int = 0
    not_before: float = 0.0
    failures: int = 0
    overloads: int = 0
    left_alone: str = ""


class Schedule:
    """The tasks that wait, by host; times are seconds of one clock that the caller reads."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._hosts: dict[str, _Host] = {}
        self._later: list[tuple[float, int, str, Any]] = []
        self._number = 0
        self._turn: deque[str] = deque()

    def add(self, host: str, task: Any, not_before: float = 0.0) -> None:
        """A task to be asked of `host`, at once or not before a time."""
        if not_before:
            self._number += 1  # ties are broken by age, tasks are never compared
            heapq.heappush(self._later, (not_before, self._number, host, task))
        else:
            self._host(host).ready.append(task)

    def take(self, now: float) -> tuple[str, Any] | None:
        """The next (host, task) that may be asked, hosts in turn; the caller answers with `done`. None: nothing may be yet."""
        while self._later and self._later[0][0] <= now:
            _, _, name, task = heapq.heappop(self._later)
            self._host(name).ready.append(task)
        for _ in range(len(self._turn)):
            name = self._turn[0]
            self._turn.rotate(-1)
            host = self._hosts[name]
            if host.ready and host.active < int(host.width) and host.not_before <= now and not host.left_alone:
                host.active += 1
                return name, host.ready.popleft()
        return None

    def done(
        self, name: str, now: float, *, failed: bool = False, overload: bool = False, wait_secs: float | None = None
    ) -> None:
        """What became of a task that was taken: a transient failure or not, and what the host said of its load."""
        host, manners = self._host(name), self._manners
        host.active -= 1
        if not failed:
            host.failures = host.overloads = 0
            host.width = min(manners.per_host, host.width + 0.25)
            return
        host.failures += 1
        if host.failures >= manners.patience:
            host.left_alone = f"it failed {host.failures} times in a row"
        if overload:
            # One at a time until it answers again; answers under way may all say the same, and count once.
            if host.not_before <= now:
                host.overloads += 1
            host.width = 1
            pause = self.pause(host.overloads) if wait_secs is None else wait_secs
            host.not_before = max(host.not_before, now + pause)
            if pause > manners.longest_secs:
                host.left_alone = f"it wants to be asked again in {pause:.0f} s"

    def pause(self, attempts: int) -> float:
        """Seconds to wait after so many failures, 1 or more; varied by half, so that retries do not come in step."""
        doubled = self._manners.base_secs * 2.0 ** min(attempts - 1, 30)
        return min(doubled, self._manners.longest_secs) * random.uniform(0.5, 1.0)

    def is_over(self) -> bool:
        """True when no task is left that may still be asked, those under way aside."""
        waiting = any(host.ready and not host.left_alone for host in self._hosts.values())
        return not waiting and not any(not self._host(name).left_alone for _, _, name, _ in self._later)

    def left_alone(self) -> dict[str, str]:
        """{host: why} of the hosts that are not asked any more."""
        return {name: host.left_alone for name, host in self._hosts.items() if host.left_alone}

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = _Host(float(self._manners.per_host))
            self._turn.append(name)
        return self._hosts[name]
