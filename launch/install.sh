#!/usr/bin/env bash
# Makes a virtual environment if it is missing and installs the project with pinned versions.
#
#   bash launch/install.sh VENV [EXTRAS]
#
# PYTHON=python3.12   the interpreter (3.11 or newer); without it 3.13, 3.12 or 3.11, the first that starts, from PATH, pyenv or uv:
#                     from 3.12 on there is a jax that trains the CNN twice as fast on CPUs
# DRY_RUN=1           prints the commands and runs none
# An environment whose pyproject.toml and pins have not changed since the last install is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash
# shellcheck source=launch/python.bash
. launch/python.bash

if [ $# -eq 0 ] || [ "$1" = "--help" ]; then
  usage
fi
venv="$1"
extras="${2:-}"

fits() { dry || "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ ! -x "$venv/bin/python" ]; then
  chosen="${PYTHON:-}"
  why="as PYTHON says"
  if [ -z "$chosen" ]; then
    chosen="$(newest_python)"
    why="the newest of 3.13, 3.12 and 3.11 that starts here"
  fi
  if [ -z "$chosen" ] && fits python3; then
    chosen=python3
    why="as none of 3.13, 3.12 and 3.11 was found"
  fi
  if [ -z "$chosen" ] || ! fits "$chosen"; then
    mistake "no Python 3.11 or newer was found: install one, or name it with PYTHON=."
  fi
  dry || echo "$venv is made with $chosen, $why" >&2
  run "$chosen" -m venv "$venv"
fi
if ! fits "$venv/bin/python"; then
  mistake "$venv was made with a Python older than 3.11: remove it, or name another with VENV=."
fi

wanted="$(cat pyproject.toml launch/constraints.txt | cksum) $extras"
if [ "$(cat "$venv/.installed" 2>/dev/null || true)" != "$wanted" ]; then
  dry || echo "installing poster_jax and what it needs into $venv: one to three minutes the first time" >&2
  quiet=(--quiet)
  if [ -t 2 ]; then
    quiet=() # a terminal sees each package
  fi
  installer=("$venv/bin/python" -m pip install "${quiet[@]}" --disable-pip-version-check)
  if command -v uv >/dev/null; then
    installer=(uv pip install "${quiet[@]}" --python "$venv/bin/python")
  fi
  run "${installer[@]}" --constraint launch/constraints.txt --editable ".${extras:+[$extras]}"
  if [[ ",$extras," == *,onnx,* ]]; then
    # It asks for an older orbax than ours, which it does not need for this.
    run "${installer[@]}" --constraint launch/constraints.txt --no-deps jax2onnx
  fi
  dry || echo "$wanted" >"$venv/.installed"
fi
