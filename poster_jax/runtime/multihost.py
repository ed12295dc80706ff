"""Several processes as one run: decisions that process 0 makes for all, barriers, and output that is printed once.

A decision read from a file or a clock can differ between processes, which then deadlock in different collectives. So process 0
decides and broadcasts. jax is used only if it is already imported, so that run folders can be read without it.
"""

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

Value = TypeVar("Value")
# Messages are padded to multiples of this size, so that most of them share one compiled program.
BLOCK_BYTES = 4096


def count() -> int:
    """Number of processes of this run; 1 until `distributed.initialize` has joined others."""
    jax = _joined()
    return 1 if jax is None else jax.process_count()


def index() -> int:
    """This process's number, from 0."""
    jax = _joined()
    return 0 if jax is None else jax.process_index()


def is_main() -> bool:
    """True on the one process that writes logs, results and folders."""
    return index() == 0


def _joined() -> Any:
    """The jax module if this process has joined others, else None."""
    jax = sys.modules.get("jax")
    # While another thread imports jax, the module is there without its parts.
    is_initialized = getattr(getattr(jax, "distributed", None), "is_initialized", None)
    return jax if is_initialized is not None and is_initialized() else None


def from_main(function: Callable[[], Value]) -> Value:
    """Runs `function` on process 0 alone; every process returns what it returned or raises what it raised.

    All processes must call this, and `function` must not call it again.
    """
    if count() == 1:
        return function()
    value, error = None, None
    if is_main():
        try:
            value = function()
        except BaseException as raised:
            error = raised
    try:
        sent = pickle.dumps((value, error))
    except Exception:
        error = RuntimeError(f"process 0 failed: {error!r}") if error else TypeError(f"{type(value)} cannot be sent")
        sent = pickle.dumps((None, error))
    value, received = pickle.loads(_broadcast(sent))
    if received is not None:
        raise error or received
    return value


def main_first(prepare: Callable[[], Value]) -> Value:
    """Calls `prepare` on process 0, which writes the missing files, and then on the others, which find them."""
    prepared: list[Value] = []
    from_main(lambda: prepared.append(prepare()))
    return prepared[0] if prepared else prepare()


def wait() -> None:
    """Barrier across processes."""
    all_agree(True)


@contextlib.contextmanager
def only_main_prints() -> Iterator[None]:
    """Inside the block only process 0 prints to stdout; stderr stays open for all."""
    with contextlib.ExitStack() as opened:
        if not is_main():
            opened.enter_context(contextlib.redirect_stdout(opened.enter_context(open(os.devnull, "w"))))
        yield


def all_agree(flag: bool) -> bool:
    """True if `flag` is true on every process."""
    if count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array([flag])).all())


def _broadcast(content: bytes) -> bytes:
    """Process 0's bytes, on every process."""
    from jax.experimental import multihost_utils

    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    padded = np.zeros(-(-length // BLOCK_BYTES) * BLOCK_BYTES, np.uint8)
    if is_main():
        padded[:length] = np.frombuffer(content, np.uint8)
    return multihost_utils.broadcast_one_to_all(padded)[:length].tobytes()
