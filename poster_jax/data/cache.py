"""The folder of prepared posters, and directories that appear whole or not at all."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from poster_jax.runtime import storage


def cache_root(cache_dir: str) -> pathlib.Path:
    """`cache_dir`, or $POSTER_JAX_CACHE, or ~/.cache/poster_jax."""
    chosen = cache_dir or os.environ.get("POSTER_JAX_CACHE", "")
    return storage.as_path(chosen) if chosen else pathlib.Path.home() / ".cache" / "poster_jax"


def disk_root(cache_dir: str) -> pathlib.Path:
    """`cache_root`, or ~/.cache/poster_jax where that is in a store: for what is read by position, or written in place."""
    root = cache_root(cache_dir)
    return pathlib.Path.home() / ".cache" / "poster_jax" if storage.is_remote(root) else root


@contextlib.contextmanager
def atomic_directory(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary sibling that becomes `directory` when the block ends well and vanishes when it does not.

    When another process finishes the same directory first, its copy stays. What a killed process has left is removed: a living
    one holds a lock on its own.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    for left in directory.parent.glob(f".{directory.name}-*"):
        with _locked(left) as is_ours:
            if is_ours:
                shutil.rmtree(left, ignore_errors=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    with _locked(unfinished), _becoming(unfinished, directory):
        yield unfinished


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    """Holds the lock of a folder if nobody else does, and says so; the system drops it when the process dies."""
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
def _becoming(unfinished: pathlib.Path, directory: pathlib.Path) -> Iterator[None]:
    try:
        yield
        with contextlib.suppress(OSError):
            os.rename(unfinished, directory)
        if not directory.is_dir():
            raise OSError(f"could not move {unfinished} to {directory}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
