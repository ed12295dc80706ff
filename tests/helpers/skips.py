"""Which tests may be skipped: with CI=true in the environment, a skip for any other reason is a failure."""

import os
import pathlib
import re
from collections.abc import Generator
from typing import Any

import pytest

SHARED_DIR = pathlib.Path(__file__).resolve().parents[3] / "shared"
# {what a reason matches: why such a test need not run everywhere}. A missing browser is none of them: .ci/run installs it.
ALLOWED = {
    r"^torch is too large": "5 GB; tests/models/golden/ holds what torchvision gives",
    r"^jax [\d.]+ is older than the bundle's": "a bundle asks for the jax that made it, or a later one",
}
NEEDS_SHARED = r"^needs \.\./shared"


def is_allowed(reason: str, has_shared: bool) -> bool:
    """Whether a test may be skipped for this reason on a machine with or without ../shared beside the checkout."""
    allowed = [*ALLOWED, *([] if has_shared else [NEEDS_SHARED])]
    return any(re.search(pattern, reason) for pattern in allowed)


def _hold(report: Any) -> Any:
    """The report, as a failure where its skip is not allowed."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        path, line, told = report.longrepr
        reason = told.removeprefix("Skipped: ")
        if not is_allowed(reason, SHARED_DIR.is_dir()):
            report.outcome = "failed"
            report.longrepr = f"{path}:{line}: skipped, which tests/helpers/skips.py does not allow in CI: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _hold((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _hold((yield))
