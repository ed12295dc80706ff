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
import re
import shutil
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding

from poster_jax import errors
from poster_jax.data import cache, catalog, images, picture_files
from poster_jax.data.source import Source, read_part, read_tables, write_table
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
    write_table(source.table, directory)
    catalog.write_refused(source.refused, directory / "refused.csv")
    about = {"name": source.name, "fingerprint": source.fingerprint, "repaired": source.repaired}
    (directory / ABOUT).write_text(json.dumps(about))


def load_packed(directory: pathlib.Path, image_size: tuple[int, int]) -> Source:
    """Reads a packed cache folder; needs neither TensorFlow nor the original pictures.

    Raises UserError if the folder is not a whole packed cache, or has posters of another size. Nothing in it is executed.
    """
    if not (directory / ABOUT).is_file():
        raise errors.UserError(f"{directory} is not a packed cache: it has no {ABOUT}; give the folder packed-... of a cache.")
    try:
        found = _read_packed(directory)
    except errors.UserError:
        raise
    # json, pandas and numpy have no common class for what is damaged or was never written by `_write`.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise errors.UserError(
            f"{directory} is no packed cache that can be used ({reason}): copy it again, or remove it to have it made anew."
        ) from error
    held = found.pixels.shape[1:3]
    if held != tuple(image_size):
        raise errors.UserError(f"{directory} holds posters of {held} pixels: set --config.data.image_size={held}.")
    return found


def _read_packed(directory: pathlib.Path) -> Source:
    about = json.loads(read_part(directory / ABOUT))
    kinds = {"name": str, "fingerprint": str, "repaired": dict}
    if not isinstance(about, dict) or not all(isinstance(about.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"{ABOUT} lacks name, fingerprint or repaired")
    if not about["name"] or not re.fullmatch(r"[0-9a-f]{1,64}", about["fingerprint"]):
        raise ValueError(f"the name or the fingerprint in {ABOUT} is none")
    if not all(type(count) is int for count in about["repaired"].values()):
        raise ValueError(f"repaired in {ABOUT} holds no counts")
    table, refused = read_tables(directory)
    path = directory / "images.npy"
    # A file on a disk is memory-mapped, which fails where it is shorter than its header says; one in a bucket is read whole.
    if storage.is_remote(path):
        packed = np.load(io.BytesIO(path.read_bytes()))
    else:
        picture_files.open_regular(path).close()
        packed = np.load(path, mmap_mode="r")
    if not isinstance(packed, np.ndarray) or packed.dtype != np.uint8 or packed.ndim != 4 or packed.shape[3] != 3:
        raise ValueError("images.npy holds no pictures")
    if len(packed) != len(table) or not packed.size or not packed.flags.c_contiguous:
        raise ValueError(f"images.npy holds {len(packed)} pictures where table.csv has {len(table)}")
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
