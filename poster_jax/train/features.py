"""What the last layer of a frozen network sees, computed once per poster and kept on disk: a data set of its own.

They are what the head sees only while the body stays as it is and sees the posters as they are: `checks` refuses augmentation
and a moving BatchNorm for heads that train on them.
"""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from poster_jax import errors
from poster_jax.data import cache, input_pipeline
from poster_jax.models import body as body_lib
from poster_jax.models import layers
from poster_jax.models.types import PosterModel, Variables
from poster_jax.runtime import alive, multihost, sharding, storage
from poster_jax.train import evaluate, predictor


@dataclasses.dataclass(frozen=True)
class Features:
    """`array` float32 [P, D], a row per poster in use, and `index` int64 [N], the row of each example's poster."""

    array: np.ndarray
    index: np.ndarray

    def of(self, positions: np.ndarray) -> np.ndarray:
        """float32 [n, D] of examples at `positions`."""
        return self.array[self.index[positions]]


def extract(
    model: PosterModel, variables: Variables, loader: input_pipeline.Loader, batch_size: int, cache_dir: str
) -> Features:
    """Features of every poster that `loader` has a row of, from the cache folder or computed and put there.

    Args:
        model: a body or any other network, see `make_features`.
        variables: its weights and statistics; those of a body's head are not used.
    """
    posters, first_rows, index = np.unique(loader.rows.poster, return_index=True, return_inverse=True)
    path = cache.cache_root(cache_dir) / f"features-{_fingerprint(model, variables, loader, posters)}.npy"
    if multihost.all_agree(path.exists()):
        return Features(np.load(io.BytesIO(path.read_bytes())), index)

    body = {collection: {k: v for k, v in tree.items() if k not in body_lib.HEAD} for collection, tree in variables.items()}
    pooled_of = jax.jit(make_features(model))
    rows: list[np.ndarray] = []
    with alive.doing(lambda: f"features of the frozen body: {sum(map(len, rows)):,} of {len(posters):,} posters"):
        for batch in loader.row_batches(first_rows, batch_size):
            rows.append(evaluate.gather(pooled_of(body, batch["image"]))[evaluate.gather(batch["mask"]) > 0])
    array = np.concatenate(rows).astype(np.float32)
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_atomic(path, buffer.getvalue())
    return Features(array, index)


def of_run(workdir: pathlib.Path, loader: input_pipeline.Loader, cache_dir: str) -> Features:
    """Features of the loader's posters, in its size of them, by the body of a finished run's best network.

    Raises UserError as `predictor.load_network` does, and for a network that has no body.
    """
    network = predictor.load_network(workdir)
    if not has_features(network.model):
        raise errors.UserError(
            f"{workdir} is a network without a body, whose last map has no features to transfer: give a run of a pretrained "
            "network, or released:mobilenet_v2."
        )
    sharding.check_batch_size("eval.batch_size", network.batch_size, loader.shardings.mesh.size)
    variables = jax.device_put(network.variables, loader.shardings.state)
    return extract(network.model, variables, loader, network.batch_size, cache_dir)


def has_features(model: PosterModel) -> bool:
    """Whether a network names its features itself, by a method `features` and a field `pooling`, as bodies do."""
    return callable(getattr(model, "features", None))


def make_features(model: PosterModel) -> Callable[[Variables, jax.Array], jax.Array]:
    """A function of (variables, image uint8 [B, H, W, 3]) that gives features [B, D], in inference mode.

    Of a network with `features` they are these; of another what its last dense layer is given.
    """

    def features(variables: Variables, image: jax.Array) -> jax.Array:
        x = layers.normalise(image, model.input_range)
        if has_features(model):
            pooled: Any = model.apply(variables, x, False, method="features")
            return pooled[1]
        given: list[jax.Array] = []

        def keep(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            if isinstance(context.module, nn.Dense):
                given.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(keep):
            model.apply(variables, x, False)
        return given[-1]

    return features


def _fingerprint(model: Any, variables: Variables, loader: input_pipeline.Loader, posters: np.ndarray) -> str:
    """Names what features depend on: posters, their size, pooling, range, and every other field and weight of the body."""
    fields = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        # What the head alone depends on, and what only training steps do.
        if field.name not in ("parent", "name", "num_genres", "dropout", "bn_mode", "train_from")
    }
    digest = hashlib.sha256(repr(sorted(fields.items())).encode())
    for name, array in sorted(traverse_util.flatten_dict(variables, sep="/").items()):
        if name.split("/")[1] not in body_lib.HEAD:
            digest.update(name.encode())
            digest.update(np.asarray(array).tobytes())
    height, width = loader.image_size
    data = hashlib.sha256(loader.rows.fingerprint.encode() + posters.astype(np.int64).tobytes()).hexdigest()
    low, high = model.input_range
    kind = model.pooling if has_features(model) else "dense"
    return f"{data[:12]}-{height}x{width}-{kind}-{low:g}to{high:g}-{digest.hexdigest()[:16]}"
