"""Compilation cache for the length of one process: seeds, branches and cells with equal programs compile once."""

import contextlib
import tempfile
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from poster_jax import errors
from poster_jax.runtime import multihost


@contextlib.contextmanager
def for_this_process() -> Iterator[None]:
    """Inside the block JAX caches programs that took over a second to compile, and reuses them for equal programs.

    The cache is a temporary folder, removed after the block, so that no program of another process or version is read. The
    user's own folder (JAX_COMPILATION_CACHE_DIR) takes precedence. Does nothing in a run of several processes, where JAX lets
    only the first one write. Raises UserError if no temporary folder can be made.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) or multihost.count() > 1:
        yield
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="poster_jax-")
    except OSError as error:
        raise errors.UserError(
            f"no folder for temporary files can be made ({error.strerror}): set TMPDIR to one that can be written."
        ) from error
    with made as folder:
        compilation_cache.set_cache_dir(folder)
        try:
            yield
        finally:
            compilation_cache.set_cache_dir(None)
            compilation_cache.reset_cache()
