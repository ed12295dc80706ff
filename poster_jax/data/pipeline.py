"""The streaming path, tf.data: encoded posters read by index, decoded and resized in parallel, in the order that is asked for.

The same decoder and resize as the packed cache to one grey level: accurate DCT, antialiased bilinear.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from poster_jax import errors
from poster_jax.data import builder
from poster_jax.data.resident import ImageStream


def make_stream(source: builder.Source, image_size: tuple[int, int]) -> ImageStream:
    """A stream of uint8 [b, H, W, 3] per index array of length b; every array of one stream has the same length.

    Raises UserError where TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise errors.UserError(
            "config.data.path=streaming needs TensorFlow: install 'poster_jax[streaming]' or set --config.data.path=resident."
        ) from error
    tf.config.set_visible_devices([], "GPU")

    def decode(encoded: "tf.Tensor") -> "tf.Tensor":
        image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        image = tf.image.resize(image, image_size, method="bilinear", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)

    def stream(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            return

        def read() -> Iterator[bytes]:
            yield from source.encoded(first)
            for posters in batches:
                yield from source.encoded(posters)

        dataset = tf.data.Dataset.from_generator(read, output_signature=tf.TensorSpec((), tf.string))
        dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        dataset = dataset.batch(len(first), drop_remainder=True).prefetch(4)
        yield from dataset.as_numpy_iterator()

    return stream
