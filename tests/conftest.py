"""Eight simulated CPU devices, strict jax, and the data that a checkout may have beside it."""

import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import pytest

from tests.helpers import written_run

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED_DIR = pathlib.Path(__file__).resolve().parents[2] / "shared"


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
