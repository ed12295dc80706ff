#!/usr/bin/env bash
# Stands for the Python of a virtual environment. As poster_jax.main it does what $RECORD/plan-I says, one line a start:
#   end CODE [I...]  ends with that code, whatever signal comes, once these processes run
#   train            waits for SIGTERM and ends with 75
#   deaf             waits and does not hear SIGTERM
#   taken            Google takes the TPU away (fake_gcloud.sh) once all workers are followed
# and leaves its arguments, pid and number of starts in $RECORD.
set -euo pipefail
if [ "${1:-}" != -m ] || [ "$2" != poster_jax.main ]; then
  exit 0
fi
shift 2
id="${POSTER_JAX_PROCESS_ID:-${SLURM_PROCID:-${WORKER:-0}}}"
starts=$(($(cat "$RECORD/starts-$id" 2>/dev/null || echo 0) + 1))
printf '<%s>\n' "$@" >"$RECORD/arguments-$id"
env >"$RECORD/environment-$id"
plan="$(sed -n "${starts}p" "$RECORD/plan-$id")"
sleep 120 &
nap=$!
trap '' TERM
[[ "$plan" == deaf || "$plan" == end* ]] || trap 'kill $nap; echo "saved"; exit 75' TERM
echo "process $id, start $starts: $plan"
echo "$starts" >"$RECORD/starts-$id"
# Whoever waits for this file may signal from here on.
echo "$$" >"$RECORD/pid-$id"
case "$plan" in
  end*)
    kill "$nap"
    read -r _ code others <<<"$plan"
    for other in $others; do
      until [ -s "$RECORD/pid-$other" ]; do sleep 0.05; done
    done
    exit "$code"
    ;;
  taken)
    until [ "$(grep -c "worker.sh follow" "$FAKE_CLOUD/calls")" -ge "$FAKE_WORKERS" ]; do sleep 0.1; done
    echo SUSPENDED >"$FAKE_CLOUD/state"
    ;;
esac
while kill -0 "$nap" 2>/dev/null; do
  wait "$nap" || true
done
