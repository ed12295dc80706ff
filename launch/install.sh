#!/usr/bin/env bash
# Makes a virtual environment if it is missing and installs the project with pinned versions.
#
#   bash launch/install.sh VENV [EXTRAS]
#
# PYTHON=python3.12   the interpreter (3.11 or newer); without it the newest of python3.12, 3.13, 3.11 that runs
# DRY_RUN=1           prints the commands and runs none
# An environment whose pyproject.toml and pins have not changed since the last install is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash

if [ $# -eq 0 ] || [ "$1" = "--help" ]; then
  usage
fi
venv="$1"
extras="${2:-}"

fits() { dry || "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ ! -x "$venv/bin/python" ]; then
  chosen=""
  for candidate in ${PYTHON:-python3.12 python3.13 python3.11 python3}; do
    if fits "$candidate"; then
      chosen="$candidate"
      break
    fi
  done
  if [ -z "$chosen" ]; then
    mistake "no Python 3.11 or newer was found: install one, or name it with PYTHON=."
  fi
  run "$chosen" -m venv "$venv"
fi
if ! fits "$venv/bin/python"; then
  mistake "$venv was made with a Python older than 3.11: remove it, or name another with VENV=."
fi

wanted="$(cat pyproject.toml launch/constraints.txt | cksum) $extras"
if [ "$(cat "$venv/.installed" 2>/dev/null || true)" != "$wanted" ]; then
  run "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint launch/constraints.txt --editable ".${extras:+[$extras]}"
  dry || echo "$wanted" >"$venv/.installed"
fi
