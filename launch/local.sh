#!/usr/bin/env bash
# Trains on this machine: makes .venv if it is missing, installs the project into it, runs poster_jax.main.
#
#   bash launch/local.sh --config=configs/cnn_onehot.py [--config.KEY=VALUE ...] [--workdir=DIR] [--plan]
#
# PYTHON=python3.12   the interpreter that makes .venv (3.11 or newer)
# VENV=.venv          where the environment lies
# EXTRAS=cuda         extras of pyproject.toml to install: cuda, tpu, streaming, or several with commas
# DRY_RUN=1           prints the commands and runs none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash

if [ $# -eq 0 ] || [ "$1" = "--help" ]; then
  usage
fi
VENV="${VENV:-.venv}"
bash launch/install.sh "$VENV" "${EXTRAS:-}"
run exec "$VENV/bin/python" -m poster_jax.main "$@"
