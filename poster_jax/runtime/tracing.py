"""A trace of ten train steps by jax's profiler, for those who ask what a step's time goes to.

A step is called as without a trace, so no number changes. Traced steps wait for each other: their images per second are lower.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from poster_jax import errors
from poster_jax.runtime import multihost, storage

Step = TypeVar("Step", bound=Callable[..., Any])
FOLDER = "profile"
STEP_NAME = "train"
NUM_STEPS = 10
FIRST = 2  # call of a step that is traced; the one before it compiles

# What is asked for, and how far it is; one run in a process.
_state = {"asked": False, "running": False}


@contextlib.contextmanager
def asked(wanted: bool, workdir: pathlib.Path) -> Iterator[None]:
    """Inside the block the first step that `traced` is given is traced, if that is wanted.

    A trace of fewer steps is closed when the block ends. Raises UserError for a workdir on a store.
    """
    if wanted and storage.is_remote(workdir):
        raise errors.UserError(f"--profile writes to a disk, and {workdir} is on a store: name another --workdir.")
    _state.update(asked=wanted, running=False)
    try:
        yield
    finally:
        if _state["running"]:
            jax.profiler.stop_trace()
        _state.update(asked=False, running=False)


def traced(step: Step, folder: pathlib.Path) -> Step:
    """The same function, whose calls from FIRST on, NUM_STEPS of them, are traced into the folder where that was asked for.

    Only the first function of a process is, and only by process 0.
    """
    if not _state["asked"] or not multihost.is_main():
        return step
    _state["asked"] = False
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if not FIRST <= calls < FIRST + NUM_STEPS:
            return step(*arguments)
        if calls == FIRST:
            jax.profiler.start_trace(str(folder))
            _state["running"] = True
        with jax.profiler.StepTraceAnnotation(STEP_NAME, step_num=calls):
            result = jax.block_until_ready(step(*arguments))
        if calls == FIRST + NUM_STEPS - 1:
            jax.profiler.stop_trace()
            _state["running"] = False
        return result

    return call  # type: ignore[return-value]
