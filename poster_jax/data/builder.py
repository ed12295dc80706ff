"""The posters of a config: prepared on the first call, read from the cache afterwards."""

from collections.abc import Callable

from poster_jax import config as config_lib
from poster_jax.data import preview, resident
from poster_jax.data.source import Source
from poster_jax.runtime import storage


def load_source(data: config_lib.Data) -> Source:
    """Builds the set of `config.data` on the first call and reads it afterwards; the cache is never half-written.

    Raises UserError for a missing folder or a catalog without a usable poster.
    """
    directory, key = preview.cache_directory(data)
    if not directory.exists():
        # TFDS takes seconds to load, and prepared posters are read without it.
        from poster_jax.data import records

        records.build(data, directory, key)
    return preview.read_prepared(data, directory, key)


def open_source(data: config_lib.Data, load: Callable[[config_lib.Data], Source] = load_source) -> Source:
    """The source of `config.data`; `load` is called for every variant but `packed`.

    Raises UserError as `load` and `resident.load_packed` do.
    """
    return resident.load_packed(storage.as_path(data.dir), data.image_size) if data.variant == "packed" else load(data)
