"""Orbax checkpoints of a workdir: `latest` to resume from and `best` to measure, each in its own folder.

The two latest are kept, so that there is a fallback for a damaged one. A digest of the arrays is stored with them, because
orbax silently restores corrupted bytes. `best` is stored with its value. A best checkpoint beyond the restored step is removed,
because that step will run again.
"""

import contextlib
import gc
import hashlib
import inspect
import logging
import pathlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging as absl_logging
from etils import epath
from orbax.checkpoint import v1 as ocp

from poster_jax import errors
from poster_jax.runtime import multihost, storage

# Reads that orbax abandons at a damaged checkpoint end within this time.
SETTLE_SECS = 0.5
Tree = TypeVar("Tree")  # a pytree of arrays, or of their shapes, dtypes and shardings


class Checkpoints:
    """The checkpoints of one workdir, opened or newly made."""

    def __init__(self, workdir: pathlib.Path) -> None:
        # Orbax logs several lines for every save on the root logger.
        absl_logging.set_verbosity(absl_logging.WARNING)
        logging.getLogger("orbax").setLevel(logging.WARNING)
        absl_logging.get_absl_logger().addFilter(_is_not_repeated)
        root = (workdir if storage.is_remote(workdir) else workdir.resolve()) / "checkpoints"
        _refuse_special_files(root)
        self._latest = _open(root / "latest", keep=2)
        self._best = _open(root / "best", keep=1)

    def save(self, step: int, state: Any, window: dict[str, list[float]]) -> None:
        """Saves a state and the sums of the open log window in the background; a second save waits for the first."""
        about: Any = {"window": window, "sha256": digest(state)}
        self._latest.save_checkpointables_async(step, {"state": state}, custom_metadata=about, force=True, overwrite=True)

    def restore_latest(self, abstract_state: Tree) -> tuple[Tree, int, dict[str, list[float]]] | None:
        """(state, step, window) of the newest readable checkpoint, or None if there is none.

        Args:
            abstract_state: shapes, dtypes and shardings to restore into; any number of devices.
        Raises:
            UserError: there are checkpoints, but none is readable.
        """
        known = multihost.from_main(lambda: sorted((one.step for one in self._latest.checkpoints), reverse=True))
        for position, step in enumerate(known):
            state, window, reason = None, {}, "another process could not"
            try:
                state = _load(self._latest, step, "state", abstract_state)
                window = _custom(self._latest, step)["window"]
            except Exception as error:  # orbax has no common class for what it raises on damaged files
                state = None
                reason = _first_line(error)
            if not multihost.all_agree(state is not None):
                behind = f"falling back to step {known[position + 1]}" if position + 1 < len(known) else "nothing is behind it"
                absl_logging.warning("the checkpoint of step %d cannot be read (%s); %s", step, reason, behind)
                self._latest.delete(step, missing_ok=True)
                continue
            self._forget_best_after(step)
            return jax.block_until_ready(state), step, window
        if known:
            raise errors.UserError("no checkpoint of this workdir can be read: remove the workdir to start again.")
        self._forget_best_after(-1)
        return None

    def best_value(self) -> float | None:
        """The value stored with the best checkpoint, or None."""
        latest = self._best.latest
        return None if latest is None else _custom(self._best, latest.step)["value"]

    def save_best(self, step: int, variables: Mapping[str, Any], value: float) -> None:
        """Replaces the best checkpoint; returns when it is on disk, so that its line in metrics.jsonl never precedes it."""
        # Barriers of two saves have equal names, so processes that save two things at once would mix them up.
        self._latest.wait()
        self._best.save_checkpointables(
            step,
            {"variables": variables},
            custom_metadata={"value": value, "sha256": digest(variables)},
            force=True,
            overwrite=True,
        )

    def restore_best(self, abstract_variables: Tree) -> tuple[Tree, int]:
        """(variables, step) of the best checkpoint; raises UserError if there is none or it is damaged."""
        latest = self._best.latest
        if latest is None:
            raise errors.UserError("this workdir holds no best checkpoint: the run was not evaluated yet; run it further.")
        try:
            return _load(self._best, latest.step, "variables", abstract_variables), latest.step
        except Exception as error:  # as in `restore_latest`
            raise errors.UserError(
                "the best checkpoint of this workdir is damaged, or not of the network that its config.json, labels.json and "
                f"results.json describe ({_first_line(error)}): train again in another workdir."
            ) from error

    def _forget_best_after(self, step: int) -> None:
        for checkpoint in list(self._best.checkpoints):
            if checkpoint.step > step:
                self._best.delete(checkpoint.step, missing_ok=True)

    def close(self) -> None:
        """Waits for pending saves, and raises the error of one that failed."""
        self._latest.close()
        self._best.close()


def forget_latest(workdir: pathlib.Path) -> None:
    """Removes the resumable states, optimizer state included, but not the best weights. A longer run then starts at step 0."""
    latest = workdir / "checkpoints" / "latest"
    if latest.exists():
        storage.remove_folder(latest)


def digest(tree: Any) -> str:
    """SHA-256 of the paths, dtypes, shapes and bytes of a tree of arrays, each whole on every process. 2 GB take a second."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def _load(checkpointer: ocp.training.Checkpointer, step: int, name: str, abstract: Tree) -> Tree:
    """The arrays of a step; raises ValueError if they differ from the saved ones, and whatever orbax raises."""
    with _without_stray_errors():
        loaded = checkpointer.load_checkpointables(step, {name: abstract})[name]
        about = _custom(checkpointer, step) or {}
    if digest(loaded) != about.get("sha256"):
        raise ValueError("its arrays are not the ones that were saved")
    return loaded


def _is_not_repeated(record: logging.LogRecord) -> bool:
    """False for an error that a thread of orbax logs with its traceback: our next call raises it again."""
    return not (record.exc_info and "orbax" in record.pathname)


@contextlib.contextmanager
def _without_stray_errors() -> Iterator[None]:
    """Mutes the tracebacks of pending reads: orbax closes their event loop at the first damaged array, and each prints its own.

    A checkpoint of 60 arrays can print over 100 lines without it. The first error itself is raised.
    """
    hook, logger = sys.unraisablehook, logging.getLogger("asyncio")

    def show(stray: Any) -> None:
        closed = isinstance(stray.exc_value, RuntimeError) and "Event loop is closed" in str(stray.exc_value)
        if not closed and not inspect.iscoroutine(stray.object):
            hook(stray)

    level = logger.level
    sys.unraisablehook = show
    logger.setLevel(logging.CRITICAL)  # "Task exception was never retrieved"
    try:
        yield
    except Exception:
        time.sleep(SETTLE_SECS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # about coroutines that were never awaited
            gc.collect()
        raise
    finally:
        sys.unraisablehook = hook
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _refuse_special_files(folder: pathlib.Path) -> None:
    """Raises UserError for a pipe, a device or a dangling link below a folder: orbax would wait for it."""
    for path in () if storage.is_remote(folder) else folder.rglob("*"):
        if not path.is_file() and not path.is_dir():
            raise errors.UserError(f"{path} is no file: remove it, or copy the whole workdir again.")


def _custom(checkpointer: ocp.training.Checkpointer, step: int) -> Any:
    """The metadata saved with the arrays of a step."""
    return checkpointer.metadata(step).custom_metadata


def _open(directory: pathlib.Path, keep: int) -> ocp.training.Checkpointer:
    policies: Any = ocp.training
    return ocp.training.Checkpointer(
        epath.Path(directory),
        # By default orbax saves as often as it can; here the training loop decides.
        save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
        preservation_policy=policies.preservation_policies.LatestN(keep),
        cleanup_tmp_directories=True,
    )
