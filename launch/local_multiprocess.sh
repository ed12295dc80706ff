#!/usr/bin/env bash
# Trains with N processes on this machine, which speak over loopback.
#
#   bash launch/local_multiprocess.sh N --config=configs/cnn_onehot.py [--config.KEY=VALUE ...] [--workdir=DIR]
#
# Each process writes LOGS/process-I.log; that of process 0 is shown as it grows. When one process fails, the others are
# ended within GRACE_SECS. SIGTERM and Ctrl-C reach all of them: they save, and the same command goes on from there.
# Exit codes: 0 finished, 2 a mistake in what was asked, 75 stopped with the state saved, 1 a process failed.
#
# DEVICES_PER_PROCESS=2   simulates that many CPU devices in each process
# GPUS_PER_PROCESS=1      gives process I that many GPUs: I * GPUS_PER_PROCESS and those after it
# GRACE_SECS=30           what the others have to end by themselves when one has failed
# STOP_SECS=170           what all have to save in after SIGTERM or Ctrl-C; a second one ends them at once
# LOGS=runs/logs/TIME     where the logs go
# PORT=12391              the coordinator's port; a free one when not given
# PYTHON, VENV, EXTRAS    as for launch/local.sh
# DRY_RUN=1               prints the commands and runs none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash

if [ $# -eq 0 ] || [ "$1" = "--help" ]; then
  usage
fi
[[ "$1" =~ ^[1-9][0-9]*$ ]] || mistake "the number of processes comes first, not $1; see --help."
count="$1"
shift
VENV="${VENV:-.venv}"
LOGS="${LOGS:-runs/logs/$(date +%Y%m%d-%H%M%S)-$$}"
GRACE_SECS="${GRACE_SECS:-30}"
STOP_SECS="${STOP_SECS:-170}"

# A port of loopback at which nobody answers, below those that the system gives out by itself.
find_port() {
  local port
  while port=$((20000 + RANDOM % 12000)) && (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    :
  done
  echo "$port"
}

# Fills `settings` with what process $1 gets in its environment.
set_settings() {
  settings=("JAX_COORDINATOR_ADDRESS=127.0.0.1:$port" "POSTER_JAX_NUM_PROCESSES=$count" "POSTER_JAX_PROCESS_ID=$1")
  if [ -n "${DEVICES_PER_PROCESS:-}" ]; then
    local flag="--xla_force_host_platform_device_count=$DEVICES_PER_PROCESS"
    settings+=("JAX_PLATFORMS=cpu" "XLA_FLAGS=$flag${XLA_FLAGS:+ $XLA_FLAGS}")
  fi
  if [ -n "${GPUS_PER_PROCESS:-}" ]; then
    local first=$(($1 * GPUS_PER_PROCESS))
    settings+=("CUDA_VISIBLE_DEVICES=$(seq -s, "$first" $((first + GPUS_PER_PROCESS - 1)))")
  fi
}

bash launch/install.sh "$VENV" "${EXTRAS:-}"
port="${PORT:-$(find_port)}"
if dry; then
  for ((i = 0; i < count; i++)); do
    set_settings "$i"
    echo "$(say env "${settings[@]}" "$VENV/bin/python" -m poster_jax.main "$@") >>$(say "$LOGS/process-$i.log") 2>&1 &"
  done
  exit 0
fi

# The system ends a process whose launcher was killed, where util-linux offers that.
guard=()
if command -v setpriv >/dev/null && setpriv --pdeathsig TERM true 2>/dev/null; then
  guard=(setpriv --pdeathsig TERM)
fi
mkdir -p "$LOGS"
pids=() codes=()
stop_asked=0 # signals that have come
deadline=""  # of SECONDS; empty until the processes have been told to end
blamed=""    # the first process that failed
shown=0      # bytes of process 0's log

# Tells every process that runs to save and end, within $1 seconds or sooner if that was said before.
end_all() {
  local until=$((SECONDS + $1))
  [ -n "$deadline" ] || signal_running TERM
  if [ -z "$deadline" ] || [ "$until" -lt "$deadline" ]; then
    deadline=$until
  fi
}

signal_running() {
  local i
  for ((i = 0; i < ${#pids[@]}; i++)); do
    if [ -z "${codes[$i]}" ]; then
      # The last signal is for what a process has started too: each leads a process group.
      [ "$1" = KILL ] && kill -KILL -- "-${pids[$i]}" 2>/dev/null
      kill "-$1" "${pids[$i]}" 2>/dev/null || true
    fi
  done
}

on_signal() {
  stop_asked=$((stop_asked + 1))
  if [ "$stop_asked" -gt 1 ]; then
    deadline=$SECONDS
  else
    echo "stopping: the processes save, which may take a while" >&2
    end_all "$STOP_SECS"
  fi
}

show_log() {
  local size
  size=$(wc -c <"$LOGS/process-0.log")
  if [ "$size" -gt "$shown" ]; then
    tail -c "+$((shown + 1))" "$LOGS/process-0.log" | head -c "$((size - shown))"
    shown=$size
  fi
}

# Takes the exit code of process $1, which has ended, and what follows from it.
collect() {
  local code=0
  wait "${pids[$1]}" || code=$?
  # A process that was told to end before it could listen has lost nothing.
  if [ "$stop_asked" -gt 0 ] && [ "$code" -eq 143 ]; then
    code=75
  fi
  # What ended because it was told to is nobody's fault.
  if [ -n "$deadline" ] && { [ "$code" -eq 143 ] || { [ "$code" -eq 137 ] && [ "$SECONDS" -ge "$deadline" ]; }; }; then
    code=ended
  elif [ "$code" -eq 75 ]; then
    end_all "$STOP_SECS"
  elif [ "$code" -ne 0 ]; then
    blamed="${blamed:-$1}"
    end_all "$GRACE_SECS"
  fi
  codes[$1]=$code
}

trap on_signal TERM INT
trap 'signal_running KILL' EXIT
# Job control gives every process a group of its own, so that Ctrl-C reaches this script alone.
set -m
for ((i = 0; i < count; i++)); do
  set_settings "$i"
  codes+=("")
  env "${settings[@]}" ${guard[@]+"${guard[@]}"} "$VENV/bin/python" -m poster_jax.main "$@" \
    >>"$LOGS/process-$i.log" 2>&1 </dev/null &
  pids+=("$!")
  echo "process $i of $count: pid $!, log $LOGS/process-$i.log"
done

running=$count
while [ "$running" -gt 0 ]; do
  sleep 0.25 || true
  running=0
  for ((i = 0; i < count; i++)); do
    if [ -n "${codes[$i]}" ]; then
      continue
    elif kill -0 "${pids[$i]}" 2>/dev/null; then
      running=$((running + 1))
    else
      collect "$i"
    fi
  done
  show_log
  if [ "$running" -gt 0 ] && [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
    signal_running KILL
  fi
done

# What the exit code $1 means.
meaning() {
  if [ "$1" -gt 128 ]; then
    echo "was killed by SIG$(kill -l $(($1 - 128)))"
  else
    echo "ended with code $1"
  fi
}

if [ -n "$blamed" ]; then
  code="${codes[$blamed]}"
  log="$LOGS/process-$blamed.log"
  tail -n 3 "$log" >&2
  echo "process $blamed of $count $(meaning "$code"), so the others were ended; its log: $log" >&2
  [ "$code" -eq 2 ] && exit 2
  exit 1
fi
case " ${codes[*]} " in
  *" 75 "*)
    echo "stopped, and what was done is saved: run the same command to go on; logs: $LOGS" >&2
    exit 75
    ;;
  *" ended "*)
    echo "the processes did not save within $STOP_SECS s and were killed; run the same command to go on; logs: $LOGS" >&2
    exit 1
    ;;
esac
