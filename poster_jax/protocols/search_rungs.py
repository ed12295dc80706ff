"""The trials of a search trained from one epoch to another, in this process or in several beside each other."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import tqdm

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.metrics import cross_validation
from poster_jax.runtime import multihost
from poster_jax.search import groups, progress, snapshots, space, summary, workers
from poster_jax.search.snapshots import Record
from poster_jax.search.space import Trial
from poster_jax.train.run import Run
from poster_jax.workdir import run_files

Records = dict[tuple[int, int], Record]  # by (trial, fold)


@dataclasses.dataclass(frozen=True)
class Rung:
    """Epochs that networks train for before they are compared; `earlier` says which snapshot holds each at its begin."""

    begin: int
    end: int
    is_last: bool
    earlier: dict[tuple[int, int], pathlib.Path]


@dataclasses.dataclass(frozen=True)
class Search:
    """What stays the same from the first trial to the last.

    Attributes:
        run: config, folder and data; its training part is that of the split, which the folds cut anew.
        pool: positions of the rows of train and validation.
        context: what groups of networks train with.
        vectorize: none, folds or all, with at most `group` networks in one program.
        num_workers: processes that train groups; 1 for this one alone.
        bar: counts epochs of networks.
    """

    run: Run
    trials: list[Trial]
    pool: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    context: groups.GroupContext
    vectorize: str = ""
    group: int = 0
    num_workers: int = 1
    bar: tqdm.tqdm = dataclasses.field(default_factory=lambda: tqdm.tqdm(disable=True))


def train_rung(search: Search, trials: Sequence[Trial], begin: int, end: int, ended: Records) -> tuple[Records, Records]:
    """Trains these trials from the epoch `begin`, where earlier snapshots hold them, to `end`.

    Returns the records of the rung, and `ended` with those of networks that have taken all their epochs.
    """
    rung = make_rung(search, begin, end)
    made = list(make_groups(search, trials))
    left = [index for index, group in enumerate(made) if not rung.is_last or find_ended(search, group) is None]
    search.bar.total -= sum(len(group.members) for index, group in enumerate(made) if index not in left) * (end - begin)
    if search.num_workers > 1:
        # The widest networks, which take longest, come first, so that all workers end at about the same time. What they leave
        # in the folder is then read as if it came from an earlier start.
        left.sort(key=lambda index: -max(math.prod(member.trial.filters) for member in made[index].members))
        commands = worker_commands(search, trials, rung, min(search.num_workers, len(left)))
        with contextlib.closing(workers.train(commands, left, functools.partial(_show_said, search))) as done:
            for index in done:
                if rung.is_last:
                    ended = end_members(search, find_ended(search, made[index]) or {}, ended)
    records: Records = {}
    for index, group in enumerate(made):
        found = find_ended(search, group) if rung.is_last else None
        trained = train_group(search, group, index, rung) if found is None else found
        records |= trained
        if rung.is_last:
            ended = end_members(search, trained, ended)
            snapshots.remove([snapshots.snapshot_path(search.run.workdir, end, index)])
    return records, ended


def make_rung(search: Search, begin: int, end: int) -> Rung:
    """The epochs from `begin` to `end`, with the snapshots that hold those who have come so far."""
    workdir = search.run.workdir
    earlier = multihost.from_main(lambda: snapshots.where_members_are(workdir, begin)) if begin else {}
    return Rung(begin, end, end == search.context.plan.num_epochs, earlier)


def worker_commands(search: Search, trials: Sequence[Trial], rung: Rung, num_workers: int) -> list[list[str]]:
    """The commands of processes that train groups of these trials, see `search_worker`, each with its share of the cores."""
    begun = [
        sys.executable,
        "-m",
        "poster_jax.protocols.search_worker",
        str(search.run.workdir),
        str(rung.begin),
        str(rung.end),
    ]
    numbers, cores = ",".join(str(trial.number) for trial in trials), workers.cores()
    return [[*begun, numbers, ",".join(map(str, cores[number::num_workers]))] for number in range(num_workers)]


def _show_said(search: Search, said: workers.Message) -> None:
    progress.show_epoch(search.bar, said["names"], said["text"])


def find_ended(search: Search, group: groups.Group) -> Records | None:
    """The records of a group whose networks have all ended; None where one has not."""
    names = group.names()
    known = load_records(search, names)
    if len(known) < len(names):
        return None
    check_epochs(known[names[0]].history[-1]["epoch"], search.run.config)
    return known


def load_records(search: Search, names: Sequence[tuple[int, int]]) -> Records:
    """The records of those of these networks that have ended."""
    paths = [snapshots.member_path(search.run.workdir, *name) for name in names]
    found = multihost.from_main(lambda: [snapshots.load_record(path) for path in paths])
    return {name: record for name, record in zip(names, found, strict=True) if record is not None}


def check_epochs(trained: int, config: config_lib.Config) -> None:
    """Raises UserError when a network has ended after another number of epochs than is asked for."""
    if trained != config.train.num_epochs:
        raise errors.UserError(
            f"networks of this workdir have ended after {trained} epochs, not config.train.num_epochs="
            f"{config.train.num_epochs:g}: use that number or another --workdir."
        )


def train_group(search: Search, group: groups.Group, index: int, rung: Rung) -> Records:
    """Trains the group of that number in the rung and returns its records."""
    workdir, names = search.run.workdir, group.names()
    start = functools.partial(groups.gather, group, rung.earlier)
    if not rung.begin:
        start = functools.partial(groups.begin, group, search.context.task)
    trained, _ = groups.train(group, rung.end, snapshots.snapshot_path(workdir, rung.end, index), start, search.context)
    if not rung.is_last:
        return dict(zip(names, trained, strict=True))
    # Where trials were added, a group may hold networks that had ended: what they ended with stays.
    return dict(zip(names, trained, strict=True)) | load_records(search, names)


def save_records(search: Search, records: Records) -> None:
    """Writes the files of networks that have ended and have none, and their seconds to timings.jsonl."""
    for name, record in records.items():
        path = snapshots.member_path(search.run.workdir, *name)
        if not path.exists():
            snapshots.save_record(path, record)
            snapshots.add_timing(search.run.workdir, trial=name[0] + 1, fold=name[1] + 1, secs=record.secs)


def end_members(search: Search, records: Records, ended: Records) -> Records:
    """Keeps the records of networks that have ended and returns all of them; writes trials.csv and metrics.jsonl."""
    workdir = search.run.workdir
    save_records(search, records)
    ended = {**ended, **records}
    metric, num_folds = search.run.config.eval.best_metric, len(search.folds)
    rows = summary.trial_rows(ended, search.trials, num_folds, metric)
    if rows:
        best = rows[cross_validation.order([row[f"mean_{metric}"] for row in rows])[0]]
        value = best[f"mean_{metric}"]
        score = "none" if value is None else f"{metric} {value:.3f} (trial {best['trial']})"
        search.bar.set_description_str(f"trials {len(rows)}/{len(search.trials)}, best {score}", refresh=False)
        run_files.write_trials(workdir, rows)
        snapshots.write_metrics(workdir, ended, [row["trial"] for row in rows])
    return ended


def make_groups(search: Search, trials: Sequence[Trial]) -> Iterator[groups.Group]:
    """The networks of these trials in groups that train together, in an order that depends on nothing else."""
    lots = [[make_member(search, trial, fold, *parts) for fold, parts in enumerate(search.folds)] for trial in trials]
    widest = space.widest(search.trials) if search.vectorize == "all" else None
    if widest is not None:
        lots = [[member for lot in lots for member in lot]]
    shardings = search.run.loader.shardings
    for lot in lots:
        compiled: dict[int, groups.Group] = {}
        for start in range(0, len(lot), search.group):
            members = lot[start : start + search.group]
            # Groups of one size share their programs.
            if len(members) not in compiled:
                compiled[len(members)] = groups.make_group(members, search.context.task, widest, shardings)
            yield dataclasses.replace(compiled[len(members)], members=members)


def make_member(search: Search, trial: Trial, fold: int, train: np.ndarray, validation: np.ndarray) -> groups.Member:
    """One network with a fixed sample of its training rows."""
    rng = np.random.default_rng((search.run.config.seed, fold))
    sample = np.sort(rng.choice(train, min(search.run.config.search.train_sample, len(train)), replace=False))
    return groups.Member(trial, fold, train, validation, sample)
