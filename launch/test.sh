#!/usr/bin/env bash
# Checks the project: makes .venv if it is missing, installs, then ruff, shellcheck, basedpyright and pytest.
# Two processes share the test files, for a program is mostly compiled by one core; -n 0 runs all in one, as --pdb needs it.
#
#   bash launch/test.sh [PYTEST ARGUMENTS ...]
#
# PYTHON=python3.12   the interpreter that makes .venv (3.11 or newer)
# VENV=.venv          where the environment lies
# DRY_RUN=1           prints the commands and runs none
# POSTER_JAX_TEST_CACHE=DIR   where compiled programs are kept for the next run, else ~/.cache; nowhere if it is empty
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash

if [ "${1:-}" = "--help" ]; then
  usage
fi
VENV="${VENV:-.venv}"
bash launch/install.sh "$VENV" streaming,test,onnx
run "$VENV/bin/ruff" check .
run "$VENV/bin/ruff" format --check .
run "$VENV/bin/shellcheck" --external-sources .ci/run launch/*.bash launch/*.sbatch launch/*.sh tests/launch/*.sh
run "$VENV/bin/basedpyright" --pythonpath "$VENV/bin/python"
# A process that a hanging test has ended is not started again: it would hang in the same test.
run "$VENV/bin/python" -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 --durations=10 "$@"
