#!/usr/bin/env bash
# Trains on this machine: makes .venv if it is missing, installs the project into it, runs poster_jax.main.
#
#   bash launch/local.sh --config=configs/cnn_onehot.py [--config.KEY=VALUE ...] [--workdir=DIR] [--plan]
#
# PYTHON=python3.12   the interpreter that makes .venv (3.11 or newer)
# VENV=.venv          where the environment lies
# EXTRAS=cuda         extras of pyproject.toml to install: cuda, tpu, streaming, or several with commas
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -eq 0 ] || [ "$1" = "--help" ]; then
  sed -n '2,9p' "$0"
  exit 2
fi
VENV="${VENV:-.venv}"
bash launch/install.sh "$VENV" "${EXTRAS:-}"
exec "$VENV/bin/python" -m poster_jax.main "$@"
