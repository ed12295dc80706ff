"""What the claims are measured on: the finished workdirs of a reproduction, read once each, and the facts."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from poster_jax.paper.verdicts import Claim, Estimate, Found
from poster_jax.workdir import run_files


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The workdir of a reproduction, which has a folder for each experiment, and the facts, as `claims.build` takes them."""

    workdir: pathlib.Path
    facts: Mapping[str, Any]
    _read: dict[str, dict[pathlib.Path, dict[str, Any]]] = dataclasses.field(default_factory=dict)

    def has(self, name: str) -> bool:
        """True if the experiment has finished."""
        return run_files.has_results(self.workdir / name)

    def seeds(self, name: str) -> dict[pathlib.Path, dict[str, Any]]:
        """{folder: results} of every seed of an experiment."""
        if name not in self._read:
            self._read[name] = run_files.list_seeds(self.workdir / name)
        return self._read[name]

    def folders(self, name: str) -> list[pathlib.Path]:
        """The folder of every seed of an experiment."""
        return list(self.seeds(name))

    def splits(self, name: str) -> list[Mapping[str, Any]]:
        """The scores of every seed of an experiment."""
        return [seed["splits"] for seed in self.seeds(name).values()]

    def branches(self, name: str, index: int = 0) -> list[Mapping[str, Any]]:
        """One input range of a transfer experiment, of every seed; 0 is the paper's, -1 that of the weights."""
        return [seed["branches"][index] for seed in self.seeds(name).values()]

    def branch_folders(self, name: str) -> list[pathlib.Path]:
        """The folders of the first input range, one per seed: with a single range the seed's own."""
        found = self.seeds(name).items()
        return [folder / "range_0" if len(seed["branches"]) > 1 else folder for folder, seed in found]

    def trials(self, name: str) -> list[Mapping[str, Any]]:
        """The trials of a search, in the order in which they were drawn or given."""
        return run_files.read_results(self.workdir / name)["search"]["trials"]


Measure = Callable[[Evidence], Found]
Entry = tuple[Claim, Measure]


def measure(claim: Claim, how: Measure, evidence: Evidence) -> Found:
    """What is found for a claim; nothing where an experiment that it rests on has not been run."""
    if not all(evidence.has(name) for name in claim.rests_on):
        return Found(Estimate(None))
    return how(evidence)
