"""The resident path: every poster is decoded once to a packed uint8 array on disk, then kept in memory; batches are indices.

On accelerators the posters in use are on the device, and a batch is gathered there. On CPU the memory map is already the
device's memory, and numpy gathers 64 posters in 0.15 ms.
"""

import concurrent.futures
import io
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
import pandas as pd
from jax.sharding import NamedSharding

from poster_jax import errors
from poster_jax.data import cache, catalog, images
from poster_jax.data.source import Source
from poster_jax.runtime import storage

CHUNK = 256
ABOUT = "packed.json"  # written last: a folder that has it is complete
# Index arrays -> images uint8 [b, H, W, 3]: numpy arrays, or on accelerators global device arrays.
ImageStream = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray | jax.Array]]


def packed_directory(source: Source, image_size: tuple[int, int], cache_dir: str) -> pathlib.Path:
    """The folder of a packed cache; its name has what it depends on, the source's fingerprint and the image size."""
    height, width = image_size
    variant = source.name.split()[0].lower()
    return cache.cache_root(cache_dir) / f"packed-{variant}-{source.fingerprint[:16]}-{height}x{width}"


def pack(source: Source, image_size: tuple[int, int], cache_dir: str) -> Source:
    """Decodes every poster of `source`, unless an earlier call did; returns the packed source.

    For a cache in a bucket the posters are packed on the local disk and then copied there. Raises UserError if the disk has too
    little space, before anything is written.
    """
    directory = packed_directory(source, image_size, cache_dir)
    if storage.is_remote(directory):
        return _pack_for_bucket(source, image_size, directory)
    if not directory.exists():
        needed_mb = num_bytes(len(source.table), image_size) / 2**20
        directory.parent.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(directory.parent).free / 2**20
        if needed_mb > free_mb:
            raise errors.UserError(
                f"the packed posters need {needed_mb:.0f} MB and {directory.parent} has {free_mb:.0f} MB free: "
                "make room, or name another folder with --config.data.cache_dir."
            )
        with cache.atomic_directory(directory) as unfinished:
            _write(source, image_size, unfinished)
    return load_packed(directory, image_size)


def _pack_for_bucket(source: Source, image_size: tuple[int, int], directory: pathlib.Path) -> Source:
    if not (directory / ABOUT).is_file():
        packed_here = cache.disk_root("") / directory.name
        if not packed_here.exists():
            pack(source, image_size, str(packed_here.parent))
        directory.mkdir(parents=True, exist_ok=True)
        # ABOUT comes last: it marks the folder as complete.
        for path in sorted(packed_here.iterdir(), key=lambda path: path.name == ABOUT):
            (directory / path.name).write_bytes(path.read_bytes())
    return load_packed(directory, image_size)


def _write(source: Source, image_size: tuple[int, int], directory: pathlib.Path) -> None:
    shape = (len(source.table), *image_size, 3)
    packed = np.lib.format.open_memmap(directory / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, len(packed), CHUNK)
        for start in catalog.show_progress(starts, len(starts), "decoding posters"):
            encoded = source.encoded(range(start, min(start + CHUNK, len(packed))))
            for offset, image in enumerate(pool.map(images.decode, encoded, itertools.repeat(image_size))):
                packed[start + offset] = image
    packed.flush()
    source.table.to_csv(directory / "table.csv", index=False)
    catalog.write_refused(source.refused, directory / "refused.csv")
    about = {"name": source.name, "fingerprint": source.fingerprint, "repaired": source.repaired}
    (directory / ABOUT).write_text(json.dumps(about))


def load_packed(directory: pathlib.Path, image_size: tuple[int, int]) -> Source:
    """Reads a packed cache folder; needs neither TensorFlow nor the original pictures.

    Raises UserError if the folder is not a packed cache, or has posters of another size.
    """
    if not (directory / ABOUT).is_file():
        raise errors.UserError(f"{directory} is not a packed cache: it has no {ABOUT}; give the folder packed-... of a cache.")
    about = json.loads((directory / ABOUT).read_text())
    # A file on disk is memory-mapped; one in a bucket is read completely, once.
    remote = storage.is_remote(directory)
    path = directory / "images.npy"
    packed = np.load(io.BytesIO(path.read_bytes())) if remote else np.load(path, mmap_mode="r")
    if packed.shape[1:3] != tuple(image_size):
        held = tuple(packed.shape[1:3])
        raise errors.UserError(f"{directory} holds posters of {held} pixels: set --config.data.image_size={held}.")
    table = pd.read_csv(
        io.BytesIO((directory / "table.csv").read_bytes()), dtype={"genres": str, "split": str}, keep_default_na=False
    )
    refused = pd.read_csv(io.BytesIO((directory / "refused.csv").read_bytes()), dtype=str, keep_default_na=False)
    return Source(about["name"], about["fingerprint"], table, refused, about["repaired"], packed)


def num_bytes(num_posters: int, image_size: tuple[int, int]) -> int:
    """Size of the packed array in bytes."""
    return num_posters * image_size[0] * image_size[1] * 3


def make_host_stream(packed: np.ndarray) -> ImageStream:
    """A stream that gathers in host memory: rows of the packed array, uint8 [b, H, W, 3] per index array."""

    def stream(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for posters in batches:
            yield packed[posters]

    return stream


def make_device_stream(packed: np.ndarray, posters: np.ndarray, replicated: NamedSharding, batch: NamedSharding) -> ImageStream:
    """A stream that keeps the given posters on every device and gathers there. Index arrays and batches are global."""
    used = np.unique(posters)
    rows = packed[used]
    held = jax.make_array_from_callback(rows.shape, replicated, lambda _: rows)
    take = jax.jit(lambda array, rows: array[rows], out_shardings=batch)

    def stream(batches: Iterable[np.ndarray]) -> Iterator[jax.Array]:
        for requested in batches:
            yield take(held, np.searchsorted(used, requested).astype(np.int32))

    return stream
