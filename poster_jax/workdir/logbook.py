"""The logs of a running run: metrics.jsonl (equal for equal runs), timings.jsonl (all that differs), and a progress bar.

metrics.jsonl is authoritative; TensorBoard files are a copy of it, written if the config says so.
"""

import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tqdm

from poster_jax.runtime import alive, multihost, storage
from poster_jax.workdir import run_files

if TYPE_CHECKING:
    import tensorboardX


class Window:
    """Sums of step metrics since the last log line, in float64 and in step order, so that resuming gives the same sums."""

    def __init__(self, sums: dict[str, list[float]] | None = None) -> None:
        self._sums = {name: list(pair) for name, pair in (sums or {}).items()}
        self._pending: list[Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]] = []

    def add(self, sums: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]) -> None:
        """Adds {name: (sum, count)} device scalars without waiting for them."""
        self._pending.append(sums)

    def sums(self) -> dict[str, list[float]]:
        """{name: [sum, count]} so far, ready for JSON; waits for the device."""
        for sums in self._pending:
            for name, (total, count) in sums.items():
                pair = self._sums.setdefault(name, [0.0, 0.0])
                pair[0] += float(np.asarray(total))
                pair[1] += float(np.asarray(count))
        self._pending = []
        return self._sums

    def take_means(self) -> dict[str, float]:
        """Means since the last call; the window is empty afterwards."""
        means = {name: total / count for name, (total, count) in self.sums().items()}
        self._sums = {}
        return means


SHOWN = {"loss": "loss", "mean_average_precision": "mAP", "top1_accuracy": "top-1"}
PART_NAMES = {"train_inference": "train eval"}


class Logbook:
    """Appends lines to the logs of a workdir; after a crash a line is whole or absent. Process 0 writes; all processes read."""

    verbose = False  # of this process: the terminal shows every metric of a line

    def __init__(self, workdir: pathlib.Path, *, last_step: int, total_steps: int, tensorboard: bool) -> None:
        """Opens the logs and drops every line beyond `last_step`: those steps will run again."""
        path = workdir / run_files.METRICS
        self._writes = multihost.is_main()
        self._metrics, self._timings = storage.Log(path), storage.Log(workdir / run_files.TIMINGS)
        if self._writes:
            self._metrics.close()
        lines = multihost.from_main(lambda: run_files.read_lines(workdir))
        self._lines = [line for line in lines if line["step"] <= last_step]
        storage.write_atomic(path, "".join(json.dumps(line) + "\n" for line in self._lines))
        self._writer = _tensorboard_writer(workdir, last_step) if tensorboard and self._writes else None
        self._bar = tqdm.tqdm(
            total=total_steps,
            initial=last_step,
            unit="step",
            disable=not (self._writes and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def has(self, step: int, part: str) -> bool:
        """True if the line of this step and part is written."""
        return any(line["step"] == step and line["part"] == part for line in self._lines)

    def metrics(
        self, step: int, part: str, values: Mapping[str, float | None], chance: Mapping[str, float] | None = None
    ) -> None:
        """One line: {"step", "part", name: value, ...}; not-a-number becomes null.

        The terminal shows those of SHOWN, beside their `chance` where it is given; all of them if `verbose`.
        """
        clean = {name: value if value is not None and np.isfinite(value) else None for name, value in values.items()}
        line = {"step": step, "part": part, **clean}
        self._lines.append(line)
        self._append(self._metrics, line)
        if self._writer is not None:
            for name, value in clean.items():
                if value is not None:
                    self._writer.add_scalar(f"{part}/{name}", value, step)
        texts = [f"{name} {_short(value)}" for name, value in clean.items()] if self.verbose else _shown(clean, chance or {})
        self.say(f"step {step:>6} {PART_NAMES.get(part, part):<10} {'  '.join(texts)}")

    def timing(self, event: str, **values: float | int | str) -> None:
        """One line of values that differ between equal runs: seconds, rates."""
        self._append(self._timings, {"event": event, **values, "at_secs": round(time.time(), 3)})

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """Prints a line for the user, above the progress bar if there is one."""
        if self._writes:
            self._bar.write(text, file=sys.stderr)
            alive.spoke()
            sys.stderr.flush()

    def _append(self, log: storage.Log, line: dict[str, Any]) -> None:
        if self._writes:
            log.append(line)

    def close(self) -> None:
        self._bar.close()
        if self._writes:
            self._metrics.close()
            self._timings.close()
        if self._writer is not None:
            self._writer.close()


def _shown(values: Mapping[str, float | None], chance: Mapping[str, float]) -> list[str]:
    """`mAP 0.246 (chance 0.238)`, the word once a line, so that a line fits 80 columns."""
    texts, word = [], "chance "
    for name, short in SHOWN.items():
        if name in values:
            value = values[name]
            text = f"{short} {'none' if value is None else format(value, '.3f')}"
            if name in chance:
                text += f" ({word}{chance[name]:.3f})"
                word = ""
            texts.append(text)
    return texts


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _tensorboard_writer(workdir: pathlib.Path, last_step: int) -> "tensorboardX.SummaryWriter":
    import tensorboardX

    # With purge_step TensorBoard drops what a crashed run wrote beyond the restored step.
    return tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=last_step + 1)
