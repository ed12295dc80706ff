"""Orbax checkpoints of a workdir: `latest` to go on from and `best` to measure, each in a folder of its own.

The two latest are kept, so that a damaged one has a good one behind it. What is in `best` is the best: its value lies beside
it, and a checkpoint beyond the restored step is removed, because that step will be taken again.
"""

import logging
import pathlib
import shutil
from typing import Any

import jax
from absl import logging as absl_logging
from orbax.checkpoint import v1 as ocp

from poster_jax import errors, processes


class Checkpoints:
    """Opens, or makes, the checkpoints of one workdir."""

    def __init__(self, workdir: pathlib.Path) -> None:
        # Orbax tells every save in several lines on the root logger.
        absl_logging.set_verbosity(absl_logging.WARNING)
        logging.getLogger("orbax").setLevel(logging.WARNING)
        root = workdir.resolve() / "checkpoints"
        self._latest = _open(root / "latest", keep=2)
        self._best = _open(root / "best", keep=1)

    def save(self, step: int, state: Any, window: dict[str, list[float]]) -> None:
        """Saves a state and the sums of the open log window, in the background; a second save waits for the first."""
        about: Any = {"window": window}
        self._latest.save_checkpointables_async(step, {"state": state}, custom_metadata=about, force=True, overwrite=True)

    def restore_latest(self, abstract_state: Any) -> tuple[Any, int, dict[str, list[float]]] | None:
        """(state, step, window) of the newest checkpoint that can be read, or None where there is none.

        Args:
            abstract_state: shapes, dtypes and shardings to restore into; any number of devices.
        Raises:
            UserError: there are checkpoints and none can be read.
        """
        known = processes.from_main(lambda: sorted((one.step for one in self._latest.checkpoints), reverse=True))
        for position, step in enumerate(known):
            state, window, reason = None, {}, ["another process could not"]
            try:
                state = self._latest.load_checkpointables(step, {"state": abstract_state})["state"]
                window = _custom(self._latest, step)["window"]
            except Exception as error:  # whatever orbax raises on damaged files: it has no one class for it
                state = None
                reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            if not processes.all_agree(state is not None):
                behind = f"falling back to step {known[position + 1]}" if position + 1 < len(known) else "nothing is behind it"
                absl_logging.warning("the checkpoint of step %d cannot be read (%s); %s", step, reason[0][:200], behind)
                self._latest.delete(step, missing_ok=True)
                continue
            self._forget_best_after(step)
            return jax.block_until_ready(state), step, window
        if known:
            raise errors.UserError("no checkpoint of this workdir can be read: remove the workdir to start again.")
        self._forget_best_after(-1)
        return None

    def best_value(self) -> float | None:
        """The value that the best checkpoint was saved with, or None."""
        latest = self._best.latest
        return None if latest is None else _custom(self._best, latest.step)["value"]

    def save_best(self, step: int, variables: Any, value: float) -> None:
        """Replaces the best checkpoint; returns when it is on disk, so that its metrics line is never ahead of it."""
        self._best.save_checkpointables(
            step, {"variables": variables}, custom_metadata={"value": value}, force=True, overwrite=True
        )

    def restore_best(self, abstract_variables: Any) -> tuple[Any, int]:
        """(variables, step) of the best checkpoint; raises UserError where there is none."""
        latest = self._best.latest
        if latest is None:
            raise errors.UserError("this workdir holds no best checkpoint: the run was not evaluated yet; run it further.")
        loaded = self._best.load_checkpointables(latest.step, {"variables": abstract_variables})
        return loaded["variables"], latest.step

    def _forget_best_after(self, step: int) -> None:
        for checkpoint in list(self._best.checkpoints):
            if checkpoint.step > step:
                self._best.delete(checkpoint.step, missing_ok=True)

    def close(self) -> None:
        """Waits for saves under way."""
        self._latest.close()
        self._best.close()


def forget_latest(workdir: pathlib.Path) -> None:
    """Removes what a run goes on from, optimizer state and all; the best weights stay. A longer run starts from step 0 then."""
    shutil.rmtree(workdir / "checkpoints" / "latest", ignore_errors=True)


def _custom(checkpointer: Any, step: int) -> Any:
    """What was saved beside the arrays of a step."""
    return checkpointer.metadata(step).custom_metadata


def _open(directory: Any, keep: int) -> Any:
    policies: Any = ocp.training
    return ocp.training.Checkpointer(
        directory,
        # Orbax's own policy is to save as often as it can; the loop decides here.
        save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
        preservation_policy=policies.preservation_policies.LatestN(keep),
        cleanup_tmp_directories=True,
    )
