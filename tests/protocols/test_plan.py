"""The plan's times come from steps that were run, each kind timed by itself."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from poster_jax import config as config_lib
from poster_jax.bench import __main__ as bench
from poster_jax.protocols import plan
from poster_jax.runtime import sharding
from poster_jax.train import network, train_state

SMOKE = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "cnn_onehot.py") + ":smoke"


def test_compilation_training_and_evaluation_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def train_step(state: train_state.TrainState, batch: Any, key: jax.Array) -> Any:
        now[0] += 2.0
        return state, {}

    def eval_step(variables: Any, batch: Any) -> Any:
        now[0] += 3.0
        return jnp.zeros(1), {}

    state = train_state.TrainState(jnp.int32(0), {"w": jnp.zeros(2**18)}, {}, (), None)
    net: Any = network.Network(None, None, None, state, train_step, eval_step)  # type: ignore[arg-type]
    monkeypatch.setattr(plan.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(plan.network, "build", lambda run, pretrained: net)
    shardings = sharding.make_shardings(jax.devices()[:1])
    found = plan._time_steps(config_lib.load(SMOKE), bench.blank_rows(6), shardings, total=5)
    assert (found["compile_secs"], found["train_step_secs"], found["eval_step_secs"]) == (5.0, 2.0, 3.0)
    assert found["params_mb"] == 1.0 and found["state_mb"] == pytest.approx(1.0, abs=1e-5)
