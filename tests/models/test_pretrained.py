"""Pretrained weights in a network: what they replace, and what they are refused for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from poster_jax import errors
from poster_jax.models import body as body_lib
from poster_jax.models import mobilenet_v2, pretrained

WIDTH = 0.35
FIELDS = {**pretrained.FRAMEWORKS["keras"], "width": WIDTH}


@pytest.fixture(scope="module")
def body() -> pretrained.Pretrained:
    """Random weights of every body array, without a head."""
    rng = np.random.default_rng(0)
    shapes = body_lib.shapes(mobilenet_v2.MobileNetV2(num_genres=6, pooling="max", dropout=0.0, bn_mode="frozen", **FIELDS))
    shapes["params"].pop("head")
    variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes)
    return pretrained.Pretrained("mobilenet_v2", variables, **FIELDS, provenance={"source": "drawn"})


def fresh(width: float = WIDTH, num_genres: int = 6) -> Any:
    fields = {**pretrained.FRAMEWORKS["keras"], "width": width, "pooling": "max", "dropout": 0.0, "bn_mode": "frozen"}
    shapes = body_lib.shapes(mobilenet_v2.MobileNetV2(num_genres=num_genres, **fields))
    sharding = NamedSharding(jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)), PartitionSpec())
    return jax.tree.map(lambda leaf: jax.device_put(np.full(leaf.shape, 9, np.float32), sharding), shapes)


def test_merge_replaces_the_body_where_it_lies_and_keeps_the_head(body: pretrained.Pretrained) -> None:
    before = fresh()
    merged = pretrained.merge(before, body)
    assert jax.tree.structure(merged) == jax.tree.structure(before)
    head = merged["params"].pop("head")
    assert all(np.all(leaf == 9) for leaf in jax.tree.leaves(head))
    assert jax.tree.all(jax.tree.map(np.array_equal, merged, body.variables))
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(merged))


def test_merge_refuses_another_width_head_or_network(body: pretrained.Pretrained) -> None:
    with pytest.raises(errors.UserError, match=r"misshaped \(.*\): it needs width 0.35 to take them\.$"):
        pretrained.merge(fresh(width=1.0), body)
    head = {"kernel": np.ones((1280, 19), np.float32), "bias": np.ones(19, np.float32)}
    dogs = pretrained.Pretrained(
        body.model,
        {**body.variables, "params": {**body.variables["params"], "head": head}},
        **body.fields(),
        provenance=body.provenance,
    )
    with pytest.raises(errors.UserError, match="a head for 19 genres and this run has 6"):
        pretrained.merge(fresh(), dogs)
    assert np.all(pretrained.merge(fresh(num_genres=19), dogs)["params"]["head"]["bias"] == 1)
    with pytest.raises(errors.UserError, match="1 missing .params/Conv_0/kernel"):
        pretrained.merge({"params": {"Conv_0": {"kernel": jnp.ones((3, 3, 3, 4))}}}, body)
