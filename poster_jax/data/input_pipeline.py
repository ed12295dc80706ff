"""Loader of batches onto the devices: uint8 images, labels, a mask and ids, from either input path."""

import collections
import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import NotRequired, TypedDict

import jax
import numpy as np

from poster_jax import config as config_lib
from poster_jax.data import builder, dataset, resident, sampler, streaming
from poster_jax.runtime import multihost, sharding

# Batches that are on the device before the step that uses them.
LOOKAHEAD = 2
# Share of the device's memory (on CPU the host's) that resident posters may fill.
MEMORY_SHARE = 0.5
# (positions int64 [B], mask float32 [B]) of global batches.
Plan = Iterator[tuple[np.ndarray, np.ndarray]]


class Batch(TypedDict):
    """Global device arrays of one step, sharded along the first axis."""

    image: jax.Array  # uint8 [B, H, W, 3]
    label: jax.Array  # int32 [B] or float32 [B, outputs]: what the loss is computed on
    mask: jax.Array  # float32 [B], 0 for padding
    id: NotRequired[jax.Array]  # int32 [B], of the movie


@dataclasses.dataclass(frozen=True)
class Loader:
    """The input of one run.

    Attributes:
        rows: labels, ids and parts.
        images: the input path, a function of index arrays that yields images.
        image_size: height and width in pixels.
        shardings: of the batches on the devices.
        on_device: True if `images` yields global device arrays, False if it yields this process's rows in host memory.
        path: "resident" or "streaming".
        why: the reason for the path.
    """

    rows: dataset.Dataset
    images: resident.ImageStream
    image_size: tuple[int, int]
    shardings: sharding.Shardings
    on_device: bool
    path: str
    why: str

    def train_batches(self, batch_size: int, seed: int, start_step: int, num_steps: int) -> Iterator[Batch]:
        """Batches of steps start_step .. num_steps - 1, a function of (seed, step); no row is padding."""
        part = self.rows.parts["train"]
        mask = np.ones(batch_size, np.float32)

        def plan() -> Plan:
            for step in range(start_step, num_steps):
                yield part[sampler.batch_positions(len(part), batch_size, seed, step)], mask

        return self._batches(plan)

    def eval_batches(self, part: str, batch_size: int) -> Iterator[Batch]:
        """Every row of a part once and in order; padding in the last batch has mask 0."""
        return self.row_batches(self.rows.parts[part], batch_size)

    def row_batches(self, positions: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """The given rows in their order; padding in the last batch has mask 0."""
        padded = sampler.padded_positions(len(positions), batch_size)
        return self._batches(lambda: ((positions[indices], mask) for indices, mask in padded))

    def sampled_validation(self, num_rows: int, seed: int) -> "Loader":
        """A loader with `num_rows` random validation rows, as in the paper; all of them if `num_rows` is 0."""
        validation = self.rows.parts["validation"]
        if not num_rows or num_rows >= len(validation):
            return self
        chosen = np.sort(np.random.default_rng((seed, len(validation))).choice(len(validation), num_rows, replace=False))
        parts = {**self.rows.parts, "validation": validation[chosen]}
        return dataclasses.replace(self, rows=dataclasses.replace(self.rows, parts=parts))

    def _batches(self, plan: Callable[[], Plan]) -> Iterator[Batch]:
        """Device batches, LOOKAHEAD prepared in advance. `plan` is called twice because tf.data iterates in its own thread."""
        stream = self.images(self._image_rows(positions) for positions, _ in plan())
        ahead: collections.deque[Batch] = collections.deque()
        for (positions, mask), image in zip(plan(), stream, strict=True):
            here = sharding.local_slice(len(positions))
            local = {
                "label": self.rows.target[positions[here]],
                "mask": mask[here],
                "id": self.rows.movie_id[positions[here]],
            }
            if isinstance(image, np.ndarray):
                local["image"] = image
            arrays = sharding.put_batch(local, self.shardings.batch)
            held = image if isinstance(image, jax.Array) else arrays["image"]
            ahead.append(Batch(image=held, label=arrays["label"], mask=arrays["mask"], id=arrays["id"]))
            if len(ahead) > LOOKAHEAD:
                yield ahead.popleft()
        yield from ahead

    def _image_rows(self, positions: np.ndarray) -> np.ndarray:
        """Posters of a global batch to request from `images`: all of them, or for host memory this process's part."""
        return self.rows.poster[positions if self.on_device else positions[sharding.local_slice(len(positions))]]


def choose_path(requested: str, num_posters: int, image_size: tuple[int, int]) -> tuple[str, str]:
    """(`resident` or `streaming`, the reason); `auto` selects resident if the posters fit into memory."""
    if requested != "auto":
        return requested, "the config asks for it"
    needed_mb = resident.num_bytes(num_posters, image_size) / 2**20
    limit_mb = MEMORY_SHARE * memory_mb()
    if needed_mb <= limit_mb:
        return "resident", f"{needed_mb:.0f} MB of posters fit into half of the memory ({limit_mb:.0f} MB)"
    if importlib.util.find_spec("tensorflow") is None:
        return "resident", "TensorFlow, which streaming needs, is not installed"
    return "streaming", f"{needed_mb:.0f} MB of posters exceed half of the memory ({limit_mb:.0f} MB)"


def memory_mb() -> float:
    """Memory of one device in MB; on CPU that of the host."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] / 2**20
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def open_loader(data: config_lib.Data, shardings: sharding.Shardings, chosen: tuple[str, str] | None = None) -> Loader:
    """Prepares the posters of `config.data` and opens the input path.

    Args:
        chosen: (path, reason) of an earlier start of the same run, which is used again; None to choose now.
    """
    source = builder.open_source(data, lambda data: multihost.main_first(lambda: builder.load_source(data)))
    if data.variant == "packed":
        path, why = "resident", "the data set is a packed cache"
    else:
        # Process 0 chooses, because machines may differ in memory.
        path, why = chosen or multihost.from_main(lambda: choose_path(data.path, len(source.table), data.image_size))
    rows = dataset.select(source, data)
    on_device = path == "resident" and jax.default_backend() != "cpu"
    if path == "streaming":
        stream = streaming.make_stream(source, data.image_size, data.cache_dir)
    else:
        packed = source
        if data.variant != "packed":
            packed = multihost.main_first(lambda: resident.pack(source, data.image_size, data.cache_dir))
        if on_device:
            stream = resident.make_device_stream(packed.pixels, rows.poster, shardings.replicated, shardings.batch)
        else:
            stream = resident.make_host_stream(packed.pixels)
    return Loader(rows, stream, data.image_size, shardings, on_device, path, why)
