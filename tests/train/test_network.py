"""From a config to a network that trains: what `build` hands to the optimizer, the loss and the steps."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax.data import input_pipeline
from poster_jax.runtime import sharding
from poster_jax.train import network
from tests.helpers import runs

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "finetune_mobilenet.py") + ":smoke"


@pytest.fixture(scope="module")
def loader() -> input_pipeline.Loader:
    return input_pipeline.open_loader(config_lib.load(CONFIG).data, sharding.make_shardings(jax.devices()[:1]))


def step_once(loader: input_pipeline.Loader, unfreeze_steps: int, **model: Any) -> set[str]:
    """The stages whose kernels one step with weight decay changes."""
    config = config_lib.load(CONFIG, [("optim.weight_decay", "0.5"), ("optim.warmup_steps", "0")])
    for name, value in model.items():
        config.model[name] = value
    run = runs.make_run(config, loader, pathlib.Path())
    net = network.build(run, unfreeze_steps=unfreeze_steps)
    before = jax.device_get(net.state.params)
    batch = next(loader.train_batches(config.train.batch_size, 0, 0, 1))
    after = jax.device_get(net.train_step(net.state, batch, jax.random.key(0))[0].params)
    return {
        stage
        for stage, tree in before.items()
        if not all(
            np.array_equal(old, new) for old, new in zip(jax.tree.leaves(tree), jax.tree.leaves(after[stage]), strict=True)
        )
    }


def test_stages_below_train_from_get_no_update_not_even_a_decay(loader: input_pipeline.Loader) -> None:
    assert step_once(loader, 0, train_from="last") == {"last", "head"}


def test_a_body_that_opens_later_waits_for_its_step(loader: input_pipeline.Loader) -> None:
    assert step_once(loader, 20, train_from="block_16") == {"head"}


def test_every_network_of_the_config_can_be_built(loader: input_pipeline.Loader) -> None:
    for name, file in config_lib.CONFIGS.items():
        config = config_lib.load(f"{file}:smoke")
        net = network.build(runs.make_run(config, loader, pathlib.Path()))
        assert config.model.name == name and net.model.num_genres == loader.rows.num_outputs
