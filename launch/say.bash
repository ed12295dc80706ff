# shellcheck shell=bash
# What the scripts beside this file share; they source it.
set -euo pipefail

# Prints the comment block under the first line of the script, which is its manual, and ends with exit code 2.
usage() {
  local script="$0"
  [ -e "$script" ] || script="launch/${0##*/}"
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$script"
  exit 2
}

# Ends with one sentence and exit code 2: a mistake in what was asked.
mistake() {
  echo "${0##*/}: $*" >&2
  exit 2
}

dry() { [ "${DRY_RUN:-}" = 1 ]; }

# Prints a command as it could be typed.
say() {
  local word line=""
  for word; do
    if [[ ! "$word" =~ ^[A-Za-z0-9_./:,=%@+-]+$ ]]; then
      word="${word@Q}"
    fi
    line+=" $word"
  done
  echo "${line# }"
}

# Runs a command; with DRY_RUN=1 only prints it.
run() {
  if dry; then
    say "$@"
  else
    "$@"
  fi
}
