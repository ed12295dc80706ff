"""`python -m poster_jax.bench.coverage [--data-sets=2000] [--seed=0] [--processes=2]`: do the intervals hold what they promise?

Draws data sets whose true average precision is known, and counts how often the 95 % interval of `metrics/bootstrap` misses it
and how often the permutation test of `metrics/chance` calls random scores better than a constant answer. A cell is a number
of rows, labels (one of six equally frequent genres, or six genres of prevalence 0.45 to 0.04), and a signal: how far, in
standard deviations, the scores of a genre's posters lie above the others. The old rule, percentiles whose lower end is above
the floor, stands beside.
"""

import dataclasses
import functools
import itertools
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent import futures

import numpy as np
import numpy.typing as npt
import scipy.special

from poster_jax import cli
from poster_jax.metrics import bootstrap, chance, definitions, floors

NUM_ROWS = (234, 477, 1738)  # test parts of about 1,200, 2,400 and 8,700 posters
PREVALENCES = np.array([0.45, 0.33, 0.22, 0.15, 0.08, 0.04])
SIGNALS = {"none": 0.0, "weak": 0.5, "strong": 1.5}
NUM_GENRES = len(PREVALENCES)
NUM_RESAMPLES = 400
TRUTH_ROWS = 1_000_000
MEAN_AP = "mean_average_precision"


@dataclasses.dataclass(frozen=True)
class Cell:
    """How data sets are drawn: rows, whether a row has one label or several, and the signal by name."""

    num_rows: int
    one_label: bool
    signal: str

    def draw(self, num_rows: int, rng: np.random.Generator) -> tuple[npt.NDArray, npt.NDArray]:
        """Scores float64 in [0, 1] and targets bool, both [num_rows, K]."""
        if self.one_label:
            targets = definitions.make_targets(rng.integers(0, NUM_GENRES, num_rows), NUM_GENRES)
        else:
            targets = rng.random((num_rows, NUM_GENRES)) < PREVALENCES
        return scipy.special.expit(rng.normal(size=targets.shape) + SIGNALS[self.signal] * targets), targets

    @functools.cache  # noqa: B019, a cell is a constant
    def truth(self) -> npt.NDArray:
        """The average precision [K] that samples of the cell approach as they grow."""
        if self.signal == "none":
            return np.full(NUM_GENRES, 1 / NUM_GENRES) if self.one_label else PREVALENCES
        scores, targets = self.draw(TRUTH_ROWS, np.random.default_rng(0))
        ones = np.ones((1, TRUTH_ROWS))
        return np.array([definitions.make_ranking(scores[:, k], targets[:, k])(ones)[0][0] for k in range(NUM_GENRES)])


CELLS = [Cell(*each) for each in itertools.product(NUM_ROWS, (True, False), SIGNALS)]


@dataclasses.dataclass
class Counts:
    """What was seen in the data sets of a cell.

    Attributes:
        mean, frequent, rare: [above, below], intervals of the mean and of the first and the last genre's average precision that
            lie wholly above or wholly below the truth.
        old_mean: the same of percentiles.
        told, old_told: data sets in which the mean is called better than a constant answer, by the permutation test and by
            percentiles above the floor.
    """

    num: int = 0
    mean: npt.NDArray = dataclasses.field(default_factory=lambda: np.zeros(2, int))
    frequent: npt.NDArray = dataclasses.field(default_factory=lambda: np.zeros(2, int))
    rare: npt.NDArray = dataclasses.field(default_factory=lambda: np.zeros(2, int))
    old_mean: npt.NDArray = dataclasses.field(default_factory=lambda: np.zeros(2, int))
    told: int = 0
    old_told: int = 0

    def add(self, other: "Counts") -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def make_measure(scores: npt.NDArray, targets: npt.NDArray) -> definitions.Measure:
    """Average precision and its mean alone, as `definitions.make_measure` has them."""
    rankings = [definitions.make_ranking(scores[:, k], targets[:, k]) for k in range(scores.shape[1])]

    def measure(weights: npt.NDArray) -> dict[str, npt.NDArray]:
        average_precision = np.stack([ranking(weights)[0] for ranking in rankings], axis=1)
        return {"average_precision": average_precision, MEAN_AP: definitions.mean_defined(average_precision)}

    return measure


def simulate(
    cell: Cell,
    num_data_sets: int,
    seed: int,
    *,
    num_resamples: int = NUM_RESAMPLES,
    num_permutations: int = chance.NUM_PERMUTATIONS,
) -> Counts:
    """Counts of a cell over data sets drawn from the seed; the permutation test is only run where there is no signal."""
    truth, counts = cell.truth(), Counts(num_data_sets)
    children = np.random.SeedSequence([seed, CELLS.index(cell)]).spawn(num_data_sets)
    groups = np.arange(cell.num_rows)
    for child in children:
        rng = np.random.default_rng(child)
        scores, targets = cell.draw(cell.num_rows, rng)
        measure = make_measure(scores, targets)
        values = definitions.plain(measure, cell.num_rows)
        (samples,) = bootstrap.resample([measure], groups, num_samples=num_resamples, seed=int(rng.integers(2**31)))
        ends = bootstrap.intervals(values, samples, targets, groups)
        old = bootstrap.percentiles(float(values[MEAN_AP]), samples[MEAN_AP])
        counts.mean += _misses(ends[MEAN_AP], truth.mean())
        counts.frequent += _misses(ends["average_precision"][:, 0], truth[0])
        counts.rare += _misses(ends["average_precision"][:, -1], truth[-1])
        counts.old_mean += _misses(old, truth.mean())
        if cell.signal == "none":
            permuted = chance.permute(scores, targets, groups, num_permutations=num_permutations, seed=chance.SEED)
            counts.told += chance.p_value(float(values[MEAN_AP]), permuted[MEAN_AP]) <= chance.LEVEL
            counts.old_told += old[0] > floors.best_constants(targets, [])[MEAN_AP]
    return counts


def _misses(ends: Sequence[float] | npt.NDArray, truth: float) -> npt.NDArray:
    """[1, 0] for an interval above the truth, [0, 1] for one below; an undefined end counts as a miss."""
    return np.array([int(not ends[0] <= truth), int(not ends[1] >= truth)])


def simulate_all(num_data_sets: int, seed: int, num_processes: int) -> Iterator[tuple[Cell, Counts]]:
    """`simulate` of every cell, the cells shared among processes; one process is this one."""
    if num_processes == 1:
        yield from ((cell, simulate(cell, num_data_sets, seed)) for cell in CELLS)
        return
    # Processes are started anew: a fork would copy the locks of threads that libraries have started.
    with futures.ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn")) as pool:
        started = [pool.submit(simulate, cell, num_data_sets, seed) for cell in CELLS]
        for cell, future in zip(CELLS, started, strict=True):
            yield cell, future.result()


HEADER = (
    "rows",
    "labels",
    "signal",
    "mean AP",
    "above",
    "below",
    "frequent",
    "rare",
    "percentiles",
    "null verdicts",
    "old rule",
)


def row(cell: Cell, counts: Counts) -> list[str]:
    """The cells of the table: coverage, and the share of intervals wholly above and below the truth; then verdicts."""
    share = {name: getattr(counts, name) / counts.num for name in ("mean", "frequent", "rare", "old_mean")}
    verdicts = [f"{told / counts.num:.3f}" if cell.signal == "none" else "" for told in (counts.told, counts.old_told)]
    return [
        str(cell.num_rows),
        "one" if cell.one_label else "several",
        cell.signal,
        f"{1 - share['mean'].sum():.3f}",
        *(f"{each:.3f}" for each in share["mean"]),
        *(f"{1 - share[name].sum():.3f}" for name in ("frequent", "rare", "old_mean")),
        *verdicts,
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code, 2 for a mistake in the arguments."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.bench.coverage", __doc__)
    parser.add_argument("--data-sets", type=int, default=2000, help="data sets a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    flags = parser.parse_args(argv)
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    total = Counts()
    for cell, counts in simulate_all(flags.data_sets, flags.seed, flags.processes):
        print(f"| {' | '.join(row(cell, counts))} |", flush=True)
        total.add(counts)
    nulls = flags.data_sets * sum(cell.signal == "none" for cell in CELLS)
    pooled = {name: 1 - getattr(total, name).sum() / total.num for name in ("mean", "frequent", "rare", "old_mean")}
    print(
        f"\nof {total.num:,} data sets: mean AP {pooled['mean']:.3f}, frequent {pooled['frequent']:.3f}, rare "
        f"{pooled['rare']:.3f}, percentiles {pooled['old_mean']:.3f}; null verdicts {total.told / nulls:.4f} of {nulls:,}, "
        f"old rule {total.old_told / nulls:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
