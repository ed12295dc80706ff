"""Programs that are kept while a process runs: found again by equal ones, gone afterwards, the same results."""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poster_jax import errors, main
from poster_jax.runtime import compile_cache

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.compiles_anew
HIT = "/jax/compilation_cache/cache_hits"
FOLDER, QUICKEST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture
def hits() -> Iterator[list[str]]:
    """Programs that were found again during the test, one entry each; the quickest ones are kept too."""
    found: list[str] = []
    listening = [True]

    def listen(event: str, **_: object) -> None:
        if listening and event == HIT:
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    before = getattr(jax.config, QUICKEST, None)
    jax.config.update(QUICKEST, 0.0)
    yield found
    jax.config.update(QUICKEST, before)
    listening.clear()


def _folder() -> str | None:
    return getattr(jax.config, FOLDER, None)


def make_step() -> Callable[[jax.Array], jax.Array]:
    """The same program under a new name for JAX, as every seed traces its own."""
    return jax.jit(lambda x: jnp.tanh(x @ x).sum(0) * 3)


def test_equal_programs_are_compiled_once(hits: list[str]) -> None:
    x = jnp.asarray(np.random.default_rng().normal(size=(8, 8)), jnp.float32)
    # Drawing it compiles programs of its own.
    jax.block_until_ready(x)
    with compile_cache.for_this_process():
        first = make_step()(x)
        assert not hits
        second = make_step()(x)
        assert len(hits) == 1
    np.testing.assert_array_equal(first, second)
    # Negative control: outside nothing is kept.
    make_step()(x)
    assert len(hits) == 1
    with compile_cache.for_this_process():
        make_step()(x)
    assert len(hits) == 1


def test_the_folder_goes_also_when_the_run_fails() -> None:
    with contextlib.suppress(RuntimeError), compile_cache.for_this_process():
        folder = pathlib.Path(str(_folder()))
        assert folder.is_dir()
        raise RuntimeError
    assert not folder.exists()
    assert _folder() is None


def test_a_folder_of_the_users_stays(tmp_path: pathlib.Path) -> None:
    jax.config.update(FOLDER, str(tmp_path))
    try:
        with compile_cache.for_this_process():
            assert _folder() == str(tmp_path)
        assert _folder() == str(tmp_path)
    finally:
        jax.config.update(FOLDER, None)


def test_without_a_folder_for_temporary_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(errors.UserError, match="set TMPDIR to"), compile_cache.for_this_process():
        pass
    assert _folder() is None


def test_a_second_seed_finds_the_programs_of_the_first_and_the_same_results(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, hits: list[str]
) -> None:
    arguments = [f"--config={ROOT}/configs/cnn_onehot.py:smoke", "--config.num_seeds=2", "--config.train.num_epochs=1.0"]
    assert main.main([*arguments, f"--workdir={tmp_path / 'shared'}"]) == 0
    assert hits
    monkeypatch.setattr(compile_cache, "for_this_process", contextlib.nullcontext)
    hits.clear()
    assert main.main([*arguments, f"--workdir={tmp_path / 'anew'}"]) == 0
    assert not hits
    for seed in ("seed_0", "seed_1"):
        one, other = (tmp_path / name / seed / "metrics.jsonl" for name in ("shared", "anew"))
        assert one.read_text() == other.read_text()
