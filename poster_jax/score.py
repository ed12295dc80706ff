"""`python -m poster_jax.score PREDICTIONS LABELS [--samples=1000] [--json=FILE]`: anybody's predictions in our table.

PREDICTIONS: a CSV, JSON lines, npz, parquet or safetensors with ids, a column of scores for each label, and if you like
`movie` (rows that are resampled together) and `part` (train, validation, test; without it all rows are the test part). Or a run
folder, which has labels of its own. LABELS: a CSV or JSON lines with the same ids and a column genres (Drama|Crime) or a column
of zeros and ones for each label; or a run folder.

Every metric has its floor, chance, ceiling and interval, every label its own values. Thresholds are chosen on the validation
part where there is one. Scores outside [0, 1] are ranked; they have no thresholds and no calibration.
"""

import pathlib
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from poster_jax import cli, errors
from poster_jax.data import predictions
from poster_jax.metrics import definitions, power, ranks, scoring
from poster_jax.report.tables import cells, closing, run_table
from poster_jax.runtime import storage
from poster_jax.workdir import given

PROTOCOL = "score"
# Rows of each part are measured in the order of training's table.
ORDER = ("train", "validation", "test")


def measure(found: predictions.Matched, title: str, data: str, *, num_samples: int, seed: int) -> dict[str, Any]:
    """What results.json says of a run, for these scores: {"title", "data", "splits", "notes", "smallest_difference", ...}."""
    tuned = given.choose_thresholds(found)
    thresholds = {} if tuned is None else {"tuned": tuned}
    splits = {}
    for part in ORDER:
        if part in found.parts:
            rows = found.parts[part]
            scores = rows.scores if found.is_probability else ranks.to_unit(rows.scores)
            options: dict[str, Any] = {"num_samples": num_samples, "seed": seed}
            split = scoring.score(scores, rows.label, rows.group, genres=found.genres, thresholds=thresholds, **options)
            splits[part] = split if found.is_probability else ranks.without_values(split)
    notes = [*found.notes]
    if not found.is_probability:
        notes.append("scores outside [0, 1]: they are ranked, and have no thresholds and no calibration")
    elif tuned is None:
        notes.append("no validation part: answers are at the threshold 0.5 alone")
    test = found.parts["test"]
    auc = splits["test"]["metrics"]["macro_auc"]["value"]
    # Beside another network that is as good; one that ranks no better than chance, or without a mistake, has the usual one.
    auc = auc if auc is not None and power.AUC <= auc < 1 else power.AUC
    targets = definitions.make_targets(test.label, len(found.genres))
    smallest = power.smallest_difference(targets, test.group, auc=auc)
    return {
        "title": title,
        "protocol": PROTOCOL,
        "seed": seed,
        "data": {"name": data, "genres": list(found.genres)},
        "notes": notes,
        "splits": splits,
        "baselines": {},
        "smallest_difference": {"value": smallest, "auc": auc, "correlation": power.CORRELATION},
    }


def describe(results: dict[str, Any]) -> str:
    """The results as text: what was left out, the table of a run, the smallest difference, and training's closing sentence."""
    notes = [line for note in results["notes"] for line in textwrap.wrap(note, cells.WIDTH, subsequent_indent="  ")]
    found = results["smallest_difference"]
    if found["value"] is None:
        smallest = "no difference between two networks can be shown here"
    else:
        smallest = (
            f"the smallest difference in {definitions.MEAN_AP} that this test part shows in 4 of 5 cases, paired: "
            f"{found['value']:.3f} (two networks of AUC {found['auc']:.2f} whose errors correlate by "
            f"{found['correlation']:.1f}; `compare` says it for two given ones)"
        )
    lines = [*notes, *([""] if notes else []), run_table.results_table(results).rstrip(), ""]
    lines += [*textwrap.wrap(smallest, cells.WIDTH), "", *textwrap.wrap(closing.meaning([results]), cells.WIDTH)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code, 2 for a mistake in what was asked."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.score", __doc__)
    parser.add_argument("predictions", metavar="PREDICTIONS", help="a file of scores, or a run folder")
    parser.add_argument("labels", nargs="?", default="", metavar="LABELS", help="a CSV of labels, or a run folder")
    parser.add_argument("--samples", type=int, default=1000, help="resamples of the movies")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--json", type=pathlib.Path, help="write the same here, as results.json of a run")
    flags = parser.parse_args(argv)
    if flags.samples < 1:
        raise errors.UserError(f"--samples={flags.samples} cannot be: a bootstrap needs at least 1, better 1000.")
    if flags.seed < 0:
        raise errors.UserError(f"--seed={flags.seed} cannot be: give 0 or more.")
    found = given.load(flags.predictions, flags.labels)
    data = flags.labels or given.LABELS_OF_RUN
    results = measure(found, flags.predictions, data, num_samples=flags.samples, seed=flags.seed)
    print(describe(results))
    if flags.json:
        try:
            storage.write_json(flags.json, results)
        except OSError as error:
            raise errors.UserError(f"--json={flags.json} cannot be written ({error.strerror}): name another file.") from error
    return 0


if __name__ == "__main__":
    sys.exit(main())
