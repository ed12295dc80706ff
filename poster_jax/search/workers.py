"""Processes that train the groups of a search side by side, on cores of their own.

Small networks keep several threads busy only in part, so on some CPUs processes of one core each take less time than one
process of as many threads. The bits of a network are the same, as groups know nothing of each other. A worker reads numbers of
groups from its stdin and says on its stdout, as JSON lines, what happens; the end of its stdin asks it to save and to end.
"""

import contextlib
import json
import math
import os
import pathlib
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax

from poster_jax import cli, errors
from poster_jax.runtime import multihost

# A worker takes seconds to start: fewer steps of networks than this are not worth it.
MIN_STEPS = 4000
PROCESSES = "processes"  # the value of config.search.vectorize that asks for them
WHY = "with a share of the cores each (--config.search.vectorize=folds trains in one process)"
SAVE_SECS = 120.0  # a worker that was asked to end compiles, or takes a step, no longer than this
Message = dict[str, Any]


def choose_number(asked: str, vectorize: str, num_trials: int, num_steps: int) -> int:
    """How many processes train: one for each core where "processes" is asked for, and by `auto` where that was measured to pay.

    That is a long search, trial by trial, on a CPU with AVX-512: on one without, two took 1.07 of the time of one (see
    bench/README.md). `num_steps` are those of all networks together. Raises UserError where there is no CPU to share.
    """
    lone = jax.default_backend() == "cpu" and len(jax.devices()) == 1 and multihost.count() == 1
    if asked == PROCESSES and not lone:
        raise errors.UserError(
            f"config.search.vectorize={PROCESSES} shares the cores of one CPU, and this run has other devices or is of several "
            "processes already: use auto."
        )
    pays = asked == "auto" and lone and num_steps >= MIN_STEPS and has_avx512()
    if vectorize != "folds" or not (asked == PROCESSES or pays):
        return 1
    return min(len(cores()), num_trials, max(1, math.floor(min(allowance(), 2**16))))


def has_avx512(path: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> bool:
    """Whether the processor says that it has these instructions; False where the system does not tell."""
    try:
        return any(line.startswith("flags") and "avx512f" in line.split() for line in path.read_text().splitlines())
    except OSError:
        return False


def cores() -> list[int]:
    """The cores that this process may use; a single one where the system does not pin processes."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def allowance(path: pathlib.Path = pathlib.Path("/sys/fs/cgroup/cpu.max")) -> float:
    """How many cores a container's quota is worth; infinite where there is none."""
    try:
        quota, period = path.read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):  # no such file, or the quota is "max"
        return float("inf")


def train(
    commands: Sequence[Sequence[str]], numbers: Sequence[int], on_message: Callable[[Message], None]
) -> Generator[int, None, None]:
    """Has every number done by one of the processes of these commands, and yields those that are done.

    Messages without "done" go to `on_message`. Raises UserError for a mistake that a worker has found and for one that the
    system has ended, and `Interrupted` for one that a signal has stopped; all others have saved and ended then.
    """
    said: queue.Queue[tuple[subprocess.Popen, Message | None]] = queue.Queue()
    waiting, num_left = deque(numbers), len(numbers)
    with contextlib.ExitStack() as opened:
        started = [opened.enter_context(_worker(command, said)) for command in commands[: len(numbers)]]
        # All are asked before the first is waited for.
        opened.callback(lambda: [_ask_to_end(process) for process in started])
        for process in started:
            _hand(process, waiting)
        while num_left:
            process, message = said.get()
            if message is None or "mistake" in message:
                raise _failure(process, message)
            if "done" not in message:
                on_message(message)
                continue
            _hand(process, waiting)
            num_left -= 1
            yield message["done"]


def _hand(process: subprocess.Popen, waiting: deque[int]) -> None:
    if waiting and process.stdin:
        # A worker that has just ended says so through the queue.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{waiting.popleft()}\n")
            process.stdin.flush()


@contextlib.contextmanager
def _worker(command: Sequence[str], said: queue.Queue) -> Iterator[subprocess.Popen]:
    """The process, whose lines go to the queue, and a None at their end. Asked to save and to end when the block is left."""
    # In a session of its own, Ctrl-C reaches this process alone, which then asks it.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def listen() -> None:
        for line in process.stdout or ():
            said.put((process, json.loads(line)))
        said.put((process, None))

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield process
    finally:
        _ask_to_end(process)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAVE_SECS)
        finally:
            process.kill()


def _ask_to_end(process: subprocess.Popen) -> None:
    with contextlib.suppress(BrokenPipeError):
        if process.stdin:
            process.stdin.close()


def _failure(process: subprocess.Popen, message: Message | None) -> Exception:
    if message is not None:
        return errors.UserError(message["mistake"])
    code = process.wait()
    # The signal may come before the process handles it.
    if code in (cli.EXIT_UNFINISHED, -signal.SIGTERM):
        return errors.Interrupted("a signal to a process of the search")
    if code == -signal.SIGKILL:
        return errors.UserError(
            "a process of the search was ended by SIGKILL, as the system does where memory runs out: run the same command "
            "again, and on one core (taskset -c 0 COMMAND) if that happens again."
        )
    return RuntimeError(f"a process of the search has ended with exit code {code}")
