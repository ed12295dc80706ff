"""Protocols by name: each is a function `run(config, workdir, stop) -> results` that reads from top to bottom."""

from poster_jax.protocols import reproduce

PROTOCOLS = {**reproduce.EXPERIMENTS, "reproduce": reproduce.run}
