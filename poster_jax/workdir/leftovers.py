"""What an earlier attempt left in a run folder: whether one of its networks has begun, and the rest, which goes.

A network has begun with its first checkpoint. Until then nothing in the folder is worth keeping, whatever comes next.
"""

import pathlib

from poster_jax.runtime import storage

# What only a network that has begun leaves, in its folder or, of a search, in the folder `search`.
PROOFS = ("results.json", "predictions.npz", "diverged.json")
SNAPSHOTS = ("cohort_", "member_")
# What an attempt may leave before that; the logs of a store are parts with a number behind their name.
FILES = ("chosen.json", "labels.json", "refused.csv", "metrics.jsonl*", "timings.jsonl*", "trials.csv", "cells.csv")
FOLDERS = ("tensorboard", "profile", "checkpoints", "search", "cells", "winner", "seed_*", "range_*", "head_*")


def has_begun(folder: pathlib.Path) -> bool:
    """True if a network in the folder or below it has left a checkpoint, or what comes later."""
    for entry in folder.iterdir():
        if entry.name in PROOFS or entry.name.startswith(SNAPSHOTS):
            return True
        # A checkpoint is a folder named by its step, which gets that name when it is whole.
        if entry.name == "checkpoints":
            if any(step.name.isdigit() for step in entry.glob("*/*")):
                return True
        elif entry.is_dir() and entry.name != "tensorboard" and has_begun(entry):
            return True
    return False


def clear(workdir: pathlib.Path) -> None:
    """Removes what an attempt left in a workdir of ours that has not begun; files of others stay, and so does config.json."""
    for pattern in FILES:
        storage.remove(workdir.glob(pattern))
    own = [path for pattern in FOLDERS for path in workdir.glob(pattern)]
    # The experiments of a reproduction are workdirs too.
    own += [path.parent for name in ("config.json", ".lock") for path in workdir.glob(f"*/{name}")]
    for folder in dict.fromkeys(own):
        storage.remove_folder(folder)


def forget_outcome(workdir: pathlib.Path) -> None:
    """Removes the results of a run that is to go on, before anything can pass them for those of the longer one.

    Groups of a search that had not ended are made anew, as added trials may change who trains together; networks that had
    ended are kept.
    """
    folders = [workdir, workdir / "winner", *workdir.glob("seed_*")]
    storage.remove([*(folder / "results.json" for folder in folders), *workdir.glob("search/cohort_*.npz")])
