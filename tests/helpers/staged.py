"""`python -m tests.helpers.staged NOTES ARGUMENTS ...`: poster_jax.main, which notes every stage that it enters and leaves.

A line of NOTES is "enter STAGE STEP" or "leave STAGE STEP", in one write, so that a process that is stopped at any moment has
told where it is. `tests/helpers/faults.py` starts it, and reads them.
"""

import collections
import functools
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from poster_jax import main
from poster_jax.data import records, resident
from poster_jax.search import groups
from poster_jax.train import evaluate, features, loop
from poster_jax.workdir import checkpoint, logbook

STAGES = ("prepare", "compile", "training", "evaluation", "saving", "features", "search")


class Notes:
    """The file, and the step that the process is at."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.step = 0

    def enter(self, stage: str) -> None:
        os.write(self._file, f"enter {stage} {self.step} {time.monotonic():.4f}\n".encode())

    def leave(self, stage: str) -> None:
        os.write(self._file, f"leave {stage} {self.step} {time.monotonic():.4f}\n".encode())


def within(notes: Notes, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, noted."""

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        notes.enter(stage)
        try:
            return function(*args, **kwargs)
        finally:
            notes.leave(stage)

    return noted


def note_all(notes: Notes) -> None:
    """Puts the notes around the stages of poster_jax."""
    for module, name, stage in (
        (records, "build", "prepare"),
        (resident, "_write", "prepare"),
        (features, "extract", "features"),
        (evaluate, "evaluate", "evaluation"),
        (groups, "train", "search"),
        (checkpoint.Checkpoints, "save_best", "saving"),
    ):
        setattr(module, name, within(notes, stage, getattr(module, name)))
    _note_saves(notes)
    _note_training(notes)
    _note_search_steps(notes)


def _note_saves(notes: Notes) -> None:
    """A save goes on behind the training; it is left when orbax says so."""
    save = checkpoint.Checkpoints.save

    def noted(self: checkpoint.Checkpoints, *args: Any) -> None:
        notes.enter("saving")
        save(self, *args)

        def wait() -> None:
            while self._latest.is_saving_in_progress():
                time.sleep(0.0005)
            notes.leave("saving")

        threading.Thread(target=wait, daemon=True).start()

    checkpoint.Checkpoints.save = noted


def _note_training(notes: Notes) -> None:
    """From the start of `fit` to the end of its first step is "compile", the rest "training"."""
    take_steps, add = loop.take_steps, logbook.Window.add
    inside = {"fit": False, "first": False}

    def noted_fit(state: Any, *args: Any) -> Any:
        notes.step = int(state.step)
        inside.update(fit=True, first=True)
        notes.enter("compile")
        try:
            return take_steps(state, *args)
        finally:
            notes.leave("compile" if inside["first"] else "training")
            inside["fit"] = False

    def noted_add(self: Any, sums: Any) -> None:
        # Evaluation has a window of its own, which is told by its lack of gradients.
        if inside["fit"] and "gradient_norm" in sums:
            notes.step += 1
            notes.leave("compile" if inside["first"] else "training")
            notes.enter("training")
            inside["first"] = False
        add(self, sums)

    loop.take_steps, logbook.Window.add = noted_fit, noted_add


def _note_search_steps(notes: Notes) -> None:
    batches = groups._train_batches

    def noted(group: Any, context: Any, start: int, end: int) -> Iterator[Any]:
        for notes.step, batch in enumerate(batches(group, context, start, end), start):
            yield batch

    groups._train_batches = noted


def active(text: str) -> tuple[list[str], int]:
    """(stages that were entered and not left, the last entered last; the step) of the whole lines of NOTES."""
    counts: collections.Counter[str] = collections.Counter()
    order, step = [], 0
    for line in text[: text.rfind("\n") + 1].splitlines():
        word, stage, at, _ = line.split()
        counts[stage] += 1 if word == "enter" else -1
        step = int(at)
        if word == "enter":
            order = [name for name in order if name != stage] + [stage]
    return [stage for stage in order if counts[stage] > 0], step


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).touch()
    note_all(Notes(sys.argv[1]))
    sys.exit(main.main(sys.argv[2:]))
