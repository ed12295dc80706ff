"""What a second start of a run finds done: results that are whole, or a network to measure again, and how far it came."""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from poster_jax import errors
from poster_jax.runtime import multihost
from poster_jax.workdir import checks, run_files


def read(workdir: pathlib.Path, num_steps: int, *, protocol: str, genres: tuple[str, ...]) -> dict[str, Any] | None:
    """The results of a run that has taken all its `num_steps`, or None. Process 0 reads; all call it together.

    None too, with a line on stderr, where results, predictions or samples are damaged: the network is then measured again.
    """
    results = multihost.from_main(lambda: find_whole(workdir, protocol, genres))
    if results is None or results["num_steps"] != num_steps:
        return None
    return run_files.complete(workdir, results)


def find_whole(workdir: pathlib.Path, protocol: str, genres: tuple[str, ...] | None = None) -> dict[str, Any] | None:
    """The results of one network of this protocol and of these genres, if all that was measured is whole; else None."""
    if not run_files.has_results(workdir):
        return None
    try:
        results = run_files.read_whole(workdir, protocol)
        with checks.named(workdir / run_files.RESULTS, run_files.MEASURE_AGAIN):
            checks.require("seeds" not in results, "", "of several networks")
            checks.require(genres in (None, tuple(results["data"]["genres"])), "data.genres", "not those of the data")
        run_files.read_measured(workdir, results)
        run_files.read_samples(workdir, len(results["data"]["genres"]))
    except checks.DamagedFile as error:
        _say(error)
        return None
    return results


def is_whole(workdir: pathlib.Path, protocol: str) -> bool:
    """True if the results of a run of this protocol can be used, and of its networks what they scored."""
    try:
        run_files.read_whole(workdir, protocol)
        if protocol in ("single", "transfer", "search"):
            for folder, one in run_files.list_seeds(workdir).items():
                run_files.read_measured(folder, one)
    except checks.DamagedFile as error:
        _say(error)
        return False
    return True


def _say(error: checks.DamagedFile) -> None:
    print(f"{error.wrong}, so it is measured again", file=sys.stderr)


def check_length(folders: Sequence[pathlib.Path], num_steps: int) -> None:
    """Raises UserError for a folder of a network that is beyond the steps asked for; folders may be missing."""
    for folder in folders:
        saved = [*folder.glob("checkpoints/latest/*"), *folder.glob("range_*/checkpoints/latest/*")]
        reached = max((int(path.name) for path in saved if path.name.isdigit()), default=0)
        if not reached:
            reached = _measured_at(folder)
        if reached > num_steps:
            raise errors.UserError(f"the run in {folder} is at step {reached}, beyond the {num_steps} asked for: ask for more.")


def _measured_at(folder: pathlib.Path) -> int:
    """The last step of a finished network whose states are gone; 0 where there are no results, or damaged ones."""
    try:
        results = run_files.read_whole(folder)
    except errors.UserError:
        return 0
    is_network = run_files.find_protocol(results) in ("single", "transfer") and "seeds" not in results
    return results["num_steps"] if is_network else 0
