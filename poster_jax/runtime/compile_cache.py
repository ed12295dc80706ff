"""Programs that were compiled once in a process are not compiled again by it: seeds, branches and cells share theirs."""

import contextlib
import tempfile
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from poster_jax import errors
from poster_jax.runtime import multihost


@contextlib.contextmanager
def for_this_process() -> Iterator[None]:
    """Within it JAX keeps what took it over a second to compile, and finds it again when an equal program is traced anew.

    In a folder that ends with the block, so that nothing is read that another process, or another version, has left. A folder
    of the user's (JAX_COMPILATION_CACHE_DIR) stays in use instead. Does nothing for one process of several, of which JAX lets
    only the first one write. Raises UserError where no folder for temporary files can be made.
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
