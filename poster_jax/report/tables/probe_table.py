"""The probe of features as plain text: what validation gave at each penalty, and where the features come from."""

from collections.abc import Mapping
from typing import Any

from poster_jax.report.tables import cells


def probe_table(probe: Mapping[str, Any]) -> str:
    """results["probe"] of the protocol probe: one row per penalty, the chosen one marked. Ends in a newline."""
    sources = "; ".join(f"{cells.counted(one['columns'], 'column')} of {one['source']}" for one in probe["features"])
    lines = [
        *cells.wrapped(f"features: {sources}"),
        *cells.wrapped(f"validation {probe['metric']} by inverse penalty C, on standardised features"),
        f"{'C':>9}{'validation':>12}",
    ]
    for fit in probe["path"]:
        mark = "  chosen" if fit["inverse_penalty"] == probe["inverse_penalty"] else ""
        lines.append(f"{fit['inverse_penalty']:>9g}{cells.number(fit['value']):>12}{mark}")
    if len(probe["path"]) > 1 and probe["inverse_penalty"] in (probe["path"][i]["inverse_penalty"] for i in (0, -1)):
        lines += cells.wrapped("the chosen C is the last of its side: --config.probe.inverse_penalties can go further")
    return "\n".join(lines) + "\n"
