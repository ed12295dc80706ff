"""A random search: trials x folds of small networks, many in one program; ranked by validation, the best one tested once.

The test part takes no part: folds are cut from train + validation, the winner is chosen by its mean over folds, retrained for
as many epochs on train + validation, and only then scored on test. Nothing is chosen by epoch: a score is the last epoch's.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import input_pipeline, labels, sampler, splits
from poster_jax.metrics import cross_validation
from poster_jax.models import layers
from poster_jax.protocols import measure, samples, stages
from poster_jax.runtime import multihost, preemption, storage
from poster_jax.search import ensemble, groups, snapshots, space, summary
from poster_jax.search import progress as progress_lib
from poster_jax.search.snapshots import Record
from poster_jax.search.space import Trial
from poster_jax.train import losses
from poster_jax.workdir import checkpoint, run_folder

Records = dict[tuple[int, int], Record]


@dataclasses.dataclass(frozen=True)
class Search:
    """What stays the same from the first trial to the last; `pool` are the rows of train and validation."""

    config: config_lib.Config
    workdir: pathlib.Path
    trials: list[Trial]
    pool: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    vectorize: str
    group: int
    run: groups.GroupContext
    progress: progress_lib.Progress
    ended: Records


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Searches and returns the results; a finished search is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; what was done is saved then.
    """
    with run_folder.opened(workdir, config):
        results_path = workdir / "results.json"
        results = multihost.from_main(lambda: json.loads(results_path.read_text()) if results_path.exists() else None)
        if results is not None:
            check_epochs(results["num_epochs"], config)
            return results
        search = prepare(config, workdir, stages.open_loader(config, workdir), stop)

        # Successive halving: the better half trains on from where it is; without it the first rung is the last.
        active, begin = search.trials, 0
        for end in config.search.halving:
            records = train_rung(search, active, begin, end)
            active, begin = keep_better_half(search, active, records), end
        train_rung(search, active, begin, search.run.plan.num_epochs)
        results = conclude(search)
        storage.write_json(results_path, results)
        snapshots.remove(snapshots.folder(workdir).glob("cohort_*.npz"))
        return results


def check_epochs(trained: int, config: config_lib.Config) -> None:
    """Raises UserError when a network has ended after another number of epochs than is asked for."""
    if trained != config.train.num_epochs:
        raise errors.UserError(
            f"networks of this workdir have ended after {trained} epochs, not config.train.num_epochs="
            f"{config.train.num_epochs:g}: use that number or another --workdir."
        )


def prepare(
    config: config_lib.Config, workdir: pathlib.Path, feed: input_pipeline.Loader, stop: preemption.StopRequest
) -> Search:
    """Folds, trials, and how many networks train together; told in words."""
    rows = feed.rows
    pool = np.sort(np.concatenate([rows.parts["train"], rows.parts["validation"]]))
    folds = splits.k_folds(rows.label, rows.group, pool, config.search.num_folds, config.data.seed)
    plan = make_plan(config, min(len(train) for train, _ in folds))
    counts = labels.genre_counts(rows.label[pool], len(rows.genres))
    loss = losses.build(**config.loss, genre_counts=counts, num_rows=len(pool))
    task = ensemble.SearchTask(config, len(rows.genres), loss, plan.steps_per_epoch * plan.num_epochs)
    trials = space.draw_trials(config.search, config.seed)

    vectorize, why = run_folder.remember_choice(workdir, "vectorize") or groups.choose_vectorize(config.search.vectorize)
    run_folder.remember_choice(workdir, "vectorize", (vectorize, why))
    group, fits = run_folder.remember_choice(workdir, "group") or multihost.from_main(
        lambda: groups.choose_group(task, trials, vectorize, feed)
    )
    run_folder.remember_choice(workdir, "group", (group, fits))
    print(
        f"search: {len(trials)} trials x {len(folds)} folds x {plan.num_epochs} epochs of {plan.steps_per_epoch} steps\n"
        f"together: {vectorize}, because {why}\nmemory: {fits}",
        flush=True,
    )
    # Trials per rung times its epochs, and the winner's last training.
    ends, left, total = (*config.search.halving, plan.num_epochs), len(trials), plan.num_epochs
    for begin, end in zip((0, *ends), ends, strict=False):
        total += left * len(folds) * (end - begin)
        left = -(-left // 2)
    shown = progress_lib.Progress(total, len(trials), config.eval.best_metric)
    settings = groups.GroupContext(task, feed, plan, stop, lambda *told: tell(shown, config, *told))
    return Search(config, workdir, trials, pool, folds, vectorize, int(group), settings, shown, {})


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


def tell(
    shown: progress_lib.Progress, config: config_lib.Config, group: groups.Group, epoch: int, records: list[Record]
) -> None:
    """One epoch of a cohort on the progress line."""
    first, last = group.members[0], group.members[-1]
    span = f"trial {first.trial.number + 1} fold {first.fold + 1}"
    if last is not first:
        span += f" to trial {last.trial.number + 1} fold {last.fold + 1}"
    value = records[0].history[-1]["validation"].get(config.eval.best_metric)
    score = "" if value is None else f" {config.eval.best_metric} {value:.3f}"
    shown.advance(len(records), f"{span} epoch {epoch}/{config.train.num_epochs:g}{score}")


def make_cohorts(search: Search, trials: Sequence[Trial]) -> Iterator[groups.Group]:
    """The networks of these trials in groups that train together, in an order that depends on nothing else."""
    lots = [[make_member(search, trial, fold, *parts) for fold, parts in enumerate(search.folds)] for trial in trials]
    widest = space.widest(search.trials) if search.vectorize == "all" else None
    if widest is not None:
        lots = [[member for lot in lots for member in lot]]
    for lot in lots:
        compiled: dict[int, groups.Group] = {}
        for start in range(0, len(lot), search.group):
            members = lot[start : start + search.group]
            # Groups of one size share their programs.
            if len(members) not in compiled:
                compiled[len(members)] = groups.make_group(members, search.run.task, widest, search.run.feed.shardings)
            yield dataclasses.replace(compiled[len(members)], members=members)


def make_member(search: Search, trial: Trial, fold: int, train: np.ndarray, validation: np.ndarray) -> groups.Member:
    """One network with a fixed sample of its training rows."""
    rng = np.random.default_rng((search.config.seed, fold))
    sample = np.sort(rng.choice(train, min(search.config.search.train_sample, len(train)), replace=False))
    return groups.Member(trial, fold, train, validation, sample)


def train_rung(search: Search, trials: Sequence[Trial], begin: int, end: int) -> Records:
    """Trains these trials from the epoch `begin`, where earlier snapshots hold them, to `end`."""
    records: Records = {}
    is_last = end == search.run.plan.num_epochs
    earlier = multihost.from_main(lambda: snapshots.where_members_are(search.workdir, begin)) if begin else {}
    for index, group in enumerate(make_cohorts(search, trials)):
        names = [(member.trial.number, member.fold) for member in group.members]
        paths = [snapshots.member_path(search.workdir, *name) for name in names]
        done = multihost.from_main(lambda paths=paths: [snapshots.load_record(path) for path in paths])
        if is_last and all(done):
            trained: Any = done
            check_epochs(trained[0].history[-1]["epoch"], search.config)
            search.progress.skip(len(names) * (end - begin))
        else:
            path = snapshots.snapshot_path(search.workdir, end, index)
            start = lambda group=group: groups.gather(group, earlier) if begin else groups.begin(group, search.run.task)  # noqa: E731
            trained, _ = groups.train(group, end, path, start, search.run)
        records |= dict(zip(names, trained, strict=True))
        if is_last:
            end_members(search, dict(zip(names, trained, strict=True)))
            snapshots.remove([snapshots.snapshot_path(search.workdir, end, index)])
    return records


def keep_better_half(search: Search, trials: Sequence[Trial], records: Records) -> list[Trial]:
    """The better half by mean validation score; the others end here."""
    metric, num_folds = search.config.eval.best_metric, len(search.folds)
    scores = [summary.fold_scores(records, trial, num_folds, metric) for trial in trials]
    means = [cross_validation.summarise(folds, share=1 / (num_folds - 1))["mean"] for folds in scores]
    kept = multihost.from_main(lambda: sorted(cross_validation.order(means)[: -(-len(trials) // 2)]))
    left = {trials[at].number for at in kept}
    end_members(search, {name: record for name, record in records.items() if name[0] not in left})
    search.progress.say(f"halving: trials {', '.join(str(number + 1) for number in sorted(left))} train on")
    return [trials[at] for at in kept]


def end_members(search: Search, records: Records) -> None:
    """Keeps the records of networks that have ended; writes trials.csv and metrics.jsonl when whole trials have."""
    for name, record in records.items():
        path = snapshots.member_path(search.workdir, *name)
        if not path.exists():
            snapshots.save_record(path, record)
            snapshots.add_timing(search.workdir, trial=name[0] + 1, fold=name[1] + 1, secs=record.secs)
    search.ended.update(records)
    metric, num_folds = search.config.eval.best_metric, len(search.folds)
    rows = summary.trial_rows(search.ended, search.trials, num_folds, metric)
    if rows:
        best = rows[cross_validation.order([row[f"mean_{metric}"] for row in rows])[0]]
        value = best[f"mean_{metric}"]
        search.progress.note_trials(len(rows), "none" if value is None else f"{metric} {value:.3f} (trial {best['trial']})")
        snapshots.write_trials(search.workdir, rows)
        snapshots.write_metrics(search.workdir, search.ended, [row["trial"] for row in rows])


def conclude(search: Search) -> dict[str, Any]:
    """Ranks the trials, retrains the winner on train + validation and measures it on test.

    `splits` are those of the winner: `train` is train + validation, `validation` the same rows by the networks of the folds
    that did not see them, `test` is scored here and nowhere else.
    """
    config, rows, metric = search.config, search.run.feed.rows, search.config.eval.best_metric
    table = multihost.from_main(
        lambda: summary.summarise(
            search.ended, search.trials, search.folds, rows.label, metric=metric, num_genres=len(rows.genres)
        )
    )
    if table["trials"][table["winner"] - 1]["mean"] is None:
        raise errors.UserError("every trial has diverged on some fold: lower config.search.learning_rate_exponent.")
    winner = search.trials[table["winner"] - 1]
    search.progress.say(f"trial {table['winner']} is the best by validation; it is trained on train + validation")
    group, members, num_steps = retrain(search, winner)

    parts = {"train": search.pool, "validation": search.pool, "test": rows.parts["test"]}
    feed = dataclasses.replace(search.run.feed, rows=dataclasses.replace(rows, parts=parts))
    scores = {
        part: groups.score(group, members, [parts[part]], feed, config.eval.batch_size)[0][0] for part in ("train", "test")
    }
    if not all(np.isfinite(array).all() for array in scores.values()):
        raise errors.UserError("the best trial diverged when it was trained on train + validation: narrow the learning rates.")
    scores["validation"] = summary.out_of_fold(search.ended, winner, search.folds, search.pool)
    state = group.together.take(members)[0]
    measured = {
        "title": f"search: best of {len(search.trials)} trials, trial {table['winner']}, seed {config.seed}",
        "seed": config.seed,
        "num_seeds": 1,
        "num_steps": num_steps,
        "num_parameters": layers.count_values(state.params),
        **measure.measure(config, feed, scores, search.workdir),
    }
    value = table["trials"][table["winner"] - 1]["mean"]
    save_winner(search, winner, state.variables(), feed, scores["test"], measured, value)
    return {**measured, "protocol": "search", "num_epochs": search.run.plan.num_epochs, "search": table}


def retrain(search: Search, winner: Trial) -> tuple[groups.Group, Any, int]:
    """The winner trained on all of the pool, as (its cohort of one, the network on the device, steps)."""
    none = np.zeros(0, np.int64)
    member = make_member(search, winner, len(search.folds), search.pool, none)
    plan = make_plan(search.config, len(search.pool))
    num_steps = plan.steps_per_epoch * plan.num_epochs
    task = dataclasses.replace(search.run.task, num_steps=num_steps)
    settings = dataclasses.replace(search.run, task=task, plan=plan)
    group = groups.make_group([member], task, None, settings.feed.shardings)
    path = snapshots.folder(search.workdir) / "cohort_winner.npz"
    _, members = groups.train(group, plan.num_epochs, path, lambda: groups.begin(group, task), settings)
    return group, members, num_steps


def save_winner(
    search: Search,
    winner: Trial,
    variables: Any,
    feed: input_pipeline.Loader,
    test_scores: np.ndarray,
    measured: dict[str, Any],
    value: float,
) -> None:
    """The winner as the workdir `winner`, a finished single run's, for whatever reads one; `value` chose it.

    `splits` are those of the search: `validation`, from which thresholds come, is out of fold.
    """
    folder = search.workdir / "winner"
    folder.mkdir(exist_ok=True)
    config = config_lib.from_json(config_lib.to_json(search.config))
    config.model.blocks = tuple((width, *row[1:]) for width, row in zip(winner.filters, config.model.blocks, strict=True))
    config.model.dense = tuple(
        (width, row[1], winner.dropout) for width, row in zip(winner.units, config.model.dense, strict=True)
    )
    config.optim.learning_rate, config.protocol = winner.learning_rate, "single"
    storage.write_atomic(folder / "config.json", config_lib.to_json(config) + "\n")
    if multihost.is_main():
        for name in ("labels.json", "refused.csv", "predictions.npz"):
            storage.write_atomic(folder / name, (search.workdir / name).read_bytes())
    variables = jax.device_put(variables, search.run.feed.shardings.state)
    checkpoints = checkpoint.Checkpoints(folder)
    try:
        checkpoints.save_best(measured["num_steps"], variables, value)
    finally:
        checkpoints.close()
    model = models.build(**config.model, num_genres=feed.rows.num_outputs, precision=config.train.precision)
    samples.save(folder, model, variables, feed, test_scores)
    # Trained for all its epochs: the last weights are those that are measured.
    about = {"protocol": "single", "best_step": measured["num_steps"], "body": models.body_fields(model)}
    storage.write_json(folder / "results.json", {**measured, **about})
