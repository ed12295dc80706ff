"""Reads finished workdirs for the report: results, learning curves, predictions, samples and the ledger of refusals."""

import csv
import dataclasses
import io
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.metrics import definitions
from poster_jax.runtime import storage
from poster_jax.workdir import run_folder


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One trained network.

    Attributes:
        name: what tables and legends call it, unique in a report.
        workdir: its folder; that of one seed where a run has several.
        results: results.json.
        config: config.json, a nested dict.
        lines: those of metrics.jsonl; empty where its branches keep their own.
        predictions: arrays of predictions.npz.
        samples: arrays of samples.npz; empty where the run has none.
        refused: {reason: (rows, {genre: rows})} of the ledger, the most frequent first.
    """

    name: str
    workdir: pathlib.Path
    results: dict[str, Any]
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    predictions: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    refused: dict[str, tuple[int, dict[str, int]]]

    @property
    def genres(self) -> tuple[str, ...]:
        """K names, in label order."""
        return tuple(self.results["data"]["genres"])

    def targets(self, part: str) -> np.ndarray:
        """bool [N, K], the truth of a part."""
        return definitions.make_targets(self.predictions[f"{part}_label"], len(self.genres))

    def scores(self, part: str) -> np.ndarray:
        """[N, K] in [0, 1]."""
        return self.predictions[f"{part}_score"]


@dataclasses.dataclass(frozen=True)
class Many:
    """A workdir whose result is a table over many networks: a search or an ablation; `lines` of metrics.jsonl, of a search."""

    name: str
    results: dict[str, Any]
    lines: list[dict[str, Any]]


def load_many(workdirs: Sequence[pathlib.Path]) -> list[Many]:
    """The searches and ablations among the workdirs, in order; raises UserError as `load` does."""
    read = [(workdir, _read_results(workdir)) for workdir in workdirs]
    found = [(workdir, results) for workdir, results in read if "search" in results or "ablation" in results]
    names = _unique_names([workdir for workdir, _ in found])
    return [
        Many(name, results, _read_lines(workdir / "metrics.jsonl") if "search" in results else [])
        for name, (workdir, results) in zip(names, found, strict=True)
    ]


# The experiments of a reproduction that its page shows in full; the ledger draws on all of them.
SHOWN = (
    "transfer",
    "search",
    "search_batch_norm",
    "one_hot",
    "one_hot_no_conv_dropout",
    "one_hot_no_dropout",
    "ablation",
)


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The results of the protocol `reproduce`, and the workdirs of its experiments that are shown."""

    results: dict[str, Any]
    workdirs: list[pathlib.Path]


def load_reproduction(workdirs: Sequence[pathlib.Path]) -> Reproduction | None:
    """The reproduction that the only workdir holds, None where it holds something else; raises UserError among several."""
    for workdir in workdirs:
        path = workdir / "results.json"
        results = _read_results(workdir) if path.is_file() else {}
        if "ledger" in results:
            if len(workdirs) > 1:
                raise errors.UserError(f"{workdir} is a whole reproduction: make a report of it alone.")
            return Reproduction(results, [workdir / name for name in results["experiments"] if name in SHOWN])
    return None


def load(workdirs: Sequence[pathlib.Path], first_seed: bool = False) -> list[FinishedRun]:
    """The runs of every workdir in order, one per seed, or the first seed of each; of a search its winner, of an ablation none.

    Raises UserError for a folder that is no workdir, a run that has not finished, and runs that tell different genres apart.
    """
    loaded = [_load_workdir(workdir) for workdir in workdirs]
    runs = [run for own in loaded for run in (own[:1] if first_seed else own)]
    for other in runs[1:]:
        if set(other.genres) != set(runs[0].genres):
            raise errors.UserError(
                f"{runs[0].workdir} and {other.workdir} tell different genres apart ({', '.join(runs[0].genres)}; "
                f"{', '.join(other.genres)}): make a report for each."
            )
    names = _unique_names([run.workdir for run in runs])
    return [dataclasses.replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _load_workdir(workdir: pathlib.Path) -> list[FinishedRun]:
    config = run_folder.load_config(workdir).to_dict()
    together = _read_results(workdir)
    if "ablation" in together:
        return []
    if "search" in together:
        return _load_workdir(workdir / "winner")
    refused = _read_refused(workdir / "refused.csv")
    if "seeds" in together:
        folders = {workdir / f"seed_{results['seed']}": results for results in together["seeds"]}
    elif "splits" in together:
        folders = {workdir: together}
    else:
        raise errors.UserError(f"{workdir} holds no single network: give the workdirs of the runs in it.")
    return [
        FinishedRun(
            folder.name,
            folder,
            results,
            config,
            _read_lines(folder / "metrics.jsonl"),
            _read_arrays(folder / "predictions.npz"),
            _read_arrays(folder / "samples.npz") if (folder / "samples.npz").is_file() else {},
            refused,
        )
        for folder, results in folders.items()
    ]


def _read_results(workdir: pathlib.Path) -> dict[str, Any]:
    path = workdir / "results.json"
    if not path.is_file():
        raise errors.UserError(f"the run in {workdir} has not finished: it has no results.json; run its command again first.")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise errors.UserError(f"{path} is damaged ({error}): remove it and run the command again.") from error


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in storage.read(path).splitlines()]
    except (OSError, ValueError) as error:
        raise errors.UserError(f"{path} is damaged ({error}): run the command again in a new workdir.") from error


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return storage.load_arrays(path)
    except Exception as error:  # numpy and zipfile have no one class for what a damaged file does
        raise errors.UserError(
            f"{path} is missing or damaged: remove results.json beside it and run the command again."
        ) from error


def _read_refused(path: pathlib.Path) -> dict[str, tuple[int, dict[str, int]]]:
    if not path.is_file():
        raise errors.UserError(f"{path} is missing: the folder is no whole workdir; copy all of it.")
    reasons: Counter[str] = Counter()
    genres: dict[str, Counter[str]] = {}
    for row in csv.DictReader(io.StringIO(path.read_text(), newline="")):
        reasons[row["reason"]] += 1
        genres.setdefault(row["reason"], Counter()).update(name for name in row["genres"].split("|") if name)
    return {reason: (count, dict(genres[reason].most_common())) for reason, count in reasons.most_common()}


def _unique_names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart; equal folders are numbered."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{folder.name} ({number})" for number, folder in enumerate(folders, 1)]
