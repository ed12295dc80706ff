"""The cache folder of prepared posters, and directories that appear whole or not at all."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from poster_jax import errors
from poster_jax.runtime import storage


def cache_root(cache_dir: str) -> pathlib.Path:
    """`cache_dir`, or $POSTER_JAX_CACHE, or ~/.cache/poster_jax."""
    chosen = cache_dir or os.environ.get("POSTER_JAX_CACHE", "")
    return storage.as_path(chosen) if chosen else _home_root()


def disk_root(cache_dir: str) -> pathlib.Path:
    """`cache_root`, or ~/.cache/poster_jax if that is in a bucket: for files read by position or written in place."""
    root = cache_root(cache_dir)
    return _home_root() if storage.is_remote(root) else root


def _home_root() -> pathlib.Path:
    """~/.cache/poster_jax; raises UserError where there is no home folder."""
    try:
        home = pathlib.Path.home()
    except RuntimeError:
        home = pathlib.Path()
    if not home.is_dir() or not home.is_absolute():
        raise errors.UserError(
            f"prepared posters go below the home folder, and {home} is no folder: set HOME, POSTER_JAX_CACHE "
            "or --config.data.cache_dir to one that can be written."
        )
    return home / ".cache" / "poster_jax"


@contextlib.contextmanager
def atomic_directory(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary sibling that is renamed to `directory` if the block succeeds and removed if it raises.

    If another process finishes the same directory first, its copy stays. Leftovers of killed processes are removed. A running
    process holds a lock on its sibling, which protects it.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    for leftover in directory.parent.glob(f".{directory.name}-*"):
        with _locked(leftover) as is_ours:
            if is_ours:
                shutil.rmtree(leftover, ignore_errors=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    with _locked(unfinished), _renamed_at_end(unfinished, directory):
        yield unfinished


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    """Tries to lock a folder and yields whether it did; the system releases the lock when the process dies."""
    try:
        file = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError:
        held = False
    try:
        yield held
    finally:
        os.close(file)


@contextlib.contextmanager
def _renamed_at_end(unfinished: pathlib.Path, directory: pathlib.Path) -> Iterator[None]:
    try:
        yield
        with contextlib.suppress(OSError):
            os.rename(unfinished, directory)
        if not directory.is_dir():
            raise OSError(f"could not move {unfinished} to {directory}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
