"""An ablation: every combination of the grid's settings, trained and measured as one network each, on the same rows.

A cell is an ordinary run of the protocol `single` in a folder of its own, so whatever reads a run reads a cell. Cells choose
their weights by validation; nothing is chosen between cells, so all of them may be measured on test.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.config import grid
from poster_jax.data import builder, dataset
from poster_jax.protocols import ablation_cells, single
from poster_jax.runtime import multihost, preemption, sharding
from poster_jax.train.run import make_cadence
from poster_jax.workdir import checkpoint, finished, run_files, run_folder


@dataclasses.dataclass(frozen=True)
class CellRun:
    """One cell from one seed, with the config of its `single` run."""

    cell: grid.Cell
    seed: int
    config: config_lib.Config
    folder: pathlib.Path


def run(config: config_lib.Config, workdir: pathlib.Path, stop: preemption.StopRequest) -> dict[str, Any]:
    """Trains what has not ended and returns the results; cells that have ended are only read.

    Raises `UserError` for what the user can mend and `Interrupted` when a signal came; what was done is saved then.
    """
    if multihost.count() > 1:
        raise errors.UserError("an ablation runs in one process, on all of its devices: start it once.")
    with run_folder.opened(workdir, config):
        networks = make_networks(config, workdir)
        outcomes = [ablation_cells.read_outcome(network.folder, network.seed, length_of(network)) for network in networks]
        checked, selected = check_rows(networks, outcomes, select_rows)
        check_lengths(networks, outcomes, selected)
        print(checked, flush=True)
        run_folder.begin(workdir, config)

        began, num_ended = time.monotonic(), sum(outcome is not None for outcome in outcomes)
        for index, network in enumerate(networks):
            if outcomes[index] is None:
                announce(network, outcomes, began, num_ended)
                outcomes[index] = train(network, stop)
                ablation_cells.write_cells(workdir, summarise_ended(networks, outcomes))
            # A resumable state is three times the weights, and there may be many cells: keep only the best weights.
            checkpoint.forget_latest(network.folder)

        measured = [outcome["results"] for outcome in outcomes if outcome and outcome["results"]]
        if not measured:
            raise errors.UserError("every cell has diverged: lower config.optim.learning_rate or the axis over it.")
        axes, rows = grid.read_axes(config_lib.flatten(config)), summarise_ended(networks, outcomes)
        results = {
            "title": f"ablation of {' x '.join(axis.name for axis in axes)}",
            "protocol": config.protocol,
            "data": measured[0]["data"],
            "ablation": ablation_cells.summarise(axes, rows, config.eval.best_metric),
        }
        ablation_cells.write_cells(workdir, rows)
        run_files.write_results(workdir, results)
        return results


def make_networks(config: config_lib.Config, workdir: pathlib.Path) -> list[CellRun]:
    """All cells from all seeds, the seeds of a cell one after another."""
    return [
        CellRun(
            cell,
            seed,
            config_lib.derive(config, {**cell.values, "protocol": "single", "seed": seed, "num_seeds": 1, "ablation.axes": ()}),
            workdir / "cells" / cell.folder / f"seed_{seed}",
        )
        for cell in grid.cells(config_lib.flatten(config))
        for seed in range(config.seed, config.seed + config.num_seeds)
    ]


def select_rows(data: config_lib.Data) -> dataset.Dataset:
    """The rows of `config.data`; its posters are prepared on the first call."""
    return dataset.select(builder.open_source(data), data)


def check_rows(
    networks: Sequence[CellRun],
    outcomes: Sequence[ablation_cells.Outcome | None],
    select: Callable[[config_lib.Data], dataset.Dataset],
) -> tuple[str, dict[str, dataset.Dataset]]:
    """(a sentence that all cells are measured on the same rows, the rows by `data_key`).

    The rows of a finished network are read from its folder, those of the others follow from their config. Raises `UserError`
    where rows differ, and for a network that could not be trained.
    """
    selected: dict[str, dataset.Dataset] = {}
    first: tuple[grid.Cell, dict[str, str]] | None = None
    same_train = True
    for network, outcome in zip(networks, outcomes, strict=True):
        if outcome is not None and outcome["results"] is None:
            continue
        if outcome is not None:
            digests = ablation_cells.measured_digests(network.folder)
        else:
            data, key = network.config.data, data_key(network.config)
            if key not in selected:
                selected[key] = select(data)
            rows = selected[key]
            check_network(network, rows)
            digests = {part: ablation_cells.digest(rows.movie_id[at], rows.label[at]) for part, at in rows.parts.items()}
        first = first or (network.cell, digests)
        if any(digests[part] != first[1][part] for part in ablation_cells.SHARED_PARTS):
            raise errors.UserError(
                f"{first[0].title} and {network.cell.title} would be measured on other rows, and their scores could not be "
                "compared: change no config.data key that draws rows (the encodings first and one_hot draw the same)."
            )
        same_train = same_train and digests["train"] == first[1]["train"]
    train = "the same training rows too" if same_train else "and training rows that an axis changes"
    message = f"ablation: {len(networks)} networks; all cells have the same validation and test rows, {train} (checked)"
    return message, selected


def length_of(network: CellRun) -> tuple[int, float]:
    """(num_steps, num_epochs) of a cell, which an axis may set."""
    return network.config.train.num_steps, network.config.train.num_epochs


def check_lengths(
    networks: Sequence[CellRun], outcomes: Sequence[ablation_cells.Outcome | None], selected: dict[str, dataset.Dataset]
) -> None:
    """Raises `UserError` for a network that is beyond the steps asked for."""
    for network, outcome in zip(networks, outcomes, strict=True):
        if outcome is None:
            rows = selected[data_key(network.config)]
            finished.check_length([network.folder], make_cadence(network.config, len(rows.parts["train"])).total)


def data_key(config: config_lib.Config) -> str:
    """Equal for configs that select the same rows."""
    return json.dumps(config.data.to_dict())


def check_network(network: CellRun, rows: dataset.Dataset) -> None:
    """Raises `UserError`, naming the cell, for batches or layers that do not fit; nothing is computed."""
    config = network.config
    try:
        for name in ("train", "eval"):
            sharding.check_batch_size(f"{name}.batch_size", config[name].batch_size, sharding.make_shardings().mesh.size)
        make_cadence(config, len(rows.parts["train"]))
        model = models.build(**config.model, num_genres=rows.num_outputs, precision=config.train.precision)
        image = jnp.zeros((1, *config.data.image_size, 3))
        jax.eval_shape(lambda key: model.init(key, image, False), jax.random.key(0))
    except errors.UserError as error:
        raise errors.UserError(f"{network.cell.title}: {error}") from error


def announce(network: CellRun, outcomes: Sequence[ablation_cells.Outcome | None], began: float, num_ended_before: int) -> None:
    """Prints which network starts, and how long the rest will take at the rate of those trained since `began`."""
    ended = sum(outcome is not None for outcome in outcomes)
    here = ended - num_ended_before
    left = f"; about {(len(outcomes) - ended) * (time.monotonic() - began) / here / 60:.0f} min left" if here else ""
    print(f"{network.cell.title}, seed {network.seed}: {ended} of {len(outcomes)} networks have ended{left}", file=sys.stderr)


def train(network: CellRun, stop: preemption.StopRequest) -> ablation_cells.Outcome:
    """Runs or resumes one `single` run; a divergence is an outcome, not an error."""
    network.folder.mkdir(parents=True, exist_ok=True)
    # Results of a shorter run would pass for this run's once the config is written.
    run_files.remove_results(network.folder)
    outcome: ablation_cells.Outcome = {"seed": network.seed, "results": None, "diverged_at": None}
    try:
        outcome["results"] = single.run(network.config, network.folder, stop)
    except errors.Diverged as diverged:
        print(f"{network.cell.title}, seed {network.seed}: {diverged}", file=sys.stderr)
        ablation_cells.write_diverged(network.folder, diverged.step)
        outcome["diverged_at"] = diverged.step
    return outcome


def summarise_ended(networks: Sequence[CellRun], outcomes: Sequence[ablation_cells.Outcome | None]) -> list[dict[str, Any]]:
    """The rows of the cells all of whose seeds have ended."""
    cells: dict[int, tuple[grid.Cell, list[ablation_cells.Outcome | None]]] = {}
    for network, outcome in zip(networks, outcomes, strict=True):
        cells.setdefault(network.cell.number, (network.cell, []))[1].append(outcome)
    return [
        ablation_cells.summarise_cell(cell, ended)
        for cell, found in cells.values()
        if len(ended := [outcome for outcome in found if outcome is not None]) == len(found)
    ]
