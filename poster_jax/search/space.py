"""What a search may draw, and the drawing: trial n is a function of (seed, n), so it is the same whether 8 or 80 are drawn."""

import dataclasses
from typing import Any

import numpy as np

from poster_jax import config as config_lib


@dataclasses.dataclass(frozen=True)
class Trial:
    """One draw; `number` counts from 0, `filters` are per block, `units` per dense layer."""

    number: int
    learning_rate: float
    dropout: float
    filters: tuple[int, ...]
    units: tuple[int, ...]

    def values(self) -> dict[str, Any]:
        """{column: value} for tables and JSON, counted from 1 as the paper does."""
        widths = {f"filters_{index}": width for index, width in enumerate(self.filters, 1)}
        widths |= {f"units_{index}": width for index, width in enumerate(self.units, 1)}
        return {"trial": self.number + 1, "learning_rate": self.learning_rate, "dropout": self.dropout, **widths}


def draw_trials(search: config_lib.Search, seed: int) -> list[Trial]:
    """The given trials of `config.search`, or `num_trials` drawn ones."""
    blocks = len(search.filters)
    if search.trials:
        return [
            Trial(number, row[0], row[1], tuple(row[2 : 2 + blocks]), tuple(row[2 + blocks :]))
            for number, row in enumerate(search.trials)
        ]
    return [_draw(search, seed, number) for number in range(search.num_trials)]


def _draw(search: config_lib.Search, seed: int, number: int) -> Trial:
    rng = np.random.default_rng((seed, number))
    low, high = search.learning_rate_exponent
    exponent = low + (high - low) * rng.random()
    dropout = round(float(rng.uniform(*search.dropout)), 2)
    filters, units = (
        tuple(int(rng.integers(fewest, most + 1)) for fewest, most in ranges) for ranges in (search.filters, search.units)
    )
    return Trial(number, float(10.0**exponent), dropout, filters, units)


def widest(trials: list[Trial]) -> Trial:
    """A trial as wide as the widest in every layer; its rate and dropout are the first's."""
    filters = tuple(max(widths) for widths in zip(*(trial.filters for trial in trials), strict=True))
    units = tuple(max(widths) for widths in zip(*(trial.units for trial in trials), strict=True))
    return dataclasses.replace(trials[0], filters=filters, units=units)


def with_widths(config: config_lib.Config, trial: Trial) -> config_lib.Config:
    """A copy of the config whose network has the trial's widths and dropout."""
    blocks = tuple((width, *row[1:]) for width, row in zip(trial.filters, config.model.blocks, strict=True))
    dense = tuple((width, row[1], trial.dropout) for width, row in zip(trial.units, config.model.dense, strict=True))
    return config_lib.derive(config, {"model.blocks": blocks, "model.dense": dense})
