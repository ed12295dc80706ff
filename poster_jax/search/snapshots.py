"""Files of a search in its workdir: snapshots to resume from, one file per finished network, metrics.jsonl.

Every file is replaced whole. `search/cohort_*.npz` hold states and go when the search is done; `search/member_*.npz` hold a
network's history and its last validation scores.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.runtime import multihost, storage


@dataclasses.dataclass
class Record:
    """One network: per epoch {"epoch", "loss", "train": {...}, "validation": {...}}, last validation scores [n, K], seconds."""

    history: list[dict[str, Any]]
    scores: np.ndarray
    secs: float


@dataclasses.dataclass
class Snapshot:
    """Networks that train together, between two steps: names (trial, fold), leaves of states, records, sums of losses [M]."""

    step: int
    names: list[tuple[int, int]]
    leaves: list[list[np.ndarray]]
    records: list[Record]
    losses: np.ndarray


def folder(workdir: pathlib.Path) -> pathlib.Path:
    """The folder of these files in a workdir; created if it is missing."""
    path = workdir / "search"
    path.mkdir(exist_ok=True)
    return path


def save_snapshot(path: pathlib.Path, snapshot: Snapshot) -> None:
    """Replaces the snapshot by one rename."""
    arrays: dict[str, Any] = {"step": snapshot.step, "losses": snapshot.losses, "names": np.array(snapshot.names)}
    for index, (leaves, record) in enumerate(zip(snapshot.leaves, snapshot.records, strict=True)):
        arrays |= {f"member_{index}_leaf_{position}": leaf for position, leaf in enumerate(leaves)}
        arrays |= {f"member_{index}_{name}": value for name, value in _record_arrays(record).items()}
    _save(path, arrays)


def load_snapshot(path: pathlib.Path) -> Snapshot | None:
    """The saved snapshot, or None where there is no file; raises UserError for a damaged one."""
    arrays = _load(path)
    if arrays is None:
        return None
    leaves, records = [], []
    names = [(int(trial), int(fold)) for trial, fold in arrays["names"]]
    for index in range(len(names)):
        start = f"member_{index}_"
        own = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
        leaves.append([own[f"leaf_{position}"] for position in range(sum(name.startswith("leaf_") for name in own))])
        records.append(_to_record(own))
    return Snapshot(int(arrays["step"]), names, leaves, records, arrays["losses"])


def snapshot_path(workdir: pathlib.Path, end_epoch: int, index: int) -> pathlib.Path:
    """The snapshot of the `index`-th group of those that train to `end_epoch`."""
    return folder(workdir) / f"cohort_{end_epoch:04d}_{index:04d}.npz"


def where_members_are(workdir: pathlib.Path, end_epoch: int) -> dict[tuple[int, int], pathlib.Path]:
    """{(trial, fold): the snapshot that holds it} of all that trained to `end_epoch`."""
    found = {}
    for path in sorted(folder(workdir).glob(f"cohort_{end_epoch:04d}_*.npz")):
        found |= {(int(trial), int(fold)): path for trial, fold in storage.load_arrays(path, ["names"])["names"]}
    return found


def member_path(workdir: pathlib.Path, trial: int, fold: int) -> pathlib.Path:
    """The file of trial `trial` on fold `fold`, both counted from 0."""
    return folder(workdir) / f"member_{trial:04d}_{fold:02d}.npz"


def save_record(path: pathlib.Path, record: Record) -> None:
    """Writes one finished network's record."""
    _save(path, _record_arrays(record))


def load_record(path: pathlib.Path) -> Record | None:
    """A finished network's record, or None; raises UserError for a damaged file."""
    arrays = _load(path)
    return None if arrays is None else _to_record(arrays)


def write_metrics(workdir: pathlib.Path, records: Mapping[tuple[int, int], Record], trials: Sequence[int]) -> None:
    """metrics.jsonl: a line per network, epoch and part of these trials; trials and folds are counted from 1 there."""
    lines = [
        json.dumps({"trial": trial + 1, "fold": fold + 1, "epoch": entry["epoch"], "part": part, **entry[part]})
        for (trial, fold), record in sorted(records.items(), key=lambda item: item[0])
        if trial + 1 in trials
        for entry in record.history
        for part in ("train", "validation")
    ]
    storage.write_atomic(workdir / "metrics.jsonl", "".join(line + "\n" for line in lines))


def add_timing(workdir: pathlib.Path, **values: float) -> None:
    """One line of timings.jsonl, for what differs between equal runs."""
    if multihost.is_main():
        storage.Log(workdir / "timings.jsonl").append({"event": "network", **values})


def remove(paths: Iterable[pathlib.Path]) -> None:
    """Removes the files that exist; of several processes only process 0 removes."""
    if multihost.is_main():
        storage.remove(paths)


def _record_arrays(record: Record) -> dict[str, Any]:
    return {"history": np.array(json.dumps(record.history)), "scores": record.scores, "secs": record.secs}


def _to_record(arrays: Mapping[str, np.ndarray]) -> Record:
    return Record(json.loads(str(arrays["history"])), arrays["scores"], float(arrays["secs"]))


def _save(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    storage.write_atomic(path, buffer.getvalue())


def _load(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        return storage.load_arrays(path)
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise errors.UserError(f"{path} is damaged ({error}): remove it to train what it held again.") from error
