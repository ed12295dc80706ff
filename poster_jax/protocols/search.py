"""A random search: trials x folds of small networks, many in one program; ranked by validation, the best one tested once.

The test part takes no part: folds are cut from train + validation, the winner is chosen by its mean over folds, retrained for
as many epochs on train + validation, and only then scored on test. Nothing is chosen by epoch: a score is the last epoch's.
"""

import contextlib
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import labels, sampler, splits
from poster_jax.metrics import cross_validation
from poster_jax.models import layers
from poster_jax.models.types import Variables
from poster_jax.protocols import measure, samples, stages
from poster_jax.runtime import alive, multihost, preemption, storage
from poster_jax.search import ensemble, groups, snapshots, space, summary
from poster_jax.search.snapshots import Record
from poster_jax.search.space import Trial
from poster_jax.train import losses
from poster_jax.train.run import Run, make_cadence
from poster_jax.workdir import checkpoint, finished, run_files, run_folder

Records = dict[tuple[int, int], Record]  # by (trial, fold)
QUIET_SECS = 60.0  # between lines of progress that no terminal shows


@dataclasses.dataclass(frozen=True)
class Search:
    """What stays the same from the first trial to the last.

    Attributes:
        run: config, folder and data; its training part is that of the split, which the folds cut anew.
        pool: positions of the rows of train and validation.
        context: what groups of networks train with.
        bar: counts epochs of networks.
    """

    run: Run
    trials: list[Trial]
    pool: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    vectorize: str
    group: int
    context: groups.GroupContext
    bar: tqdm.tqdm


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Searches and returns the results; a finished search is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; what was done is saved then.
    """
    with run_folder.opened(workdir, config):
        results = multihost.from_main(lambda: finished.find_whole(workdir, config.protocol))
        if results is not None and len(results["search"]["trials"]) == len(space.draw_trials(config.search, config.seed)):
            check_epochs(results["num_epochs"], config)
            return run_files.complete(workdir, results)
        loader = stages.open_loader(config, workdir)
        cadence = make_cadence(config, len(loader.rows.parts["train"]))
        search = prepare(Run(config, config.seed, workdir, loader, cadence, stop))
        with search.bar, alive.doing(lambda: f"trials: {search.bar.n} of {search.bar.total} epochs of networks"):
            # Successive halving: the better half trains on from where it is; without it the first rung is the last.
            active, begin, ended = search.trials, 0, {}
            for end in config.search.halving:
                records, ended = train_rung(search, active, begin, end, ended)
                active, ended = keep_better_half(search, active, records, ended)
                begin = end
            _, ended = train_rung(search, active, begin, search.context.plan.num_epochs, ended)
            results = conclude(search, ended)
        run_files.write_results(workdir, results)
        snapshots.remove(snapshots.folder(workdir).glob("cohort_*.npz"))
        return results


def check_epochs(trained: int, config: config_lib.Config) -> None:
    """Raises UserError when a network has ended after another number of epochs than is asked for."""
    if trained != config.train.num_epochs:
        raise errors.UserError(
            f"networks of this workdir have ended after {trained} epochs, not config.train.num_epochs="
            f"{config.train.num_epochs:g}: use that number or another --workdir."
        )


def prepare(run: Run) -> Search:
    """Folds, trials, and how many networks train together; prints all three, and begins the folder, as nothing is refused."""
    config, rows = run.config, run.loader.rows
    pool = np.sort(np.concatenate([rows.parts["train"], rows.parts["validation"]]))
    folds = splits.k_folds(rows.label, rows.group, pool, config.search.num_folds, config.data.seed)
    plan = make_plan(config, min(len(train) for train, _ in folds))
    counts = labels.genre_counts(rows.label[pool], len(rows.genres))
    loss = losses.build(**config.loss, genre_counts=counts, num_rows=len(pool))
    task = ensemble.SearchTask(config, len(rows.genres), loss, plan.steps_per_epoch * plan.num_epochs)
    trials = space.draw_trials(config.search, config.seed)

    vectorize, why = run_folder.remember_choice(run.workdir, "vectorize") or groups.choose_vectorize(config.search.vectorize)
    group, fits = run_folder.remember_choice(run.workdir, "group") or multihost.from_main(
        lambda: groups.choose_group(task, trials, vectorize, run.loader)
    )
    stages.begin(config, run.workdir, run.loader)
    for name, decided in (("vectorize", (vectorize, why)), ("group", (group, fits))):
        run_folder.remember_choice(run.workdir, name, decided)
    print(
        f"search: {len(trials)} trials x {len(folds)} folds x {plan.num_epochs} epochs of {plan.steps_per_epoch} steps\n"
        f"together: {vectorize}, because {why}\nmemory: {fits}",
        flush=True,
    )
    bar = open_bar(count_epochs(config, len(trials), len(folds)))
    context = groups.GroupContext(task, run.loader, plan, run.stop, functools.partial(show_epoch, bar, config))
    return Search(run, trials, pool, folds, vectorize, int(group), context, bar)


def count_epochs(config: config_lib.Config, num_trials: int, num_folds: int) -> int:
    """Epochs of all networks: trials per rung times its epochs, and the winner's last training."""
    num_epochs = int(config.train.num_epochs)
    ends, left, total = (*config.search.halving, num_epochs), num_trials, num_epochs
    for begin, end in zip((0, *ends), ends, strict=False):
        total += left * num_folds * (end - begin)
        left = -(-left // 2)
    return total


def open_bar(num_epochs: int) -> tqdm.tqdm:
    """A progress bar over epochs of networks; elsewhere than on a terminal it prints once a minute."""
    interval = 0.1 if sys.stderr.isatty() else QUIET_SECS
    return tqdm.tqdm(
        total=num_epochs,
        unit="epoch",
        disable=not multihost.is_main(),
        mininterval=interval,
        maxinterval=max(10, interval),
        dynamic_ncols=True,
    )


def make_plan(config: config_lib.Config, num_train: int) -> groups.Plan:
    """Durations in steps; raises UserError when the training rows do not fill one batch."""
    per_epoch = sampler.steps_per_epoch(num_train, config.train.batch_size)
    if not per_epoch:
        raise errors.UserError(
            f"config.train.batch_size={config.train.batch_size} is more than the {num_train} training rows of a fold: "
            "use a smaller one."
        )
    save_steps = config_lib.to_steps(config.checkpoint.every_steps, config.checkpoint.every_epochs, per_epoch)
    return groups.Plan(per_epoch, int(config.train.num_epochs), max(1, save_steps // per_epoch))


def show_epoch(bar: tqdm.tqdm, config: config_lib.Config, group: groups.Group, epoch: int, records: Sequence[Record]) -> None:
    """Moves the bar by one epoch of a group."""
    first, last = group.members[0], group.members[-1]
    span = f"trial {first.trial.number + 1} fold {first.fold + 1}"
    if last is not first:
        span += f" to trial {last.trial.number + 1} fold {last.fold + 1}"
    value = records[0].history[-1]["validation"].get(config.eval.best_metric)
    score = "" if value is None else f" {config.eval.best_metric} {value:.3f}"
    bar.set_postfix_str(f"{span} epoch {epoch}/{config.train.num_epochs:g}{score}", refresh=False)
    bar.update(len(records))


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


def train_rung(search: Search, trials: Sequence[Trial], begin: int, end: int, ended: Records) -> tuple[Records, Records]:
    """Trains these trials from the epoch `begin`, where earlier snapshots hold them, to `end`.

    Returns the records of the rung, and `ended` with those of networks that have taken all their epochs.
    """
    records: Records = {}
    workdir, is_last = search.run.workdir, end == search.context.plan.num_epochs
    earlier = multihost.from_main(lambda: snapshots.where_members_are(workdir, begin)) if begin else {}
    for index, group in enumerate(make_groups(search, trials)):
        names = [(member.trial.number, member.fold) for member in group.members]
        paths = [snapshots.member_path(workdir, *name) for name in names]
        found = multihost.from_main(lambda paths=paths: [snapshots.load_record(path) for path in paths])
        done = [record for record in found if record is not None]
        if is_last and len(done) == len(names):
            check_epochs(done[0].history[-1]["epoch"], search.run.config)
            search.bar.total -= len(names) * (end - begin)
        else:
            path = snapshots.snapshot_path(workdir, end, index)
            start = functools.partial(groups.gather, group, earlier)
            if not begin:
                start = functools.partial(groups.begin, group, search.context.task)
            trained, _ = groups.train(group, end, path, start, search.context)
            # Where trials were added, a group may hold networks that had ended: what they ended with stays.
            done = [record or anew for record, anew in zip(found, trained, strict=True)] if is_last else trained
        just_trained = dict(zip(names, done, strict=True))
        records |= just_trained
        if is_last:
            ended = end_members(search, just_trained, ended)
            snapshots.remove([snapshots.snapshot_path(workdir, end, index)])
    return records, ended


def keep_better_half(search: Search, trials: Sequence[Trial], records: Records, ended: Records) -> tuple[list[Trial], Records]:
    """(the better half by mean validation score, `ended` with the others, which end here)."""
    metric, num_folds = search.run.config.eval.best_metric, len(search.folds)
    scores = [summary.fold_scores(records, trial, num_folds, metric) for trial in trials]
    means = [cross_validation.summarise(folds, share=1 / (num_folds - 1))["mean"] for folds in scores]
    kept = multihost.from_main(lambda: sorted(cross_validation.order(means)[: -(-len(trials) // 2)]))
    left = {trials[index].number for index in kept}
    dropped = {name: record for name, record in records.items() if name[0] not in left}
    ended = end_members(search, dropped, ended)
    say(search, f"halving: trials {', '.join(str(number + 1) for number in sorted(left))} train on")
    return [trials[index] for index in kept], ended


def end_members(search: Search, records: Records, ended: Records) -> Records:
    """Keeps the records of networks that have ended and returns all of them; writes trials.csv and metrics.jsonl."""
    workdir = search.run.workdir
    for name, record in records.items():
        path = snapshots.member_path(workdir, *name)
        if not path.exists():
            snapshots.save_record(path, record)
            snapshots.add_timing(workdir, trial=name[0] + 1, fold=name[1] + 1, secs=record.secs)
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


def say(search: Search, text: str) -> None:
    """A line that stays, above the bar."""
    if multihost.is_main():
        search.bar.write(text, file=sys.stderr)


def conclude(search: Search, ended: Records) -> dict[str, Any]:
    """Ranks the trials, retrains the winner on train + validation and measures it on test.

    `splits` are those of the winner: `train` is train + validation, `validation` the same rows by the networks of the folds
    that did not see them, `test` is scored here and nowhere else.
    """
    config, rows, metric = search.run.config, search.run.loader.rows, search.run.config.eval.best_metric
    table = multihost.from_main(
        lambda: summary.summarise(ended, search.trials, search.folds, rows.label, metric=metric, num_genres=len(rows.genres))
    )
    value = table["trials"][table["winner"] - 1]["mean"]
    if value is None:
        raise errors.UserError("every trial has diverged on some fold: lower config.search.learning_rate_exponent.")
    winner = search.trials[table["winner"] - 1]
    say(search, f"trial {table['winner']} is the best by validation; it is trained on train + validation")
    group, members, num_steps = retrain(search, winner)

    parts = {"train": search.pool, "validation": search.pool, "test": rows.parts["test"]}
    loader = dataclasses.replace(search.run.loader, rows=dataclasses.replace(rows, parts=parts))
    run = dataclasses.replace(search.run, loader=loader)
    scores = {
        part: groups.score(group, members, [parts[part]], loader, config.eval.batch_size)[0][0] for part in ("train", "test")
    }
    if not all(np.isfinite(array).all() for array in scores.values()):
        raise errors.UserError("the best trial diverged when it was trained on train + validation: narrow the learning rates.")
    scores["validation"] = summary.out_of_fold(ended, winner, search.folds, search.pool)
    state = group.step.to_host(members)[0]
    measured = {
        "title": f"search: best of {len(search.trials)} trials, trial {table['winner']}, seed {config.seed}",
        "seed": config.seed,
        "num_seeds": 1,
        "num_steps": num_steps,
        "num_parameters": layers.count_values(state.params),
        **measure.measure(run, scores),
    }
    winner_run = make_winner(run, winner)
    save_winner(winner_run, state.variables(), scores["test"], measured, value)
    return {**measured, "protocol": "search", "num_epochs": search.context.plan.num_epochs, "search": table}


def retrain(search: Search, winner: Trial) -> tuple[groups.Group, ensemble.Members, int]:
    """The winner trained on all of the pool, as (its group of one, the network on the device, steps)."""
    none = np.zeros(0, np.int64)
    member = make_member(search, winner, len(search.folds), search.pool, none)
    plan = make_plan(search.run.config, len(search.pool))
    num_steps = plan.steps_per_epoch * plan.num_epochs
    task = dataclasses.replace(search.context.task, num_steps=num_steps)
    context = dataclasses.replace(search.context, task=task, plan=plan)
    group = groups.make_group([member], task, None, context.loader.shardings)
    path = snapshots.folder(search.run.workdir) / "cohort_winner.npz"
    _, members = groups.train(group, plan.num_epochs, path, lambda: groups.begin(group, task), context)
    return group, members, num_steps


def make_winner(run: Run, winner: Trial) -> Run:
    """A single run of the winner's widths, rate and dropout, in the folder `winner` of the search."""
    config = space.with_widths(run.config, winner)
    config.optim.learning_rate, config.protocol = winner.learning_rate, "single"
    return dataclasses.replace(run, config=config, workdir=run.workdir / "winner")


def save_winner(run: Run, variables: Variables, test_scores: np.ndarray, measured: dict[str, Any], value: float) -> None:
    """The winner as a finished single run's workdir, for whatever reads one; `value` chose it.

    `splits` are those of the search: `validation`, from which thresholds come, is out of fold.
    """
    config, folder = run.config, run.workdir
    folder.mkdir(exist_ok=True)
    storage.write_atomic(folder / "config.json", config_lib.to_json(config) + "\n")
    if multihost.is_main():
        for name in ("labels.json", "refused.csv", "predictions.npz"):
            storage.write_atomic(folder / name, (folder.parent / name).read_bytes())
    variables = jax.device_put(variables, run.loader.shardings.state)
    with contextlib.closing(checkpoint.Checkpoints(folder)) as checkpoints:
        checkpoints.save_best(measured["num_steps"], variables, value)
    model = models.build(**config.model, num_genres=run.loader.rows.num_outputs, precision=config.train.precision)
    samples.save(run, model, variables, test_scores)
    # Trained for all its epochs: the last weights are those that are measured.
    about = {"protocol": "single", "best_step": measured["num_steps"], "body": models.body_fields(model)}
    run_files.write_results(folder, {**measured, **about})
