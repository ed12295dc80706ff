"""`python -m poster_jax.suspects RUN [--config.data.KEY=VALUE ...] [--out=FILE.csv] [--page=FILE.html]`: labels to check.

Which labels do the pictures contradict? RUN is a finished run or `released:NAME`. What the last layer of its network sees is
computed for every poster of its own data, or of other posters with other labels: `--config.data.csv=FILE` or
`--config.data.dir=FOLDER`, read as training reads them. A logistic regression for each label is fitted to that in five folds,
all pictures of a movie in one, so that no poster is scored by a fit that has seen its labels. Then come the (poster, label)
pairs that are contradicted most: "wrong?" where the label is there and the score lies far below what posters with it usually
have, "missing?" where it is not there and the score lies far above what posters without it usually have.

A suspicion is no error: a picture may be unusual for its label. How good the list is for these very posters is measured: some
labels are moved to other posters on purpose, and the share of them that is found is told beside chance. Exit codes: 0 done, 2 a
mistake in what was asked.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from poster_jax import cli, errors
from poster_jax import config as config_lib
from poster_jax.data import audit, builder, input_pipeline, labels, places, splits
from poster_jax.metrics import definitions, suspects
from poster_jax.protocols import samples, stages
from poster_jax.report import blocks, gallery, render
from poster_jax.report.tables import cells
from poster_jax.runtime import alive, sharding, storage, tables
from poster_jax.train import features, predictor
from poster_jax.workdir import run_files

NUM_FOLDS = 5
SEED = 0  # of the folds and of the labels that are moved
MOVED, NUM_DRAWS = 0.05, 10  # of each label's posters; how often others are drawn
NAME_WIDTH = 20
NUM_PRINTED, NUM_PICTURES = 20, 12  # in the terminal; on the page, of each kind
KINDS = ("wrong?", "missing?")
COLUMNS = ("rank", "id", "path", "part", "kind", "label", "score", "usual", "labels")
NO_ERROR = "A suspicion is no error: look at the picture, which may be unusual for its label."
SEEN = (
    "The network has learnt from the labels of the training part, so it may have learnt wrong ones by heart, which are then "
    "harder to find there."
)


@dataclasses.dataclass(frozen=True)
class Posters:
    """The posters that are judged: ids, paths ("" where there is none) and parts of N of them, the names of K labels.

    `targets` bool [N, K] says which poster has which label, `group` int [N] is equal for pictures of one movie, `features`
    float32 [N, D] are those of the network, `rows` int64 [N] the posters' rows in the loader.
    """

    ids: list[int]
    paths: list[str]
    parts: list[str]
    labels: tuple[str, ...]
    targets: np.ndarray
    group: np.ndarray
    features: np.ndarray
    rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class Suspect:
    """One (poster, label) pair; `row` is the poster's position, `usual` the mean score of posters whose label is alike."""

    row: int
    label: int
    kind: str
    score: float
    usual: float


def gather(workdir: pathlib.Path, data: config_lib.Data) -> tuple[Posters, input_pipeline.Loader]:
    """Every poster of the data with its labels and features, and the loader of its pixels; raises UserError as `train` does."""
    with alive.doing("reading the network"):
        network = predictor.load_network(workdir)
    loader = input_pipeline.open_loader(data, sharding.make_shardings(jax.local_devices()[:1]))
    source = builder.open_source(data)
    posters, rows = np.unique(loader.rows.poster, return_index=True)
    found = features.extract(network.model, network.variables, loader, network.batch_size, data.cache_dir)
    # What the data lists, however the run encodes it: a second genre is not missing because only the first is learnt.
    texts = source.table["genres"].tolist()
    targets = labels.one_hot_texts([texts[poster] for poster in posters], loader.rows.genres).astype(bool)
    ids = loader.rows.movie_id[rows].tolist()
    named = audit.read_paths(data.variant, places.find_place(data)) if data.variant in places.READERS else {}
    part_of = audit.find_parts(source, loader.rows)
    parts = [part_of[poster] for poster in posters]
    paths = [named.get(id_, "") for id_ in ids]
    return Posters(ids, paths, parts, loader.rows.genres, targets, loader.rows.group[rows], found.of(rows), rows), loader


def choose_labels(posters: Posters) -> tuple[Posters, list[str]]:
    """The posters with the labels that can be judged, and a sentence on those that cannot; raises UserError if none can."""
    counts = {
        name: min(len(np.unique(posters.group[has])), len(np.unique(posters.group[~has])))
        for name, has in zip(posters.labels, posters.targets.T, strict=True)
    }
    few = [f"{name} ({count:,})" for name, count in counts.items() if count < NUM_FOLDS]
    if len(few) == len(counts):
        raise errors.UserError(
            f"no label has {NUM_FOLDS} movies with it and {NUM_FOLDS} without it ({', '.join(few)}), which as many folds need: "
            "give more posters."
        )
    kept = [column for column, count in enumerate(counts.values()) if count >= NUM_FOLDS]
    names = tuple(posters.labels[column] for column in kept)
    told = f"not judged, as fewer than {NUM_FOLDS} movies have it or lack it: {', '.join(few)}"
    return dataclasses.replace(posters, labels=names, targets=posters.targets[:, kept]), [told] if few else []


def judge(posters: Posters) -> tuple[np.ndarray, list[Suspect], str]:
    """Scores float64 [N, K] from folds, all (poster, label) pairs in order, and a sentence on how good such a list is here."""
    targets = posters.targets
    folds = splits.k_folds(targets.astype(np.float32), posters.group, np.arange(len(targets)), NUM_FOLDS, SEED)
    begun: list[int] = []
    with alive.doing(lambda: f"scoring posters by what the others teach: fold {len(begun)} of {NUM_FOLDS}"):
        in_turn = (begun.append(number) or fold for number, fold in enumerate(folds))
        scores = suspects.out_of_fold(posters.features, targets, in_turn)
    hits, chance = suspects.share_found(scores, targets, MOVED, NUM_DRAWS, SEED)
    check = (
        f"how good such a list is here: with {MOVED:.0%} of each label moved to other posters on purpose, {hits:.0%} of what "
        f"is wrong then heads the list, of as many pairs at random {chance:.1%}"
    )
    usual = suspects.usual(scores, targets)
    found = [
        Suspect(row, label, KINDS[0 if targets[row, label] else 1], float(scores[row, label]), float(usual[row, label]))
        for row, label in suspects.rank(scores, targets).tolist()
    ]
    return scores, found, check


def describe(posters: Posters, found: Sequence[Suspect], scores: np.ndarray) -> list[str]:
    """Lines of at most 80 columns: how well the scores tell each label, and the first suspects."""
    by_label = [
        float(definitions.make_ranking(score, has)(np.ones((1, len(has))))[1][0])
        for score, has in zip(scores.T, posters.targets.T, strict=True)
    ]
    order = np.argsort(by_label)[::-1]
    told = ", ".join(f"{posters.labels[label]} {by_label[label]:.2f}" for label in order)
    counted = f"{len(posters.ids):,} posters, {cells.counted(len(posters.labels), 'label')}"
    head = f"{counted}; AUC of the scores, where 0.5 is a guess: {told}"
    columns = {
        "": [str(number) for number in range(1, len(found) + 1)],
        "kind": [each.kind for each in found],
        "label": [cells.shortened(posters.labels[each.label]) for each in found],
        "score": [cells.number(each.score, ".2f") for each in found],
        "usual": [cells.number(each.usual, ".2f") for each in found],
        "poster": [_cut(cli.one_line(_name(posters, each.row)), NAME_WIDTH) for each in found],
    }
    used = sum(max(map(len, (name, *column))) + len(cells.GAP) for name, column in columns.items())
    columns["labelled"] = [_cut(cli.one_line(_labelled(posters, each.row)), cells.TERMINAL_WIDTH - used) for each in found]
    return [*cells.wrapped(head), "", *(line.rstrip() for line in cells.block(list(columns.items()), len(columns)))]


def to_csv(posters: Posters, found: Sequence[Suspect]) -> str:
    """A row a suspect, of COLUMNS."""
    rows = [
        [
            number,
            posters.ids[each.row],
            posters.paths[each.row],
            posters.parts[each.row],
            each.kind.removesuffix("?"),
            posters.labels[each.label],
            f"{each.score:.4f}",
            f"{each.usual:.4f}",
            _labelled(posters, each.row),
        ]
        for number, each in enumerate(found, 1)
    ]
    return tables.csv_text(COLUMNS, rows)


def page(posters: Posters, found: Sequence[Suspect], loader: input_pipeline.Loader, notes: Sequence[str]) -> str:
    """One page that needs no network: the first suspects of each kind with their pictures, below what is to be known."""
    galleries: list[Any] = []
    captions = (
        "The label is there, and the score is far below what is usual for posters with it.",
        "The label is not there, and the score is far above what is usual for posters without it.",
    )
    for kind, title, caption in zip(KINDS, ("Perhaps wrong", "Perhaps missing"), captions, strict=True):
        chosen = [each for each in found if each.kind == kind][:NUM_PICTURES]
        if chosen:
            images = samples.read_images(loader, posters.rows[[each.row for each in chosen]])
            shown = [_shown(posters, each, image) for each, image in zip(chosen, images, strict=True)]
            galleries.append(blocks.Gallery(title, caption, shown))
    section = blocks.Section("Labels to look at again", "suspects", [blocks.Note(NO_ERROR), *notes, *galleries])
    return render.page("Labels that the pictures contradict", [section])


def _shown(posters: Posters, each: Suspect, image: np.ndarray) -> blocks.Poster:
    said = f"{posters.labels[each.label]} {each.kind} {each.score:.2f}, usual {each.usual:.2f}"
    name = _name(posters, each.row)
    return blocks.Poster(name, gallery.as_webp(image), "", "", _labelled(posters, each.row) or "nothing", said, None)


def _name(posters: Posters, row: int) -> str:
    return os.path.basename(posters.paths[row]) or f"id {posters.ids[row]}"


def _labelled(posters: Posters, row: int) -> str:
    return "|".join(name for name, has in zip(posters.labels, posters.targets[row], strict=True) if has)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}~"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.suspects", __doc__)
    parser.add_argument("run", metavar="RUN", help="a finished run, or released:NAME")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE.csv", help="write the list here")
    parser.add_argument("--page", type=pathlib.Path, metavar="FILE.html", help="write the first ones here, with pictures")
    parser.add_argument("--num", type=int, default=200, help="pairs in the list, 200 if not given")
    overrides = [argument for argument in argv if argument.startswith("--config.")]
    flags = parser.parse_args([argument for argument in argv if argument not in overrides])
    if flags.num < 1:
        raise errors.UserError(f"--num={flags.num} cannot be: give 1 or more.")
    for path in filter(None, (flags.out, flags.page)):
        if not path.parent.is_dir():
            raise errors.UserError(f"{path} cannot be written, as {path.parent} is no folder: make it, or name another.")
    workdir = storage.as_path(flags.run)
    given = config_lib.parse_overrides(overrides)
    posters, loader = gather(workdir, stages.find_data(workdir, flags.run, given))
    posters, notes = choose_labels(posters)
    scores, found, check = judge(posters)
    listed = found[: flags.num]
    notes += [check, *([SEEN] if not given and has_learnt(workdir) else [])]
    print("\n".join(describe(posters, listed[:NUM_PRINTED], scores)))
    print("\n".join(["", *(line for note in (*notes, NO_ERROR) for line in cells.wrapped(note))]))
    files = [(flags.out, to_csv(posters, listed), f"{len(listed):,} pairs")] if flags.out else []
    files += [(flags.page, page(posters, listed, loader, notes), "the first of each kind")] if flags.page else []
    for path, content, what in files:
        try:
            storage.write_atomic(path, content)
        except OSError as error:
            raise errors.UserError(f"{path} cannot be written ({error.strerror}): name another file.") from error
        print(f"{path}: {what}")
    return 0


def has_learnt(workdir: pathlib.Path) -> bool:
    """Whether the features were trained on the run's labels; False for a head on a body that stayed as it came."""
    config = run_files.read_run(workdir)[0]
    return config.protocol != "transfer" or config.transfer.tune


if __name__ == "__main__":
    sys.exit(main())
