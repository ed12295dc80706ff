"""A network as a table of layers, output shapes and parameters, in the form of Keras."""

import jax
import jax.numpy as jnp

from poster_jax import config as config_lib
from poster_jax.models import body, layers, registry


def describe(config: config_lib.Config) -> str:
    """The layers, output shapes and parameters of a config's network, as text; no weights are read."""
    num_genres = len(config.data.genres) or config.data.num_genres
    model = registry.build(**config.model, num_genres=num_genres + config.data.num_auxiliary, precision=config.train.precision)
    if isinstance(model, body.Body):
        return body_table(model, config.data.image_size)
    image = jnp.zeros((1, *config.data.image_size, 3))
    plain = {"width": 110, "force_terminal": False}
    return model.tabulate(jax.random.key(0), image, False, compute_flops=False, console_kwargs=plain)


def body_table(model: body.Body, image_size: tuple[int, int]) -> str:
    """As the movie paper's Figure 5: layers, output shapes and parameters, then the totals and the mode of BatchNorm."""
    variables = body.shapes(model, image_size)
    image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    last, pooled = jax.eval_shape(lambda v, x: model.apply(v, x, False, method="features"), variables, image)
    total, head = layers.count_values(variables), layers.count_values(variables["params"]["head"])
    side = str(image_size[0]) if image_size[0] == image_size[1] else f"{image_size[0]}x{image_size[1]}"
    pooling = {"max": "max", "avg": "average"}[model.pooling]
    body_name = f"{type(model).__name__.lower()}_{model.width:.2f}_{side} (Model)"
    rows = [
        ("Layer (type)", "Output Shape", "Param #"),
        (body_name, f"(None, {', '.join(map(str, last.shape[1:]))})", str(total - head)),
        (f"global_{pooling}_pooling2d (Global)", f"(None, {pooled.shape[1]})", "0"),
        *([(f"dropout {model.dropout} (Dropout)", f"(None, {pooled.shape[1]})", "0")] if model.dropout else []),
        ("dense (Dense)", f"(None, {model.num_genres})", str(head)),
    ]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(2)]
    trainable = layers.count_values(variables["params"])
    return "\n".join(
        [
            *(f"{layer:{widths[0]}}{shape:{widths[1]}}{number}" for layer, shape, number in rows),
            f"Total params: {total:,}",
            f"Body frozen: trainable params {head:,}, non-trainable {total - head:,}",
            f"All weights: trainable params {trainable:,}, non-trainable {total - trainable:,}",
            f"BatchNorm in training steps: {model.bn_mode}: {body.BN_MODES[model.bn_mode]}",
        ]
    )
