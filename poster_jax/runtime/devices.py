"""The devices that JAX computes on here: that there are any, and what about them and its settings changes numbers."""

import os
from typing import Any

import jax

from poster_jax import errors


def require() -> None:
    """Raises UserError where the devices that were asked for cannot be used; before any work, as JAX says so at its first."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # the first where nothing is installed for any platform asked for
        reason = " ".join(str(error).split())[:300] or "nothing that is installed here knows it"
        raise errors.UserError(
            f"JAX finds no device to compute on{f' with JAX_PLATFORMS={asked}' if asked else ''} ({reason}): set "
            "JAX_PLATFORMS=cpu, or install what the device needs, as pip install 'poster_jax[cuda]'."
        ) from error


def numerics() -> dict[str, Any]:
    """{setting: value} of what makes equal configs give other bits: version, device kind, widths and flags."""
    return {
        "jax": jax.__version__,
        "device_kind": jax.devices()[0].device_kind,
        "x64": bool(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        "matmul_precision": str(jax.config.jax_default_matmul_precision or "default"),  # type: ignore[attr-defined]
        "deterministic_operations": "--xla_gpu_deterministic_ops=true" in os.environ.get("XLA_FLAGS", ""),
    }
