#!/usr/bin/env bash
# Stands for gcloud: a TPU of $FAKE_WORKERS workers in folders of $FAKE_CLOUD, whose state is in $FAKE_CLOUD/state. What is run on a
# worker does run, with the folder as its home; a connection ends when the TPU is taken. FAKE_REQUEST=FAILED is the fate of a
# request, FAKE_SILENT=1 a lost network.
set -euo pipefail
line="$(printf '<%s>' "$@")"
# In one write: two workers are followed at once.
echo "$line" >>"$FAKE_CLOUD/calls"
state() { cat "$FAKE_CLOUD/state" 2>/dev/null || true; }

workers=() command="" words=()
for argument; do
  case "$argument" in
    --worker=all) for ((i = 0; i < FAKE_WORKERS; i++)); do workers+=("$i"); done ;;
    --worker=*) workers=("${argument#--worker=}") ;;
    --command=*) command="${argument#--command=}" ;;
    --*) ;;
    *) words+=("$argument") ;;
  esac
done

case "${words[*]}" in
  "compute tpus queued-resources list")
    [ -z "${FAKE_SILENT:-}" ] || exit 1
    state
    ;;
  "compute tpus queued-resources create "*)
    # The processes of a TPU that was taken end with it.
    for record in "$FAKE_CLOUD"/worker-*/poster_jax_run/pid; do
      [ -e "$record" ] || continue
      stat="/proc/$(cat "$record")/stat"
      [ ! -e "$stat" ] || kill -KILL -- "-$(cut -d ' ' -f 5 "$stat")"
    done
    rm -rf "$FAKE_CLOUD"/worker-*
    for ((i = 0; i < FAKE_WORKERS; i++)); do
      mkdir -p "$FAKE_CLOUD/worker-$i/poster_jax_venv/bin"
      cp "$FAKE_CLOUD/python" "$FAKE_CLOUD/worker-$i/poster_jax_venv/bin/python"
    done
    echo "${FAKE_REQUEST:-ACTIVE}" >"$FAKE_CLOUD/state"
    ;;
  "compute tpus queued-resources delete "*) rm "$FAKE_CLOUD/state" ;;
  "compute tpus tpu-vm list") [ -z "$(state)" ] || echo READY ;;
  "compute tpus tpu-vm describe "*) for ((i = 0; i < FAKE_WORKERS; i++)); do printf '10.0.0.%s ' "$i"; done ;;
  "compute tpus tpu-vm scp "*)
    for i in "${workers[@]}"; do cp "${words[4]}" "$FAKE_CLOUD/worker-$i/${words[5]#*:}"; done
    ;;
  "compute tpus tpu-vm ssh "*)
    [ "$(state)" = ACTIVE ] || exit 255
    set -m
    worst=0
    for i in "${workers[@]}"; do
      (
        cd "$FAKE_CLOUD/worker-$i"
        HOME="$PWD" WORKER="$i" exec bash -c "$command"
      ) &
      while kill -0 $! 2>/dev/null; do
        [ "$(state)" = ACTIVE ] || { kill -KILL -- "-$!"; exit 255; }
        sleep 0.1
      done
      wait $! || worst=$?
    done
    exit "$worst"
    ;;
  "storage cp "*) ;;
  *)
    echo "fake gcloud does not know: ${words[*]}" >&2
    exit 1
    ;;
esac
