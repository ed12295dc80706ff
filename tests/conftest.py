"""Eight simulated CPU devices, strict jax, one compilation cache, and the data that a checkout may have beside it."""

import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from poster_jax.runtime import alive
from tests.helpers import suite_cache, written_run
from tests.helpers.skips import SHARED_DIR, pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401

# On a slow machine signs of life would come between the lines that tests read.
alive.FIRST_SECS = 3600.0
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# For the processes that tests start; JAX has read the environment of this one already.
os.environ.update(suite_cache.variables())
if suite_cache.variables():
    compilation_cache.set_cache_dir(os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_configure(config: pytest.Config) -> None:
    folder = suite_cache.root()
    if folder is not None and not hasattr(config, "workerinput"):
        suite_cache.tidy(folder)


def pytest_report_header() -> str:
    return f"compiled programs: {os.environ.get('JAX_COMPILATION_CACHE_DIR', 'not kept')}"


@pytest.fixture(autouse=True)
def suite_compile_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes the suite's compilation cache away from tests marked `compiles_anew`, and from the processes that they start."""
    folder = jax.config.jax_compilation_cache_dir
    if request.node.get_closest_marker("compiles_anew") is None or folder is None:
        yield
        return
    for name in suite_cache.variables():
        monkeypatch.delenv(name)
    compilation_cache.set_cache_dir(None)
    compilation_cache.reset_cache()
    yield
    compilation_cache.reset_cache()
    compilation_cache.set_cache_dir(folder)


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder of real posters and weights beside the checkout; tests that need it skip where there is none."""
    if not SHARED_DIR.is_dir():
        pytest.skip("needs ../shared, the real posters and weights, beside the checkout")
    return SHARED_DIR


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """One cache of prepared posters for the whole session, outside the user's own."""
    before = os.environ.get("POSTER_JAX_CACHE")
    cache = tmp_path_factory.mktemp("cache")
    os.environ["POSTER_JAX_CACHE"] = str(cache)
    yield cache
    os.environ.pop("POSTER_JAX_CACHE") if before is None else os.environ.update(POSTER_JAX_CACHE=before)


@pytest.fixture(scope="session")
def write_workdir() -> Callable[..., pathlib.Path]:
    """`write_workdir(folder, encoding=, seeds=, samples=)` makes a finished workdir for the report and returns it."""
    return written_run.write
