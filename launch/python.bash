# shellcheck shell=bash
# Sourced by install.sh, worker.sh and .ci/run: finds interpreters, also those that PATH does not offer.
set -euo pipefail

# Whether it starts and can make an environment; a dry run starts nothing, and takes the first that is there.
_starts() {
  if [ "${DRY_RUN:-}" = 1 ]; then
    command -v "$1" >/dev/null
  else
    "$1" -c 'import ensurepip' 2>/dev/null
  fi
}

# Prints an interpreter of version $1, as 3.12, that starts; nothing where there is none.
find_python() {
  local candidate
  local -a candidates=("python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python)
  if command -v uv >/dev/null; then
    candidates+=("$(uv python find --no-python-downloads "$1" 2>/dev/null || true)")
  fi
  for candidate in "${candidates[@]}"; do
    # pyenv's shims lie on PATH for versions that are not chosen, and do not start.
    if [ -n "$candidate" ] && _starts "$candidate"; then
      echo "$candidate"
      return
    fi
  done
}

# Prints the first of 3.13, 3.12 and 3.11 that starts; nothing where none does.
newest_python() {
  local version found
  for version in 3.13 3.12 3.11; do
    found="$(find_python "$version")"
    if [ -n "$found" ]; then
      echo "$found"
      return
    fi
  done
}
