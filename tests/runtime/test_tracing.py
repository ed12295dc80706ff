"""--profile: a trace of ten steps of a run whose numbers are those of a run without it."""

import gzip
import json
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from etils import epath

from poster_jax import errors, main
from poster_jax.runtime import tracing

SMOKE = ("--config=cnn_onehot:smoke", "--config.eval.baselines=False", "--config.eval.bootstrap_samples=20")


def steps_of(folder: pathlib.Path) -> list[int]:
    """The numbers of the steps in the one trace of a folder."""
    [path] = folder.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [int(event["args"]["step_num"]) for event in events if event.get("name") == tracing.STEP_NAME]


def test_a_profiled_run_has_ten_steps_in_its_trace_and_the_numbers_of_any_other(tmp_path: pathlib.Path) -> None:
    for name, more in (("plain", []), ("profiled", ["--profile"])):
        assert main.main([*SMOKE, "--config.train.num_epochs=3", f"--workdir={tmp_path / name}", *more]) == 0
    plain, profiled = tmp_path / "plain", tmp_path / "profiled"
    assert steps_of(profiled / tracing.FOLDER) == [*range(2, 12)]
    assert not (plain / tracing.FOLDER).exists()
    for name in ("metrics.jsonl", "results.json"):
        assert (plain / name).read_bytes() == (profiled / name).read_bytes()
    with np.load(plain / "predictions.npz") as one, np.load(profiled / "predictions.npz") as other:
        assert one.files == other.files and all(one[name].tobytes() == other[name].tobytes() for name in one.files)


def test_a_finished_run_is_only_read_and_says_that_nothing_was_traced(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--profile"]):
        assert main.main([*SMOKE, "--config.train.num_epochs=1", f"--workdir={tmp_path / 'run'}", *more]) == 0
        assert ("no profile was written" in capsys.readouterr().out) == bool(more)
    assert not (tmp_path / "run" / tracing.FOLDER).exists()


@pytest.fixture
def step() -> Iterator[tracing.Step]:
    yield jax.jit(lambda x: x + 1)


def test_only_the_first_step_is_traced_and_a_short_trace_is_closed(step: tracing.Step, tmp_path: pathlib.Path) -> None:
    with tracing.asked(True, tmp_path):
        first, second = tracing.traced(step, tmp_path / "one"), tracing.traced(step, tmp_path / "two")
        assert second is step
        assert [int(first(n)) for n in range(4)] == [1, 2, 3, 4]
    assert steps_of(tmp_path / "one") == [2, 3, 4]
    with tracing.asked(False, tmp_path):
        assert tracing.traced(step, tmp_path / "none") is step


def test_what_cannot_be_traced_is_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(errors.UserError, match="writes to a disk"), tracing.asked(True, epath.Path("gs://bucket/run")):
        pass
    assert main.main(["--config=search_cnn:smoke", f"--workdir={tmp_path / 'run'}", "--profile"]) == 2
    assert "a search trains many at once" in capsys.readouterr().err and not (tmp_path / "run").exists()
