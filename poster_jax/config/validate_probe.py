"""The keys of `config.probe`: their defaults, and what a probe of features needs."""

from collections.abc import Mapping
from typing import Any

from poster_jax import errors
from poster_jax.config import validate

# `config.probe`; three a decade from 1e-5 to 2.2, around the one at which the baselines of other protocols are fitted.
PROBE_DEFAULTS = {
    # scikit-learn's C on standardised features, rising; validation chooses one
    "inverse_penalties": tuple(float(f"{10 ** (place / 3 - 5):.3g}") for place in range(17)),
}


def check_probe(flat: Mapping[str, Any]) -> None:
    """Raises `UserError` for {dotted key: value} with which a probe cannot run, and for features that nobody would read."""
    is_probe, features = flat["protocol"] == "probe", flat["data.features"]
    if features and not is_probe:
        raise errors.UserError(
            f"config.data.features={features} is read by protocol=probe alone: take configs/probe_features.py."
        )
    if not is_probe:
        return
    if not features:
        raise errors.UserError(
            "config.data.features is empty: give a file that `poster-jax features` or your own program wrote, or a network, "
            "as --config.data.features=released:mobilenet_v2."
        )
    given = flat["probe.inverse_penalties"]
    good = given and all(validate.is_number(value) and value > 0 for value in given)
    if not good or list(given) != sorted(set(given)):
        raise errors.UserError(
            f"config.probe.inverse_penalties={given} must be one or more rising numbers above zero, as (1e-3, 1e-2)."
        )
    if flat["num_seeds"] != 1:
        raise errors.UserError("a probe is the same from every seed: set num_seeds=1.")
