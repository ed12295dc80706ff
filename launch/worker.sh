#!/usr/bin/env bash
# The part of launch/tpu_vm.sh that runs on each worker. The run outlives the connection that started it.
#
#   bash launch/worker.sh setup [EXTRAS]     gets a Python if the image has none that is new enough, and installs
#   bash launch/worker.sh start ARGUMENTS    starts poster_jax.main, unless it runs
#   bash launch/worker.sh follow             its log from the start of the run; the last line names the exit code
#   bash launch/worker.sh stop [SECS]        SIGTERM, so that it saves; SIGKILL SECS (120) later
#   bash launch/worker.sh status             one line
#   bash launch/worker.sh log [LINES]        the end of its log
#
# VENV=~/poster_jax_venv   where the environment lies
# STATE=~/poster_jax_run   where log, pid and exit code are
# DRY_RUN=1                prints the commands and runs none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash
# shellcheck source=launch/python.bash
. launch/python.bash

VENV="${VENV:-$HOME/poster_jax_venv}"
STATE="${STATE:-$HOME/poster_jax_run}"

# Holds between the start of a run and its exit code; a pid from before a reboot does not count.
running() { [ -s "$STATE/pid" ] && [ ! -e "$STATE/code" ] && kill -0 "$(cat "$STATE/pid")" 2>/dev/null; }

# Waits at most $1 seconds for the end of the run.
wait_for_end() {
  local tries
  for ((tries = 0; tries < $1 * 5; tries++)); do
    running || return 0
    sleep 0.2
  done
  return 1
}

setup() {
  local chosen
  chosen="$(newest_python)"
  if [ -z "$chosen" ] && [ ! -x "$VENV/bin/python" ]; then
    run sudo apt-get -qq update
    run sudo apt-get -qq install --yes python3.11 python3.11-venv
    chosen=python3.11
  fi
  PYTHON="$chosen" run bash launch/install.sh "$VENV" "$@"
}

start() {
  if running; then
    echo "runs already, pid $(cat "$STATE/pid")"
    return
  fi
  if dry; then
    say setsid "$VENV/bin/python" -m poster_jax.main "$@"
    return
  fi
  mkdir -p "$STATE"
  [ ! -e "$STATE/log" ] || mv "$STATE/log" "$STATE/log.$(date +%s)"
  rm -f "$STATE/pid" "$STATE/code"
  # shellcheck disable=SC2016
  setsid bash -c '"$@" & echo $! >"$0/pid.part"; mv "$0/pid.part" "$0/pid"; code=0; wait $! || code=$?
    echo "$code" >"$0/code.part"; mv "$0/code.part" "$0/code"' \
    "$STATE" "$VENV/bin/python" -m poster_jax.main "$@" >"$STATE/log" 2>&1 </dev/null &
  until [ -s "$STATE/pid" ]; do
    sleep 0.1
  done
  echo "started, pid $(cat "$STATE/pid")"
}

follow() {
  [ -s "$STATE/pid" ] || mistake "nothing has been started here."
  run tail -n +1 -s 0.2 -f "--pid=$(cat "$STATE/pid")" "$STATE/log"
  local tries
  for ((tries = 0; tries < 50; tries++)); do
    [ ! -e "$STATE/code" ] || break
    sleep 0.1
  done
  # A line that the log has not ended does not swallow this one.
  printf '\nworker.sh: code %s\n' "$(cat "$STATE/code" 2>/dev/null || echo unknown)"
}

stop() {
  if ! running; then
    echo "does not run"
    return
  fi
  run kill -TERM "$(cat "$STATE/pid")"
  dry || wait_for_end "${1:-120}" || kill -KILL "$(cat "$STATE/pid")"
}

status() {
  if running; then
    echo "running, pid $(cat "$STATE/pid")"
  elif [ -e "$STATE/code" ]; then
    echo "ended with code $(cat "$STATE/code")"
  else
    echo "nothing runs"
  fi
}

action="${1:-}"
[ $# -eq 0 ] || shift
case "$action" in
  setup | start | follow | stop | status) "$action" "$@" ;;
  log) run tail -n "${1:-50}" "$STATE/log" ;;
  *) usage ;;
esac
