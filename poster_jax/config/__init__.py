"""What a run may be asked for: keys, defaults, checks, and the way from a file to a checked config."""

from poster_jax.config.defaults import DEFAULTS as DEFAULTS
from poster_jax.config.defaults import MODELS as MODELS
from poster_jax.config.defaults import TABLE_6_BLOCKS as TABLE_6_BLOCKS
from poster_jax.config.defaults import TABLE_6_DENSE as TABLE_6_DENSE
from poster_jax.config.defaults import Config as Config
from poster_jax.config.defaults import base as base
from poster_jax.config.defaults import make_smoke as make_smoke
from poster_jax.config.defaults import narrow as narrow
from poster_jax.config.loading import RESUMABLE as RESUMABLE
from poster_jax.config.loading import derive as derive
from poster_jax.config.loading import differences as differences
from poster_jax.config.loading import flatten as flatten
from poster_jax.config.loading import from_json as from_json
from poster_jax.config.loading import load as load
from poster_jax.config.loading import override as override
from poster_jax.config.loading import parse_arg as parse_arg
from poster_jax.config.loading import parse_overrides as parse_overrides
from poster_jax.config.loading import to_json as to_json
from poster_jax.config.loading import to_steps as to_steps
from poster_jax.config.loading import to_tuples as to_tuples
