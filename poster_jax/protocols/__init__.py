"""Experiments: each module of a protocol has `run(config, workdir, stop) -> results`, read from top to bottom."""
