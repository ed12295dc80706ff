#!/usr/bin/env bash
# Makes a virtual environment if it is missing and installs the project with pinned versions.
#
#   bash launch/install.sh VENV [EXTRAS]
#
# PYTHON=python3.12   the interpreter (3.11 or newer); without it the newest of python3.12, 3.13, 3.11 that runs
# An environment whose pyproject.toml and pins have not changed since the last install is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="${1:?usage: bash launch/install.sh VENV [EXTRAS]}"
extras="${2:-}"

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ ! -x "$venv/bin/python" ]; then
  chosen=""
  for candidate in ${PYTHON:-python3.12 python3.13 python3.11 python3}; do
    if fits "$candidate"; then
      chosen="$candidate"
      break
    fi
  done
  if [ -z "$chosen" ]; then
    echo "no Python 3.11 or newer was found: install one, or name it with PYTHON=." >&2
    exit 2
  fi
  "$chosen" -m venv "$venv"
fi
if ! fits "$venv/bin/python"; then
  echo "$venv was made with a Python older than 3.11: remove it, or name another with VENV=." >&2
  exit 2
fi

wanted="$(cat pyproject.toml launch/constraints.txt | cksum) $extras"
if [ "$(cat "$venv/.installed" 2>/dev/null || true)" != "$wanted" ]; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint launch/constraints.txt --editable ".${extras:+[$extras]}"
  echo "$wanted" >"$venv/.installed"
fi
