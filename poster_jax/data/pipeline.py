"""The streaming path, tf.data: encoded posters read by index, decoded and resized in parallel, in the order that is asked for.

Decoding is `images.decode`, as in the packed cache: TensorFlow refuses some damaged JPEGs that Pillow repairs, and its
antialiased resize takes more processor time than Pillow's decoding and resizing together.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from poster_jax import errors
from poster_jax.data import builder, images
from poster_jax.data.resident import ImageStream


def make_stream(source: builder.Source, image_size: tuple[int, int]) -> ImageStream:
    """A stream of uint8 [b, H, W, 3] per index array of length b, decoded a few batches ahead on every core.

    Raises UserError where TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise errors.UserError(
            "config.data.path=streaming needs TensorFlow: install 'poster_jax[streaming]' or set --config.data.path=resident."
        ) from error
    tf.config.set_visible_devices([], "GPU")

    def decode_batch(encoded: np.ndarray) -> np.ndarray:
        return np.stack([images.decode(one, image_size) for one in encoded])

    def decode(encoded: "tf.Tensor") -> "tf.Tensor":
        # numpy_function lets several batches decode at once: Pillow gives up the interpreter's lock while it works.
        decoded = tf.numpy_function(decode_batch, [encoded], tf.uint8)
        return tf.ensure_shape(decoded, (None, *image_size, 3))

    def stream(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        def read() -> Iterator[np.ndarray]:
            for posters in batches:
                yield np.array(source.encoded(posters), dtype=object)

        dataset = tf.data.Dataset.from_generator(read, output_signature=tf.TensorSpec((None,), tf.string))
        dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4)
        yield from dataset.as_numpy_iterator()

    return stream
