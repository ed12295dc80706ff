"""Networks by name: `build` turns `config.model` into a flax module, `load_pretrained` reads its initial weights."""

from poster_jax.models.registry import MODELS as MODELS
from poster_jax.models.registry import body_fields as body_fields
from poster_jax.models.registry import build as build
from poster_jax.models.registry import first_steps as first_steps
from poster_jax.models.registry import load_pretrained as load_pretrained
