"""optim.accumulate_steps: the update of a larger batch in the memory of a small one."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors, main, models
from poster_jax.train import optimizers, steps, train_state
from tests.helpers import faults
from tests.train.test_steps import OFF, SIZE, build_loss, make_batch

SETTINGS: dict[str, Any] = {"name": "adam", "learning_rate": 1e-2, "weight_decay": 0.0}
NUM_STEPS = 12


def trained(
    accumulate: int, *, parts: int, batch_norm: bool = False, schedule: str = "cosine"
) -> tuple[list[Any], list[float]]:
    """(parameters after every update, losses of every step) of NUM_STEPS batches of 16, each cut into `parts`."""
    block = (6, 3, 2, batch_norm, 0.0)
    model = models.build(
        "cnn", input_range=(0.0, 1.0), blocks=(block,), dense=((8, False, 0.0),), num_genres=3, precision="float32"
    )
    optimizer = optimizers.build_optimizer(
        **SETTINGS, schedule=schedule, warmup_steps=3 * parts, num_steps=NUM_STEPS * parts, accumulate_steps=accumulate
    )
    state = jax.jit(train_state.make_init(model, optimizer, SIZE, False))(jax.random.key(0))
    step = jax.jit(steps.make_train_step(model, optimizer, build_loss(), augment=OFF))
    params, found = [], []
    for number in range(NUM_STEPS):
        batch, size = make_batch(number), 16 // parts
        for part in range(parts):
            state, sums = step(state, {name: array[part * size :][:size] for name, array in batch.items()}, jax.random.key(0))
            found.append(float(sums["loss"][0]))
        params.append(jax.device_get(state.params))
    assert int(state.step) == NUM_STEPS * parts
    return params, found


def difference(one: Any, other: Any) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_small_batches_give_the_updates_of_the_large_one(schedule: str) -> None:
    wanted, losses = trained(1, parts=1, schedule=schedule)
    found, parts = trained(2, parts=2, schedule=schedule)
    assert max(difference(one, other) for one, other in zip(wanted, found, strict=True)) < 1e-5
    np.testing.assert_allclose(np.reshape(parts, (-1, 2)).sum(1), losses, rtol=1e-5)
    # Not by standing still, and not without accumulation.
    assert difference(wanted[0], wanted[-1]) > 1e-2
    assert difference(wanted[-1], trained(1, parts=2, schedule=schedule)[0][-1]) > 1e-3


def test_with_batch_norm_the_statistics_are_of_the_small_batch() -> None:
    assert difference(trained(1, parts=1, batch_norm=True)[0][-1], trained(2, parts=2, batch_norm=True)[0][-1]) > 1e-3


def test_weights_move_at_every_last_step_and_stages_open_at_theirs() -> None:
    params = {"body": np.ones(3, np.float32), "head": np.ones(3, np.float32)}
    about = {**SETTINGS, "schedule": "constant", "warmup_steps": 0, "num_steps": 100}
    first = {"body": 5, "head": 0}
    optimizer = optimizers.build_optimizer(**about, accumulate_steps=3, first_steps=lambda _: first)
    opt_state, moved = optimizer.init(params), []
    for _ in range(9):
        updates: Any
        updates, opt_state = optimizer.update(params, opt_state, params)
        moved.append({name for name, update in updates.items() if np.any(update)})
    none: set[str] = set()
    # The body opens at step 5, so it moves by the first change from there on: the third.
    assert moved == [none, none, {"head"}, none, none, {"head"}, none, none, {"body", "head"}]
    assert type(optimizers.build_optimizer(**about).init(params)) is type(
        optimizers.build_optimizer(**about, accumulate_steps=1).init(params)
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([("optim.accumulate_steps", "0")], "above zero"),
        ([("optim.accumulate_steps", "2"), ("train.average_decay", "0.9")], "averages after every step"),
    ],
)
def test_what_cannot_be_accumulated_is_refused(settings: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(errors.UserError, match=words):
        config_lib.load("cnn_onehot:smoke", settings)


def test_a_search_and_a_run_in_which_no_weight_would_move_are_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(errors.UserError, match="search trains several at once"):
        config_lib.load("search_cnn:smoke", [("optim.accumulate_steps", "2")])
    arguments = ["--config=cnn_onehot:smoke", "--config.optim.accumulate_steps=500", f"--workdir={tmp_path / 'run'}"]
    assert main.main(arguments) == 2 and "no weight would move" in capsys.readouterr().err


def test_a_run_that_is_killed_within_a_sum_of_gradients_ends_bit_for_bit_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are saved every 3 steps, and weights move every 4: most of them are within a sum."""
    monkeypatch.setitem(faults.ARGUMENTS, "single", (*faults.SINGLE, "--config.optim.accumulate_steps=4"))
    whole = faults.run_whole("single", tmp_path / "whole")
    fault = faults.kill_and_resume(whole, "training", tmp_path / "killed", np.random.default_rng())
    assert fault.survived, f"killed at step {fault.step}: {fault.said[-3000:]}"
    lines = [json.loads(line) for line in (tmp_path / "killed" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["part"] == "validation"] == [6, 12, 18, 24, 30]
