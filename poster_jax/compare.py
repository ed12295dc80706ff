"""`python -m poster_jax.compare RUN RUN [RUN ...] [--labels=FILE] [--part=test] [--samples=2000]`: which run is better?

A paired bootstrap over the movies that all runs share: every run is measured on the same resamples, so that what makes a draw
of movies easy or hard cancels in the difference. A RUN is a workdir; one with seed_* folders is a recipe, whose metric is the
mean over its seeds, so its interval says what other movies would change, not what other seeds would. A RUN may also be a file
of anybody's predictions as `poster_jax.score` reads it, with the labels that --labels names (a CSV, or a workdir).
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from poster_jax import cli, errors
from poster_jax.metrics import definitions, paired, ranks
from poster_jax.report.tables import cells
from poster_jax.runtime import storage
from poster_jax.workdir import given

BOOTSTRAP_SEED = 0


def describe(found: dict[str, Any], part: str) -> str:
    """The result of `compare` as text: one table for each run after the first, which it is compared with."""
    lines = [
        f"{part}: {found['num_movies']:,} shared movies in {found['num_rows']:,} rows, "
        f"{found['num_samples']:,} resamples of movies"
    ]
    mean_ap = found["metrics"]["mean_average_precision"]["seeds"]
    for index, run in enumerate(found["runs"]):
        by_seed = ", ".join(cells.number(value) for value in mean_ap[index])
        lines.append(
            f"  {_letter(index)} = {run['name']}: {run['num_left_out']:,} movies left out because they are not shared; "
            f"seeds {run['num_seeds']}, mean average precision {by_seed}"
        )
        if run["genres_left_out"]:
            lines.append(f"      left out, as not all runs know them: {', '.join(run['genres_left_out'])}")
    for index, run in enumerate(found["runs"][1:], 1):
        if run["identical_to_first"]:
            lines += ["", f"{_letter(index)} is identical to A: the same scores for every row, so every difference is 0"]
        else:
            lines += ["", *_table(found, index)]
    total = len(found["metrics"]) + len(found["per_genre"])
    with_tuned = any(name.endswith(paired.TUNED) for name in found["metrics"])
    tuned = f"{paired.TUNED}: thresholds from validation; " if with_tuned else ""
    lines += [
        "",
        "difference [95 % interval over movies]; sign: share of resamples where it has the other sign, or none",
        f"{paired.APART}: the interval covers 0; of {total} intervals between equal runs about {total / 20:.0f} would miss it",
        f"floor: the best constant answer; {tuned}{cells.LOWER_NOTE}",
    ]
    if len(found["metrics"]) == len(ranks.BY_ORDER):
        lines.append("not all scores are within [0, 1], so all are compared by their order alone")
    elif not tuned:
        lines.append("not all have a validation part, so there are no tuned thresholds")
    if min(run["num_seeds"] for run in found["runs"]) < 2:
        lines.append("with a single seed: another seed may differ by more than the interval, which is over movies alone")
    return "\n".join(lines)


def _table(found: dict[str, Any], index: int) -> list[str]:
    names = [*found["metrics"], *found["per_genre"]]
    entries = [*found["metrics"].values(), *(genre[paired.AVERAGE_PRECISION] for genre in found["per_genre"].values())]
    width = max(map(len, names)) + 2
    head = f"{'':<{width}}{'floor':>7}{'A':>8}{_letter(index):>8}  {f'{_letter(index)} - A':<25}{'sign':>7}"
    lines = [head]
    for row, (name, entry) in enumerate(zip(names, entries, strict=True)):
        if row == len(found["metrics"]):
            lines.append("average precision by genre")
        gap = entry["differences"][index - 1]
        floor, first, other = (cells.number(value) for value in (entry["floor"], entry["values"][0], entry["values"][index]))
        difference, sign = cells.value(gap, "+.3f"), cells.number(gap["other_sign"])
        lines.append(f"{name:<{width}}{floor:>7}{first:>8}{other:>8}  {difference:<25}{sign:>7}  {gap['verdict']}")
    smallest = found["metrics"][definitions.MEAN_AP]["differences"][index - 1]["smallest"]
    if smallest:
        lines.append(f"the smallest difference in {definitions.MEAN_AP} that shows in 4 of 5 such test sets: {smallest:.3f}")
    return lines


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the comparison; returns the exit code, 2 for a mistake in what was asked."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.compare", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a workdir or a file of predictions; compared with the first")
    parser.add_argument("--labels", default="", help="of the files of predictions: a CSV, or a workdir")
    parser.add_argument("--part", default="test", help="train, validation or test")
    parser.add_argument("--samples", type=int, default=2000, help="resamples of the movies")
    parser.add_argument("--json", type=pathlib.Path, help="write the same here")
    flags = parser.parse_args(argv)
    if len(flags.runs) < 2:
        raise errors.UserError(f"a comparison needs two runs and {flags.runs[0]} is one: name another workdir.")
    if flags.samples < 1:
        raise errors.UserError(f"--samples={flags.samples} cannot be: a bootstrap needs at least 1, better 1000.")
    runs = given.load_candidates(flags.runs, flags.labels, flags.part)
    found = {"part": flags.part, **paired.compare(runs, num_samples=flags.samples, seed=BOOTSTRAP_SEED)}
    print(describe(found, flags.part))
    if flags.json:
        _write_json(flags.json, found)
    return 0


def _write_json(path: pathlib.Path, found: dict[str, Any]) -> None:
    try:
        storage.write_json(path, found)
    except OSError as error:
        raise errors.UserError(f"--json={path} cannot be written ({error.strerror}): name another file.") from error


if __name__ == "__main__":
    sys.exit(main())
