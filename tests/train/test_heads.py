"""Frozen features and the heads on them: the same as training through the frozen body, kept on disk, refused where wrong."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.data import input_pipeline
from poster_jax.models import pretrained
from poster_jax.protocols import transfer
from poster_jax.runtime import sharding
from poster_jax.train import features, heads, network, optimizers, train_state
from tests.helpers import runs

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATE = 1e-2


def load_config(*overrides: tuple[str, str]) -> Any:
    given = [("model.dropout", "0.3"), ("transfer.learning_rates", f"({RATE}, 1e-4)"), ("data.encoding", "multi_hot")]
    return config_lib.load(f"{ROOT}/configs/transfer_mobilenet.py:smoke", [*given, ("loss.name", "sigmoid"), *overrides])


def lively_weights(config: Any) -> pretrained.Pretrained:
    """A body whose features differ from poster to poster: kernels as drawn, statistics that keep its signal from fading."""
    model = models.build(**config.model, num_genres=1, precision="float32")
    variables = jax.jit(lambda key: model.init(key, np.zeros((1, 40, 32, 3)), False))(jax.random.key(3))
    rng = np.random.default_rng(0)
    body: dict[str, Any] = {"params": {name: tree for name, tree in variables["params"].items() if name != "head"}}
    statistics = {name: tree for name, tree in variables["batch_stats"].items() if name != "standardise"}
    body["batch_stats"] = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.1, np.float32) if leaf.ravel()[0] == 1 else 0.1 * rng.normal(size=leaf.shape),
        statistics,
    )
    fields = {name: getattr(model, name) for name in ("width", "padding", "epsilon", "momentum", "input_range")}
    means = {name: getattr(model, name) for name in ("input_mean", "input_std")}
    numbers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), body)
    return pretrained.Pretrained("mobilenet_v2", numbers, **fields, **means, provenance={"source": "the test"})


@pytest.fixture(scope="module", params=["", "block_14"])
def setting(request: pytest.FixtureRequest) -> Any:
    """(config, feed, model, weights, state, features) of a small body on synthetic posters, without style and with."""
    config = load_config(("model.style_from", request.param))
    feed = input_pipeline.open_loader(config.data, sharding.make_shardings(jax.devices()[:1]))
    loaded = lively_weights(config)
    model = models.build(**config.model, num_genres=6, precision="float32", loaded=loaded)
    optimizer = optimizers.build_optimizer(**config.optim, num_steps=1)
    state = train_state.create(model, optimizer, config.data.image_size, 0, feed.shardings.state, pretrained=loaded)
    pooled = features.extract(model, state.variables(), feed, 64, "")
    statistics = model.head_statistics(pooled.of(feed.rows.parts["train"]))
    return (
        config,
        feed,
        model,
        loaded,
        transfer.with_head(state, {}, statistics, runs.make_run(config, feed, pathlib.Path())),
        pooled,
    )


def with_state(config: Any, feed: input_pipeline.Loader, model: Any, state: train_state.TrainState) -> network.Network:
    """The network of a state; its steps are not used."""
    loss: Any = network.build_loss(config, feed.rows)
    return network.Network(model, None, loss, state, None, None)  # type: ignore[arg-type]


def of_head(state: train_state.TrainState) -> Any:
    return {name: jax.device_get(tree) for name, tree in state.batch_stats.items() if name == "standardise"}


def test_heads_on_cached_features_equal_training_through_the_frozen_body(setting: Any, tmp_path: pathlib.Path) -> None:
    config, feed, model, loaded, state, pooled = setting
    run = runs.make_run(config, feed, tmp_path)
    slow = transfer.head_through_body(run, loaded, of_head(state), RATE)
    fast, other = transfer.cached_heads(run, with_state(config, feed, model, state), of_head(state), pooled)
    assert fast.best_epoch == slow.best_epoch
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(fast.params[name], slow.params[name], rtol=2e-3, atol=2e-5)
        np.testing.assert_allclose(fast.last_params[name], slow.last_params[name], rtol=2e-3, atol=2e-5)
        moved = np.abs(np.asarray(fast.params[name]) - np.asarray(state.params["head"][name])).max()
        assert moved > 100 * np.abs(np.asarray(fast.params[name]) - slow.params[name]).max(), "the head must have trained"
        assert np.abs(other.params[name] - slow.params[name]).max() > 1e-3, "another rate must be told apart"
    for ours, theirs in zip(fast.history, slow.history, strict=True):
        assert ours["part"] == theirs["part"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["mean_average_precision"] == pytest.approx(theirs["mean_average_precision"], abs=0.01)


def test_other_dropout_or_order_is_seen_by_that_comparison(setting: Any, tmp_path: pathlib.Path) -> None:
    config, feed, model, _, state, pooled = setting
    net = with_state(config, feed, model, state)
    one, again, other = (
        transfer.cached_heads(runs.make_run(config, feed, tmp_path, seed), net, of_head(state), pooled)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.params["kernel"], again.params["kernel"])
    assert np.abs(one.params["kernel"] - other.params["kernel"]).max() > 1e-3


def test_features_are_computed_once_and_named_by_what_they_depend_on(
    setting: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, feed, model, _, state, pooled = setting
    variables = state.variables()
    np.testing.assert_array_equal(features.extract(model, variables, feed, 64, str(tmp_path)).array, pooled.array)
    [first] = tmp_path.iterdir()
    assert "40x32-max--1to1" in first.name

    def fail(*_: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(input_pipeline.Loader, "row_batches", fail)
    np.testing.assert_array_equal(features.extract(model, variables, feed, 64, str(tmp_path)).array, pooled.array)
    headless = {**variables, "params": {name: tree for name, tree in variables["params"].items() if name != "head"}}
    features.extract(model.clone(dropout=0.9, num_genres=2), headless, feed, 64, str(tmp_path))
    changed = {
        **variables,
        "params": {**variables["params"], "last": jax.tree.map(lambda a: 2 * a, variables["params"]["last"])},
    }
    for other, weights in (
        (model.clone(pooling="avg"), variables),
        (model.clone(input_range=(0.0, 1.0)), variables),
        (model.clone(epsilon=1e-5), variables),
        (model, changed),
    ):
        with pytest.raises(AssertionError, match="computed again"):
            features.extract(other, weights, feed, 64, str(tmp_path))


def test_features_are_those_of_the_body(setting: Any) -> None:
    _, feed, model, _, state, pooled = setting
    batch = next(feed.eval_batches("test", 8))
    x = np.asarray(batch["image"], np.float32) / 127.5 - 1
    expected = model.apply(state.variables(), x, False, method="features")[1]
    found = pooled.of(feed.rows.parts["test"][:8])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.std(axis=0).max() > 0.01, "features that are all alike would show nothing"


def test_head_scores_are_those_of_the_whole_network(setting: Any, tmp_path: pathlib.Path) -> None:
    config, feed, model, _, state, pooled = setting
    loss = network.build_loss(config, feed.rows)
    kernel = np.random.default_rng(0).normal(0, 0.05, state.params["head"]["kernel"].shape).astype(np.float32)
    state = transfer.with_head(
        state, {"head": {**state.params["head"], "kernel": kernel}}, of_head(state), runs.make_run(config, feed, tmp_path)
    )
    scores = heads.Scorer(model, of_head(state), loss).score(state.params["head"], pooled, feed.rows)
    batch = next(feed.eval_batches("validation", 8))
    whole = jax.nn.sigmoid(model.apply(state.variables(), np.asarray(batch["image"], np.float32) / 127.5 - 1, False))
    assert np.asarray(whole).std(axis=0).max() > 0.01, "scores that are all alike would show nothing"
    np.testing.assert_allclose(scores["validation"][:8], whole, rtol=1e-3, atol=1e-4)


def test_a_styled_head_sees_standardised_means_and_deviations(setting: Any) -> None:
    _, feed, model, _, state, pooled = setting
    train = pooled.of(feed.rows.parts["train"])
    width = model.apply(state.variables(), np.zeros((1, 40, 32, 3)), False, method="features")[0].shape[3]
    if not model.style_from:
        assert train.shape[1] == width and not model.head_statistics(train)
        return
    x = np.asarray(next(feed.eval_batches("test", 8))["image"], np.float32) / 127.5 - 1
    captured = model.apply(
        state.variables(), x, False, method="features", capture_intermediates=True, mutable=["intermediates"]
    )
    maps = [np.asarray(captured[1]["intermediates"][f"block_{index}"]["__call__"][0], np.float64) for index in (14, 15, 16)]
    style = np.concatenate([value for y in maps for value in (y.mean((1, 2)), np.sqrt(y.var((1, 2)) + 1e-5))], axis=1)
    found = pooled.of(feed.rows.parts["test"][:8])[:, width:]
    np.testing.assert_allclose(found, style, rtol=1e-3, atol=1e-3)
    assert np.abs(found - style[::-1]).max() > 0.1, "other posters have another style"
    # The head's kernel weighs features of mean 0 and, unless they hardly vary, of deviation 1.
    held = model.head_statistics(train)["standardise"]
    seen = (train - held["mean"]) / np.sqrt(held["var"] + 1e-5)
    assert not np.any(state.params["head"]["kernel"]), "it starts at zero"
    kernel = np.random.default_rng(0).normal(size=state.params["head"]["kernel"].shape)
    head = {"kernel": kernel.astype(np.float32), "bias": np.zeros(kernel.shape[1], np.float32)}
    logits = model.apply({"params": {"head": head}, "batch_stats": of_head(state)}, train, False, method="classify")
    np.testing.assert_allclose(logits, seen @ kernel, rtol=1e-3, atol=1e-2)
    assert np.abs(seen.mean(0)).max() < 1e-3 and np.median(seen.std(0)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("overrides", [("transfer.augment", "True"), ("transfer.bn_mode", "frozen_moving")])
def test_cached_features_are_refused_where_they_would_be_wrong(overrides: tuple[str, str]) -> None:
    with pytest.raises(errors.UserError, match="make wrong"):
        load_config(overrides)
    assert load_config(overrides, ("transfer.cached", "False"))
