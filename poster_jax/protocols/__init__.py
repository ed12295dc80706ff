"""Protocols by name: each is a function `run(config, workdir, stop) -> results` that reads from top to bottom."""

from poster_jax.protocols import ablation, search, single, transfer

PROTOCOLS = {"single": single.run, "transfer": transfer.run, "search": search.run, "ablation": ablation.run}
