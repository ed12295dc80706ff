"""Reads finished workdirs for the report: results, learning curves, predictions, samples and refused rows."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from poster_jax import errors
from poster_jax.metrics import definitions
from poster_jax.workdir import run_files, run_folder


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One trained network.

    Attributes:
        name: what tables and legends call it, unique in a report.
        workdir: its folder; that of one seed where a run has several.
        recipe: the folder of all its seeds, of a search its winner.
        origin: the folder that was named, whose timings.jsonl says what made the run.
        results: results.json.
        config: config.json, a nested dict.
        lines: those of metrics.jsonl; empty where its branches keep their own.
        predictions: arrays of predictions.npz.
        samples: arrays of samples.npz; empty where the run has none.
        refused: refused catalog rows by reason, the most frequent first.
    """

    name: str
    workdir: pathlib.Path
    recipe: pathlib.Path
    origin: pathlib.Path
    results: dict[str, Any]
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    predictions: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    refused: dict[str, run_files.Refusals]

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
    protocol: str
    results: dict[str, Any]
    lines: list[dict[str, Any]]


def load_many(workdirs: Sequence[pathlib.Path]) -> list[Many]:
    """The searches and ablations among the workdirs, in order; raises UserError as `load` does."""
    read = [(workdir, run_files.read_whole(workdir)) for workdir in workdirs]
    found = [(workdir, results) for workdir, results in read if run_files.find_protocol(results) in ("search", "ablation")]
    names = unique_names([workdir for workdir, _ in found])
    many = []
    for name, (workdir, results) in zip(names, found, strict=True):
        protocol = run_files.find_protocol(results)
        lines = run_files.read_metrics(workdir, results["search"]["metric"]) if protocol == "search" else []
        many.append(Many(name, protocol, results, lines))
    return many


# The experiments of a reproduction that its page shows in full; the table of claims uses all of them.
SHOWN = (
    "transfer",
    "search",
    "search_batch_norm",
    "one_hot",
    "one_hot_fast",
    "one_hot_no_conv_dropout",
    "one_hot_no_dropout",
    "one_hot_no_dropout_slow",
    "ablation",
)


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The results of the protocol `reproduce`, and the workdirs of its experiments that are shown."""

    workdir: pathlib.Path
    results: dict[str, Any]
    workdirs: list[pathlib.Path]


def load_reproduction(workdirs: Sequence[pathlib.Path]) -> Reproduction | None:
    """The reproduction that the only workdir holds, None where it holds something else; raises UserError among several."""
    for workdir in workdirs:
        results = run_files.read_whole(workdir) if run_files.has_results(workdir) else {}
        if run_files.find_protocol(results) == "reproduce":
            if len(workdirs) > 1:
                raise errors.UserError(f"{workdir} is a whole reproduction: make a report of it alone.")
            return Reproduction(workdir, results, [workdir / name for name in results["experiments"] if name in SHOWN])
    return None


def load(workdirs: Sequence[pathlib.Path], first_seed: bool = False) -> list[FinishedRun]:
    """The runs of every workdir in order, one per seed, or the first seed of each; of a search its winner, of an ablation none.

    Raises UserError for a folder that is no workdir, a run that has not finished, and runs that tell different genres apart.
    """
    loaded = [[dataclasses.replace(run, origin=workdir) for run in _load_workdir(workdir)] for workdir in workdirs]
    runs = [run for own in loaded for run in (own[:1] if first_seed else own)]
    for other in runs[1:]:
        if set(other.genres) != set(runs[0].genres):
            raise errors.UserError(
                f"{runs[0].workdir} and {other.workdir} tell different genres apart ({', '.join(runs[0].genres)}; "
                f"{', '.join(other.genres)}): make a report for each."
            )
    names = unique_names([run.workdir for run in runs])
    return [dataclasses.replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _load_workdir(workdir: pathlib.Path) -> list[FinishedRun]:
    config = run_folder.load_config(workdir).to_dict()
    protocol = run_files.find_protocol(run_files.read_whole(workdir))
    if protocol == "ablation":
        return []
    if protocol == "search":
        return _load_workdir(workdir / run_files.WINNER)
    refused = run_files.read_refused(workdir)
    if protocol in ("reproduce", ""):
        raise errors.UserError(
            f"{workdir} holds no single network, as its results.json says: give the workdirs of the runs in it."
        )
    return [
        FinishedRun(
            folder.name,
            folder,
            workdir,
            workdir,
            results,
            config,
            run_files.read_metrics(folder),
            run_files.read_measured(folder, results),
            run_files.read_samples(folder, len(results["data"]["genres"])),
            refused,
        )
        for folder, results in run_files.list_seeds(workdir).items()
    ]


def read_mean_of_scores(recipe: pathlib.Path) -> dict[str, Any] | None:
    """{"splits", "calibration"} of the mean of the scores of a folder's seeds; None where it was not measured."""
    return run_files.read_whole(recipe).get("mean_of_scores")


def unique_names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart; equal folders are numbered."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{folder.name} ({number})" for number, folder in enumerate(folders, 1)]
