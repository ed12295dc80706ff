"""The two loops: nothing is dropped, cadences do not read each other, saving precedes evaluation, stopping loses nothing."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import dataset, input_pipeline, resident
from poster_jax.paper import estimates
from poster_jax.runtime import preemption
from poster_jax.runtime import sharding as sharding_lib
from poster_jax.train import evaluate as evaluate_lib
from poster_jax.train import loop, network, train_state
from poster_jax.train import run as run_lib
from poster_jax.train.train_state import TrainState
from poster_jax.workdir import checkpoint, logbook, run_files

NUM_ROWS = 37


def make_feed(num_devices: int = 1) -> input_pipeline.Loader:
    """37 one-pixel posters whose value is their row; labels of two genres."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (NUM_ROWS, 2)).astype(np.float32)
    rows = dataset.Dataset(
        name="test posters",
        fingerprint="",
        genres=("A", "B"),
        poster=np.arange(NUM_ROWS),
        label=label,
        target=label,
        movie_id=np.arange(100, 100 + NUM_ROWS, dtype=np.int32),
        group=np.arange(NUM_ROWS),
        parts={part: np.arange(NUM_ROWS) for part in dataset.PARTS},
        summary={},
        refused=None,  # type: ignore[arg-type]
    )
    images = np.broadcast_to(np.arange(NUM_ROWS, dtype=np.uint8)[:, None, None, None], (NUM_ROWS, 1, 1, 3))
    shardings = sharding_lib.make_shardings(jax.devices()[:num_devices])
    return input_pipeline.Loader(rows, resident.make_host_stream(images), (1, 1), shardings, False, "resident", "")


@jax.jit
def eval_step(variables: dict, batch: dict) -> Any:
    """Scores are the pixel over 255; the loss of a row is its pixel."""
    pixel = batch["image"][:, 0, 0, 0].astype(float)
    return jax.numpy.stack([pixel, pixel], axis=1) / 255, {"loss": ((pixel * batch["mask"]).sum(), batch["mask"].sum())}


@jax.jit
def train_step(state: TrainState, batch: dict, key: jax.Array) -> Any:
    weight = state.params["w"] + batch["image"].astype(float).mean()
    sums = {"loss": (state.step.astype(float), jax.numpy.float32(1))}
    return state.replace(step=state.step + 1, params={"w": weight}), sums


def make_state() -> TrainState:
    return TrainState(jax.numpy.int32(0), {"w": jax.numpy.float32(0)}, {}, (), None)


class Spy:
    """Checkpoints that note what is asked of them, in order."""

    def __init__(self, events: list[tuple[str, int]]) -> None:
        self.events, self.states, self.best = events, {}, None

    def save(self, step: int, state: TrainState, window: dict) -> None:
        self.events.append(("save", step))
        self.states[step] = (state, json.loads(json.dumps(window)))

    def save_best(self, step: int, variables: Any, value: float) -> None:
        self.events.append(("best", step))
        self.best = value

    def best_value(self) -> float | None:
        return self.best


def run_fit(
    workdir: pathlib.Path, cadence: run_lib.Cadence, *, stop: Any = None, start: Any = None, evaluate: Any = eval_step
) -> tuple[TrainState, Spy]:
    events: list[tuple[str, int]] = []
    spy = Spy(events)
    state, window = start or (make_state(), {})
    log = logbook.Logbook(workdir, last_step=int(state.step), total_steps=cadence.total, tensorboard=False)
    try:
        config = config_lib.base()
        config.train.batch_size = config.eval.batch_size = 8
        config.eval.parts = ("train", "validation")
        run = run_lib.Run(config, 0, workdir, make_feed(), cadence, stop or preemption.StopRequest())
        steps = {"train_step": train_step, "eval_step": evaluate}
        net = network.Network(model=None, optimizer=None, loss=None, state=state, **steps)  # type: ignore[arg-type]
        state = loop.take_steps(state, window, run, net, loop.Outputs(spy, log))  # type: ignore[arg-type]
    finally:
        log.close()
        run_fit.spy = spy  # type: ignore[attr-defined]
    return state, spy


@pytest.mark.parametrize("num_devices", [1, 4])
def test_evaluation_counts_every_row_once(num_devices: int) -> None:
    result = evaluate_lib.evaluate(eval_step, {}, make_feed(num_devices), "test", batch_size=8)
    np.testing.assert_allclose(result.scores[:, 0], np.arange(NUM_ROWS) / 255, rtol=1e-6)
    assert result.means["loss"] == pytest.approx(np.arange(NUM_ROWS).mean())


def test_saving_and_evaluating_have_cadences_of_their_own(tmp_path: pathlib.Path) -> None:
    _, spy = run_fit(tmp_path, run_lib.Cadence(total=10, log=100, evaluate=5, save=3))
    assert [step for event, step in spy.events if event == "save"] == [3, 6, 9, 10]
    lines = run_files.read_lines(tmp_path)
    assert [line["step"] for line in lines if line["part"] == "validation"] == [5, 10]
    assert [line["step"] for line in lines if line["part"] == "train"] == [3, 5, 6, 9, 10]


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (4, [4]), (5, [4]), (3, [3, 4])])
def test_a_cadence_fires_at_its_multiples_and_at_the_end(every: int, expected: list[int]) -> None:
    cadence = run_lib.Cadence(total=4, log=1, evaluate=1, save=1)
    assert [step for step in range(1, 5) if cadence.is_due(every, step)] == expected


def test_the_windows_of_two_log_lines_do_not_overlap(tmp_path: pathlib.Path) -> None:
    run_fit(tmp_path, run_lib.Cadence(total=6, log=3, evaluate=100, save=100))
    train = [line for line in run_files.read_lines(tmp_path) if line["part"] == "train"]
    assert [line["loss"] for line in train] == [1.0, 4.0]  # steps 0 1 2, then 3 4 5


def test_an_evaluation_that_fails_leaves_the_checkpoint(tmp_path: pathlib.Path) -> None:
    def broken(variables: dict, batch: dict) -> Any:
        raise RuntimeError("evaluation ran out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run_fit(tmp_path, run_lib.Cadence(total=4, log=4, evaluate=4, save=4), evaluate=broken)
    assert 4 in run_fit.spy.states  # type: ignore[attr-defined]


def test_the_best_in_the_middle_is_kept(tmp_path: pathlib.Path) -> None:
    """Ranking of the labels is good at step 4 and bad elsewhere."""
    labels = make_feed().rows.label

    def moody(variables: dict, batch: dict) -> Any:
        good = variables["params"]["w"] == weight_at_4
        truth = labels[np.asarray(batch["id"]) - 100]
        scores, sums = eval_step(variables, batch)
        return (truth if good else 1 - truth) * 0.9, sums

    state, _ = run_fit(tmp_path, run_lib.Cadence(total=4, log=9, evaluate=9, save=9))
    weight_at_4 = state.params["w"]
    (tmp_path / "metrics.jsonl").unlink()
    _, spy = run_fit(tmp_path, run_lib.Cadence(total=8, log=9, evaluate=2, save=9), evaluate=moody)
    assert [step for event, step in spy.events if event == "best"] == [2, 4]


class StopAt(preemption.StopRequest):
    """A signal that arrives before the n-th check."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def check(self) -> None:
        self.number -= 1
        if self.number <= 0:
            self._received = "SIGTERM"
        super().check()


@pytest.mark.parametrize("number", [2, 3, 4, 6, 8, 11, 14, 16])
def test_stopped_anywhere_and_resumed_gives_the_same_lines_and_weights(tmp_path: pathlib.Path, number: int) -> None:
    cadence = run_lib.Cadence(total=7, log=2, evaluate=3, save=4)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, _ = run_fit(tmp_path / "whole", cadence)
    with pytest.raises(errors.Interrupted, match="SIGTERM at step"):
        run_fit(tmp_path / "cut", cadence, stop=StopAt(number))
    saved = run_fit.spy.states  # type: ignore[attr-defined]
    resumed, _ = run_fit(tmp_path / "cut", cadence, start=saved[max(saved)])
    assert resumed.params["w"] == whole.params["w"]
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1]


def test_a_lost_window_is_seen_by_that_comparison(tmp_path: pathlib.Path) -> None:
    cadence = run_lib.Cadence(total=7, log=4, evaluate=7, save=7)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    run_fit(tmp_path / "whole", cadence)
    with pytest.raises(errors.Interrupted):
        run_fit(tmp_path / "cut", cadence, stop=StopAt(3))
    state, window = run_fit.spy.states[2]  # type: ignore[attr-defined]
    assert window
    run_fit(tmp_path / "cut", cadence, start=(state, {}))
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert texts[0] != texts[1]


def test_a_line_cut_by_a_crash_is_dropped(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "part": "train"}\n{"step": 2, "pa')
    assert run_files.read_lines(path.parent) == [{"step": 1, "part": "train"}]


def noise(seed: int) -> jax.Array:
    """What no compression makes smaller, so that most bytes of its file are values."""
    return jax.numpy.asarray(np.random.default_rng(seed).normal(size=20_000).astype(np.float32))


def damage_arrays(folder: pathlib.Path, damage: str) -> None:
    """Harms the largest file of a checkpoint, which holds the values."""
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    assert len(content) > 50_000
    if damage == "missing":
        path.unlink()
        return
    middle = len(content) // 2
    rest = content[middle + 1 :] if damage == "flipped" else b""
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1])[: len(rest)] + rest)


class TestCheckpoints:
    """Orbax behind our four calls."""

    def test_latest_comes_back_with_its_window_on_another_number_of_devices(self, tmp_path: pathlib.Path) -> None:
        states = {}
        for num_devices in (4, 1, 8):
            sharding = sharding_lib.make_shardings(jax.devices()[:num_devices]).state
            states[num_devices] = jax.device_put(TrainState(jax.numpy.int32(3), {"w": np.arange(6.0)}, {}, (), None), sharding)
        saved = checkpoint.Checkpoints(tmp_path)
        saved.save(3, states[4], {"loss": [0.1, 2.0]})
        saved.close()
        for num_devices in (1, 8):
            opened = checkpoint.Checkpoints(tmp_path)
            state, step, window = opened.restore_latest(train_state.abstract(states[num_devices])) or pytest.fail(
                "nothing restored"
            )
            assert (step, window) == (3, {"loss": [0.1, 2.0]})
            np.testing.assert_array_equal(state.params["w"], np.arange(6.0))
            assert len(state.params["w"].sharding.device_set) == num_devices
            opened.close()

    def test_two_latest_are_kept_and_best_is_apart(self, tmp_path: pathlib.Path) -> None:
        opened = checkpoint.Checkpoints(tmp_path)
        for step in (1, 2, 3):
            opened.save(step, make_state(), {})
        opened.save_best(1, {"w": jax.numpy.float32(7)}, 0.9)
        opened.close()
        opened = checkpoint.Checkpoints(tmp_path)
        assert sorted(int(path.name) for path in (tmp_path / "checkpoints/latest").iterdir()) == [2, 3]
        assert opened.best_value() == 0.9
        variables, step = opened.restore_best(train_state.abstract({"w": jax.numpy.float32(0)}))
        assert (float(variables["w"]), step) == (7.0, 1)
        opened.close()

    def test_a_best_beyond_the_restored_step_is_forgotten(self, tmp_path: pathlib.Path) -> None:
        opened = checkpoint.Checkpoints(tmp_path)
        opened.save(2, make_state(), {})
        opened.save_best(5, {"w": jax.numpy.float32(7)}, 0.9)
        opened.close()
        opened = checkpoint.Checkpoints(tmp_path)
        restored = opened.restore_latest(train_state.abstract(make_state()))
        assert restored is not None
        assert opened.best_value() is None
        with pytest.raises(errors.UserError, match="no best checkpoint"):
            opened.restore_best(train_state.abstract({"w": jax.numpy.float32(0)}))
        opened.close()

    @pytest.mark.parametrize("damage", ["cut", "missing", "flipped"])
    def test_a_damaged_checkpoint_falls_back_to_the_one_before(
        self, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        opened = checkpoint.Checkpoints(tmp_path)
        for step in (1, 2):
            opened.save(step, make_state().replace(params={"w": noise(step)}), {})
        opened.close()
        damage_arrays(tmp_path / "checkpoints/latest/2", damage)
        opened = checkpoint.Checkpoints(tmp_path)
        abstract = train_state.abstract(make_state().replace(params={"w": noise(0)}))
        state, step, _ = opened.restore_latest(abstract) or pytest.fail("nothing restored")
        assert step == 1
        np.testing.assert_array_equal(state.params["w"], noise(1))
        opened.close()
        told = [record.getMessage() for record in caplog.records if record.name == "absl"]
        assert sum("the checkpoint of step 2 cannot be read" in line for line in told) == 1
        # Orbax notices the other two by itself; a flipped byte it restores.
        assert ("not the ones that were saved" in "".join(told)) == (damage == "flipped")

    @pytest.mark.parametrize("damage", ["cut", "missing", "flipped"])
    def test_a_damaged_best_checkpoint_is_refused(self, tmp_path: pathlib.Path, damage: str) -> None:
        opened = checkpoint.Checkpoints(tmp_path)
        opened.save_best(1, {"w": noise(1)}, 0.9)
        opened.close()
        damage_arrays(tmp_path / "checkpoints/best/1", damage)
        opened = checkpoint.Checkpoints(tmp_path)
        with pytest.raises(errors.UserError, match="the best checkpoint of this workdir is damaged"):
            opened.restore_best(train_state.abstract({"w": noise(0)}))
        opened.close()

    def test_a_digest_tells_paths_shapes_types_and_every_bit_apart(self) -> None:
        tree = {"a": noise(0), "b": jax.numpy.zeros((2, 3))}
        bits = np.array(tree["a"])
        bits.view(np.uint32)[7] ^= 1
        others = [
            {**tree, "a": bits},
            {"a": tree["b"], "b": tree["a"]},
            {**tree, "b": tree["b"].T},
            {**tree, "b": tree["b"].astype(np.int32)},
        ]
        found = {checkpoint.digest(one) for one in (tree, *others)}
        assert len(found) == 5
        assert checkpoint.digest({"b": np.zeros((2, 3), np.float32), "a": np.array(tree["a"])}) == checkpoint.digest(tree)


def test_the_training_loss_since_the_last_evaluation_is_of_the_steps_behind_it(tmp_path: pathlib.Path) -> None:
    for evaluate, expected in ((3, 4.0), (100, 2.5)):  # steps 3 4 5, or all six
        run_fit(tmp_path, run_lib.Cadence(total=6, log=1, evaluate=evaluate, save=100))
        assert estimates.last_epoch(tmp_path)["train"] == expected
        (tmp_path / "metrics.jsonl").unlink()


@pytest.mark.parametrize(("every", "steps"), [(1, [2, 3, 4, 5, 6]), (2, [2, 4, 6]), (3, [3, 4, 6])])
def test_a_rate_is_of_the_steps_after_compilation_and_between_evaluations(
    every: int, steps: list[int], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 2 s, the first one 32 s, a batch of an evaluation 100 s: 8 posters in 2 s, whatever lies between."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])

    def slow_step(state: TrainState, batch: dict, key: jax.Array) -> Any:
        now[0] += 32.0 if not state.step else 2.0
        return train_step_as_is(state, batch, key)

    def slow_evaluation(variables: dict, batch: dict) -> Any:
        now[0] += 100.0
        return eval_step(variables, batch)

    train_step_as_is = train_step
    monkeypatch.setitem(globals(), "train_step", slow_step)
    run_fit(tmp_path, run_lib.Cadence(total=6, log=every, evaluate=4, save=100), evaluate=slow_evaluation)
    lines = run_files.read_lines(tmp_path, run_files.TIMINGS)
    assert (lines[0]["event"], lines[0]["secs"]) == ("first step, with compilation", 32.0)
    rates = {line["step"]: line["images_per_sec"] for line in lines if line["event"] == "train"}
    assert rates == dict.fromkeys(steps, 4.0)
