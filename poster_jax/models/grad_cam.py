"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): the regions of a poster that are evidence for one genre.

A map is the activation of the last convolution, its channels weighted by the mean gradient of the genre's logit, with negative
sums set to 0. The logit is explained rather than the probability, because a saturated probability has no gradient.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from poster_jax import errors
from poster_jax.models import body, cnn, layers, types

# (variables, x, genre) -> (activation [B, h, w, C], gradient of the genre's logit with respect to it)
Backward = Callable[[types.Variables, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
GradCam = Callable[[types.Variables, jax.typing.ArrayLike, jax.typing.ArrayLike], jax.Array]


def make_grad_cam(model: types.PosterModel) -> GradCam:
    """`grad_cam(variables, image uint8 [B, H, W, 3], genre int32 [B]) -> float32 [B, h, w] in [0, 1]`, jitted and pure.

    h and w are those of the last map. The largest cell of a poster's map is 1; a map without evidence is 0 everywhere. Raises
    `UserError` for a network without a convolution.
    """
    backward = _make_pooled(model) if isinstance(model, body.Body) else _make_perturbed(model)

    def grad_cam(variables: types.Variables, image: jax.Array, genre: jax.Array) -> jax.Array:
        activation, gradient = backward(variables, layers.normalise(image, model.input_range), genre)
        weights = gradient.astype(jnp.float32).mean((1, 2), keepdims=True)
        evidence = jax.nn.relu((weights * activation.astype(jnp.float32)).sum(-1))
        largest = evidence.max((1, 2), keepdims=True)
        return evidence / jnp.where(largest > 0, largest, 1.0)

    return jax.jit(grad_cam)


def _chosen_sum(logits: jax.Array, genre: jax.Array) -> jax.Array:
    """Sum over rows of the logit of each row's genre: rows are independent in inference mode, so this gives all gradients."""
    return jnp.take_along_axis(logits, genre.reshape(-1, 1), axis=1).sum()


def _make_perturbed(model: types.PosterModel) -> Backward:
    """For a network that marks its last map with `perturb` and `sow`: zeros are added there, and their gradient is taken."""
    if isinstance(model, cnn.CNN) and not model.blocks:
        raise errors.UserError("config.model.blocks is empty: Grad-CAM needs a network with a convolution.")

    def backward(variables: types.Variables, x: jax.Array, genre: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, shapes = jax.eval_shape(lambda: model.apply(variables, x, False, mutable=[cnn.PERTURBATIONS]))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[cnn.PERTURBATIONS])

        def chosen(added: Any) -> tuple[jax.Array, Any]:
            named = {**variables, cnn.PERTURBATIONS: added}
            logits, sown = model.apply(named, x, False, mutable=["intermediates"])
            return _chosen_sum(logits, genre), sown["intermediates"][cnn.LAST_MAP][0]

        gradient, activation = jax.grad(chosen, has_aux=True)(zeros)
        return activation, gradient[cnn.LAST_MAP]

    return backward


def _make_pooled(model: types.PosterModel) -> Backward:
    """For a body whose last map is pooled over the poster: only pooling and head are differentiated.

    The style of earlier maps (`style_from`) is held fixed: its contribution to a logit has no position on the last map.
    """

    def backward(variables: types.Variables, x: jax.Array, genre: jax.Array) -> tuple[jax.Array, jax.Array]:
        last_map, features = model.apply(variables, x, False, method="features")
        style = features[:, last_map.shape[3] :]

        def chosen(activation: jax.Array) -> jax.Array:
            pooled = model.apply(variables, activation, method="pool")
            joined = jnp.concatenate([pooled.astype(style.dtype), style], axis=1)
            logits = model.apply(variables, joined, False, method="classify")
            return _chosen_sum(logits, genre)

        return last_map, jax.grad(chosen)(last_map)

    return backward
