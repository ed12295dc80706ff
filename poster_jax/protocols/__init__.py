"""Protocols by name: each is a function `run(config, workdir) -> results` that reads from top to bottom."""

from poster_jax.protocols import single

PROTOCOLS = {"single": single.run}
