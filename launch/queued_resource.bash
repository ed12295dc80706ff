# shellcheck shell=bash
# The TPU of tpu_vm.sh: asking for it, its state, asking again. Reads NAME, ZONE, PROJECT, ACCELERATOR, RUNTIME, SPOT, POLL_SECS.
set -euo pipefail
exec 3>&1 # what a command says, also where its answer is caught

# The only place that speaks to Google Cloud. `gcloud compute tpus` is in maintenance: another interface goes in here.
cloud() {
  local command=(gcloud)
  if [ "$1" = storage ]; then
    command+=("$@")
  else
    command+=(compute tpus "$@" "--zone=$ZONE")
  fi
  if [ -n "${PROJECT:-}" ]; then
    command+=("--project=$PROJECT")
  fi
  run "${command[@]}" >&3 3>&-
}

# What a command of `cloud` answers; nothing in a dry run.
ask() {
  if dry; then
    cloud "$@"
  else
    cloud "$@" 3>&1
  fi
}

# The state of the request (ACTIVE, SUSPENDED, ...), NONE where there is none. `list` tells nothing there from no answer.
request_state() {
  local state
  state="$(ask queued-resources list "--filter=name~\"(^|/)$NAME\$\"" "--format=value(state.state)")" || return 1
  echo "${state:-NONE}"
}

# The state of the node (READY, PREEMPTED, ...), and nothing where there is none.
node_state() { ask tpu-vm list "--filter=name~\"(^|/)$NAME\$\"" "--format=value(state)"; }

# True when Google has taken the TPU away; false when that cannot be told, and when somebody has deleted it.
was_taken() {
  case "$(request_state || true)" in
    SUSPENDING | SUSPENDED | FAILED) return 0 ;;
    ACTIVE) ;;
    *) return 1 ;;
  esac
  case "$(node_state || true)" in
    PREEMPTED | TERMINATED | STOPPING | STOPPED) return 0 ;;
    *) return 1 ;;
  esac
}

request() {
  [ -n "${ACCELERATOR:-}" ] || mistake "ACCELERATOR= is needed, as v4-8; see --help."
  [ -n "${RUNTIME:-}" ] || mistake "RUNTIME= is needed, as tpu-ubuntu2204-base; see --help."
  cloud queued-resources create "$NAME" "--node-id=$NAME" "--accelerator-type=$ACCELERATOR" \
    "--runtime-version=$RUNTIME" ${SPOT:+--spot}
}

remove() { cloud queued-resources delete "$NAME" --force --quiet; }

# Returns when the TPU is there; asks for it where it is not, and again where it was taken.
create() {
  local state requested="" said=""
  while state="$(request_state)"; do
    case "$state" in
      NONE)
        request || return 1
        requested=1
        ! dry || return 0
        ;;
      ACTIVE)
        was_taken || return 0
        remove || return 1
        ;;
      SUSPENDED) remove || return 1 ;;
      FAILED)
        if [ -n "$requested" ]; then
          echo "the request failed: gcloud compute tpus queued-resources describe $NAME --zone=$ZONE says why." >&2
          return 1
        fi
        remove || return 1
        ;;
      *)
        [ "$state" = "$said" ] || echo "$NAME: $state"
        said="$state"
        sleep "$POLL_SECS"
        ;;
    esac
  done
  echo "gcloud gave no answer about $NAME." >&2
  return 1
}
