"""Frozen heads in Keras: the trained arrays, the computed scores, and the total time."""

import pathlib
import types
from typing import Any

import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax.bench import keras_heads

pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")
ROOT = pathlib.Path(__file__).resolve().parents[2]
TRANSFER = str(ROOT / "configs" / "transfer_mobilenet.py")


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_only_the_head_trains_and_sees_the_pooled_body(pooling: str) -> None:
    config = config_lib.load(TRANSFER, [("model.pooling", pooling)])
    keras.utils.set_random_seed(0)
    body = keras.Sequential([keras.Input((48, 32, 3)), keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization()])
    model = keras_heads.build_model(body, config, 6)
    assert [tuple(weight.shape) for weight in model.trainable_weights] == [(8, 6), (6,)]
    image = np.random.default_rng(0).uniform(0, 255, (4, 48, 32, 3)).astype(np.float32)
    maps = body(image / 127.5 - 1, training=False).numpy()
    pooled = maps.max((1, 2)) if pooling == "max" else maps.mean((1, 2))
    logits = np.exp(pooled @ model.layers[-1].kernel.numpy())
    np.testing.assert_allclose(model.predict_on_batch(image), logits / logits.sum(1, keepdims=True), atol=1e-5)


def test_every_rate_is_built_and_takes_all_its_epochs() -> None:
    config = config_lib.load(TRANSFER)
    assert keras_heads.whole_secs(5.0, 2.0, config) == 3 * (5.0 + 19 * 2.0)


def test_our_side_trains_every_head() -> None:
    assert keras_heads.time_ours(config_lib.load(f"{TRANSFER}:smoke")) > 0


def test_their_side_times_the_first_epoch_with_building_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now, fits = [0.0], []

    def build(body: Any, config: Any, num_genres: int) -> Any:
        now[0] += 7.0

        def fit(*data: Any, **more: Any) -> None:
            fits.append((len(data[0]), len(more["validation_data"][0])))
            now[0] += 5.0 if len(fits) == 1 else 2.0

        return types.SimpleNamespace(fit=fit)

    monkeypatch.setattr(keras_heads.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(keras_heads.keras_finetune, "build_body", lambda *_: None)
    monkeypatch.setattr(keras_heads, "build_model", build)
    assert keras_heads.time_keras(config_lib.load(f"{TRANSFER}:smoke"), "unused.h5") == (12.0, 2.0)
    assert len(fits) == 2 and fits[0] == fits[1] and fits[0][0] > fits[0][1] > 0


def test_every_round_has_a_line_and_the_median_comes_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(keras_heads, "time_ours", lambda config: next(ours))
    monkeypatch.setattr(keras_heads, "time_keras", lambda config, weights: (3.0, 1.0))
    assert keras_heads.main([f"--config={TRANSFER}:smoke", "--weights=x.h5", "--config.transfer.head_epochs=8.0"]) == 0
    # Three rates of 8 epochs: 3 * (3 + 7 * 1) = 30 s.
    assert capsys.readouterr().out.splitlines() == [
        "round 1: ours 10.0 s; Keras 1.0 s an epoch, 30 s for 24 epochs; ours over Keras 0.333",
        "round 2: ours 30.0 s; Keras 1.0 s an epoch, 30 s for 24 epochs; ours over Keras 1.000",
        "round 3: ours 20.0 s; Keras 1.0 s an epoch, 30 s for 24 epochs; ours over Keras 0.667",
        "median 0.667 of Keras's time (0.333 to 1.000)",
    ]


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--weights=x.h5", f"--config={TRANSFER}", "--repeats=0"],
        ["--weights=x.h5", f"--config={ROOT / 'configs' / 'cnn_onehot.py'}"],
        ["--weights=x.h5", f"--config={ROOT / 'configs' / 'finetune_mobilenet.py'}"],
        [f"--weights={ROOT / 'none.h5'}", f"--config={TRANSFER}:smoke", "--config.model.width=1.0"],
    ):
        assert keras_heads.main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
