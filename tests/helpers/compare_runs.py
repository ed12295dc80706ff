"""`python -m tests.helpers.compare_runs OLD NEW`: are the run folders below OLD and NEW equal to the last bit?

Compares every metrics.jsonl and results.json as text and every array of predictions.npz, in all folders below both. To hold
the checkout against another commit, run each config's `:smoke` from a worktree of that commit into OLD and from here into NEW.
"""

import pathlib
import sys

import numpy as np

TEXTS = ("metrics.jsonl", "results.json", "cells.csv")  # trials.csv has seconds in it


def differences(old: pathlib.Path, new: pathlib.Path) -> list[str]:
    """What differs, a line a file; files that stand on one side only are named too."""
    names = {
        folder: {path.relative_to(folder) for path in folder.rglob("*") if path.name in (*TEXTS, "predictions.npz")}
        for folder in (old, new)
    }
    found = [f"{name}: on one side only" for name in sorted(names[old] ^ names[new])]
    for name in sorted(names[old] & names[new]):
        if name.name in TEXTS:
            same = (old / name).read_bytes() == (new / name).read_bytes()
        else:
            with np.load(old / name) as before, np.load(new / name) as after:
                same = set(before.files) == set(after.files) and all(
                    before[key].dtype == after[key].dtype and before[key].tobytes() == after[key].tobytes()
                    for key in before.files
                )
        if not same:
            found.append(f"{name}: differs")
    return found


def main(old: pathlib.Path, new: pathlib.Path) -> int:
    """Prints what differs and how many files were compared; 1 where something differs or nothing was found."""
    found = differences(old, new)
    count = sum(path.name in (*TEXTS, "predictions.npz") for path in old.rglob("*"))
    print(*found, f"{count} files compared, {len(found)} differ", sep="\n")
    return int(bool(found) or not count)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
