#!/usr/bin/env bash
# Stands for srun: SLURM_NTASKS tasks on this machine, with one log each, and --kill-on-bad-exit. With $RECORD/time_limit
# it does as SLURM does before a time limit: SIGTERM to the first process of each task, once all have started.
set -euo pipefail
printf '<%s>\n' "$@" >>"$RECORD/srun"
while [[ "$1" == -* ]]; do
  case "$1" in
    --output=*) output="${1#--output=}" ;;
  esac
  shift
done
set -m
pids=()
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i "$@" >>"${output/\%t/$i}" 2>&1 &
  pids+=("$!")
done
if [ -e "$RECORD/time_limit" ]; then
  rm "$RECORD/time_limit"
  for ((i = 0; i < SLURM_NTASKS; i++)); do
    until [ -e "$RECORD/pid-$i" ]; do sleep 0.05; done
    kill -TERM "${pids[$i]}"
  done
fi
worst=0
for pid in "${pids[@]}"; do
  code=0
  wait "$pid" || code=$?
  if [ "$code" -gt "$worst" ]; then
    worst=$code
    for other in "${pids[@]}"; do
      kill -KILL -- "-$other" 2>/dev/null || true
    done
  fi
done
exit "$worst"
