"""A random search: trials x folds of small networks, many in one program; ranked by validation, the best one tested once.

The test part takes no part: folds are cut from train + validation, the winner is chosen by its mean over folds, retrained for
as many epochs on train + validation, and only then scored on test. Nothing is chosen by epoch: a score is the last epoch's.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import labels, sampler, splits
from poster_jax.metrics import cross_validation
from poster_jax.models import layers
from poster_jax.models.types import Variables
from poster_jax.protocols import measure, samples, search_rungs, stages
from poster_jax.protocols.search_rungs import Records, Search
from poster_jax.runtime import alive, multihost, preemption, storage
from poster_jax.search import ensemble, groups, progress, snapshots, space, summary, workers
from poster_jax.search.snapshots import Record
from poster_jax.search.space import Trial
from poster_jax.train import losses
from poster_jax.train.run import Run, make_cadence
from poster_jax.workdir import checkpoint, finished, run_files, run_folder


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Searches and returns the results; a finished search is only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; what was done is saved then.
    """
    with run_folder.opened(workdir, config):
        results = multihost.from_main(lambda: finished.find_whole(workdir, config.protocol))
        if results is not None and len(results["search"]["trials"]) == len(space.draw_trials(config.search, config.seed)):
            search_rungs.check_epochs(results["num_epochs"], config)
            return run_files.complete(workdir, results)
        loader = stages.open_loader(config, workdir)
        cadence = make_cadence(config, len(loader.rows.parts["train"]))
        search = prepare(Run(config, config.seed, workdir, loader, cadence, stop))
        with search.bar, alive.doing(lambda: f"trials: {search.bar.n} of {search.bar.total} epochs of networks"):
            # Successive halving: the better half trains on from where it is; without it the first rung is the last.
            active, begin, ended = search.trials, 0, {}
            for end in config.search.halving:
                records, ended = search_rungs.train_rung(search, active, begin, end, ended)
                active, ended = keep_better_half(search, active, records, ended)
                begin = end
            _, ended = search_rungs.train_rung(search, active, begin, search.context.plan.num_epochs, ended)
            results = conclude(search, ended)
        run_files.write_results(workdir, results)
        snapshots.remove(snapshots.folder(workdir).glob("cohort_*.npz"))
        return results


def prepare(run: Run) -> Search:
    """Folds, trials, and how many networks train together; prints all three, and begins the folder, as nothing is refused."""
    config, search = run.config, outline(run)
    vectorize, why = run_folder.remember_choice(run.workdir, "vectorize") or groups.choose_vectorize(config.search.vectorize)
    num_steps = progress.count_epochs(config, len(search.trials), len(search.folds)) * search.context.plan.steps_per_epoch
    num_workers = workers.choose_number(config.search.vectorize, vectorize, len(search.trials), num_steps)
    group, fits = run_folder.remember_choice(run.workdir, "group") or multihost.from_main(
        lambda: groups.choose_group(search.context.task, search.trials, vectorize, run.loader, num_workers)
    )
    stages.begin(config, run.workdir, run.loader)
    for name, decided in (("vectorize", (vectorize, why)), ("group", (group, fits))):
        run_folder.remember_choice(run.workdir, name, decided)
    print(
        f"search: {len(search.trials)} trials x {len(search.folds)} folds x {search.context.plan.num_epochs} epochs of "
        f"{search.context.plan.steps_per_epoch} steps\ntogether: {vectorize}, because {why}\nmemory: {fits}",
        *([f"processes: {num_workers}, {workers.WHY}"] if num_workers > 1 else []),
        sep="\n",
        flush=True,
    )
    bar = progress.open_bar(progress.count_epochs(config, len(search.trials), len(search.folds)))

    def show(group: groups.Group, records: Sequence[Record]) -> None:
        progress.show_epoch(bar, group.names(), describe_epoch(config, records))

    context = dataclasses.replace(search.context, on_epoch_end=show)
    return dataclasses.replace(search, vectorize=vectorize, group=int(group), num_workers=num_workers, context=context, bar=bar)


def recall(run: Run, on_epoch_end: Callable[[groups.Group, Sequence[Record]], None]) -> Search:
    """The search of a folder in which `prepare` has decided, for a process that trains for it."""
    search = outline(run)
    vectorize, group = (run_folder.remember_choice(run.workdir, name) for name in ("vectorize", "group"))
    assert vectorize and group
    context = dataclasses.replace(search.context, on_epoch_end=on_epoch_end)
    return dataclasses.replace(search, vectorize=vectorize[0], group=int(group[0]), context=context)


def outline(run: Run) -> Search:
    """What a search does, by its config alone; how many networks train together is still to be decided."""
    config, rows = run.config, run.loader.rows
    pool = np.sort(np.concatenate([rows.parts["train"], rows.parts["validation"]]))
    folds = splits.k_folds(rows.label, rows.group, pool, config.search.num_folds, config.data.seed)
    plan = make_plan(config, min(len(train) for train, _ in folds))
    counts = labels.genre_counts(rows.label[pool], len(rows.genres))
    loss = losses.build(**config.loss, genre_counts=counts, num_rows=len(pool))
    task = ensemble.SearchTask(config, len(rows.genres), loss, plan.steps_per_epoch * plan.num_epochs)
    context = groups.GroupContext(task, run.loader, plan, run.stop, lambda group, records: None)
    return Search(run, space.draw_trials(config.search, config.seed), pool, folds, context)


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


def describe_epoch(config: config_lib.Config, records: Sequence[Record]) -> str:
    """The last epoch of networks that train together, with the validation score of the first one."""
    epoch = records[0].history[-1]
    value = epoch["validation"].get(config.eval.best_metric)
    score = "" if value is None else f" {config.eval.best_metric} {value:.3f}"
    return f"epoch {epoch['epoch']}/{config.train.num_epochs:g}{score}"


def keep_better_half(search: Search, trials: Sequence[Trial], records: Records, ended: Records) -> tuple[list[Trial], Records]:
    """(the better half by mean validation score, `ended` with the others, which end here)."""
    metric, num_folds = search.run.config.eval.best_metric, len(search.folds)
    scores = [summary.fold_scores(records, trial, num_folds, metric) for trial in trials]
    means = [cross_validation.summarise(folds, share=1 / (num_folds - 1))["mean"] for folds in scores]
    kept = multihost.from_main(lambda: sorted(cross_validation.order(means)[: -(-len(trials) // 2)]))
    left = {trials[index].number for index in kept}
    dropped = {name: record for name, record in records.items() if name[0] not in left}
    ended = search_rungs.end_members(search, dropped, ended)
    progress.say(search.bar, f"halving: trials {', '.join(str(number + 1) for number in sorted(left))} train on")
    return [trials[index] for index in kept], ended


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
    progress.say(search.bar, f"trial {table['winner']} is the best by validation; it is trained on train + validation")
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
    member = search_rungs.make_member(search, winner, len(search.folds), search.pool, none)
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
