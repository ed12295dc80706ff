"""The streaming path, tf.data: encoded posters read by index, decoded and resized in parallel, in the requested order.

The decoder is `images.decode`, as in the packed cache: TensorFlow refuses some damaged JPEGs that Pillow repairs, and its
antialiased resize needs more processor time than Pillow's decoding and resizing together. A poster is decoded once and then
read from a scratch file on disk. (tf.data's own `cache` repeats one order, but every epoch has another.)
"""

import pathlib
import tempfile
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from poster_jax import errors
from poster_jax.data import cache, images, resident
from poster_jax.data.source import Source


class Scratch:
    """Decoded posters, uint8 [N, H, W, 3], in an unnamed file that vanishes with the process.

    Raises OSError if the disk has no room. All space is allocated at once, because writing to a memory map on a full disk kills
    the process.
    """

    def __init__(self, source: Source, image_size: tuple[int, int], directory: pathlib.Path) -> None:
        self._source, self._image_size = source, image_size
        shape = (len(source.table), *image_size, 3)
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(shape[0]):
                file.write(bytes(resident.num_bytes(1, image_size)))
            file.flush()
            self._decoded = np.memmap(file, np.uint8, "r+", shape=shape)
        self._is_decoded = np.zeros(len(source.table), bool)
        self._reading = threading.Lock()

    def take(self, posters: np.ndarray) -> np.ndarray:
        """uint8 [b, H, W, 3] of index array [b]; decodes posters on their first use. Thread-safe."""
        missing = np.unique(posters[~self._is_decoded[posters]])
        if len(missing):
            with self._reading:
                encoded = self._source.encoded(missing)
            for poster, one in zip(missing, encoded, strict=True):
                self._decoded[poster] = images.decode(one, self._image_size)
            self._is_decoded[missing] = True
        return self._decoded[posters]


def make_stream(source: Source, image_size: tuple[int, int], cache_dir: str) -> resident.ImageStream:
    """A stream of uint8 [b, H, W, 3] per index array of length b, prepared a few batches ahead on all cores.

    Raises UserError if TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise errors.UserError(
            "config.data.path=streaming needs TensorFlow: install 'poster_jax[streaming]' or set --config.data.path=resident."
        ) from error
    tf.config.set_visible_devices([], "GPU")
    scratch = Scratch(source, image_size, cache.disk_root(cache_dir))

    def take(posters: "tf.Tensor") -> "tf.Tensor":
        # Through numpy_function several batches decode at once, because Pillow releases the interpreter's lock.
        return tf.ensure_shape(tf.numpy_function(scratch.take, [posters], tf.uint8), (None, *image_size, 3))

    def stream(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=tf.TensorSpec((None,), tf.int64))
        dataset = dataset.map(take, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4)
        yield from dataset.as_numpy_iterator()

    return stream
