"""Schedule of requests by host: few at once for each host, and long pauses for a host that asks for them.

Tasks wait in the schedule and not in threads, so that a slow host does not delay the others.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Task = TypeVar("Task")


@dataclass(frozen=True)
class Manners:
    """How politely hosts are treated.

    Attributes:
        per_host: most requests at once to one host.
        base_secs: the pause after a first failure; doubled after each further one.
        longest_secs: the longest pause; a host that asks for a longer one is left alone for the rest of the run.
        patience: number of failures in a row after which a host is left alone.
    """

    per_host: int
    base_secs: float
    longest_secs: float
    patience: int


@dataclass
class _Host(Generic[Task]):
    width: float  # requests allowed at once, rounded down
    ready: deque[Task] = field(default_factory=deque)
    active: int = 0
    not_before: float = 0.0
    failures: int = 0
    overloads: int = 0
    left_alone: str = ""


class Schedule(Generic[Task]):
    """The waiting tasks by host; times are in seconds of the caller's clock."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._hosts: dict[str, _Host[Task]] = {}
        self._later: list[tuple[float, int, str, Task]] = []
        self._number = 0
        self._turn: deque[str] = deque()

    def add(self, host: str, task: Task, not_before: float = 0.0) -> None:
        """Adds a task for `host` that is due at once or at the time `not_before`."""
        if not_before:
            self._number += 1  # ties are broken by age, tasks are never compared
            heapq.heappush(self._later, (not_before, self._number, host, task))
        else:
            self._host(host).ready.append(task)

    def take(self, now: float) -> tuple[str, Task] | None:
        """The next (host, task) that is due, hosts in turn; the caller must call `done` later. None if nothing is due yet."""
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
        """Reports the end of a task from `take`: `failed` for a temporary failure, `overload` if the host is overloaded."""
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
            # One at a time until it answers again. Several running requests may report one overload, which counts once.
            if host.not_before <= now:
                host.overloads += 1
            host.width = 1
            pause = self.pause(host.overloads) if wait_secs is None else wait_secs
            host.not_before = max(host.not_before, now + pause)
            if pause > manners.longest_secs:
                host.left_alone = f"it asked for a pause of {pause:.0f} s"

    def pause(self, attempts: int) -> float:
        """Seconds to wait after `attempts` (1 or more) failures; shortened at random by up to half, to spread retries."""
        doubled = self._manners.base_secs * 2.0 ** min(attempts - 1, 30)
        return min(doubled, self._manners.longest_secs) * random.uniform(0.5, 1.0)

    def is_over(self) -> bool:
        """True if no waiting task can become due; running tasks do not count."""
        waiting = any(host.ready and not host.left_alone for host in self._hosts.values())
        return not waiting and not any(not self._host(name).left_alone for _, _, name, _ in self._later)

    def left_alone(self) -> dict[str, str]:
        """{host: why} of the hosts that get no more requests."""
        return {name: host.left_alone for name, host in self._hosts.items() if host.left_alone}

    def _host(self, name: str) -> _Host[Task]:
        if name not in self._hosts:
            self._hosts[name] = _Host(float(self._manners.per_host))
            self._turn.append(name)
        return self._hosts[name]
