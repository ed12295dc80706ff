#!/usr/bin/env bash
# Checks the project: makes .venv if it is missing, installs, then ruff, basedpyright and pytest.
#
#   bash launch/test.sh [PYTEST ARGUMENTS ...]
#
# PYTHON=python3.12   the interpreter that makes .venv (3.11 or newer)
# VENV=.venv          where the environment lies
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV="${VENV:-.venv}"
bash launch/install.sh "$VENV" streaming,test
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/basedpyright" --pythonpath "$VENV/bin/python"
"$VENV/bin/python" -m pytest "$@"
