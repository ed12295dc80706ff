#!/usr/bin/env bash
# Trains on a Cloud TPU that is asked for as a queued resource. Every action may be repeated.
#
#   bash launch/tpu_vm.sh create             asks for the TPU and waits until it is there
#   bash launch/tpu_vm.sh sync               copies this checkout to every worker, without what git ignores
#   bash launch/tpu_vm.sh setup              sync, then Python and packages on every worker
#   bash launch/tpu_vm.sh run --config=configs/cnn_onehot.py --workdir=gs://BUCKET/RUN [--config.KEY=VALUE ...]
#   bash launch/tpu_vm.sh status             the TPU's state, and what each worker does
#   bash launch/tpu_vm.sh logs [LINES]       the end of each worker's log
#   bash launch/tpu_vm.sh stop               SIGTERM to the run on every worker, which saves
#   bash launch/tpu_vm.sh fetch WORKDIR [FOLDER]   copies a workdir, gs:// or on worker 0, into FOLDER (runs)
#   bash launch/tpu_vm.sh delete             gives the TPU back
#
# `run` does create and setup first, and goes on until the run has finished: a spot TPU that was taken is asked for
# again and resumes from the workdir. When one worker fails, the others are stopped. Ctrl-C and SIGTERM stop the run, which
# saves; a lost connection does not, and `run` again joins it. Each worker's log is in LOGS/worker-I.log as well.
# Exit codes of `run`: 0 finished, 2 a mistake in what was asked, 75 stopped with the state saved, 1 a worker failed.
#
# ZONE=us-central2-b            needed
# ACCELERATOR=v4-8              needed to create
# RUNTIME=tpu-ubuntu2204-base   needed to create: the image that belongs to the accelerator
# SPOT=1                        cheaper, and may be taken at any moment
# NAME=poster-jax               of the queued resource and of its node
# PROJECT=                      gcloud's own when not given
# EXTRAS=tpu,gcs                extras of pyproject.toml to install
# LOGS=runs/tpu/NAME            where the logs go
# POLL_SECS=30                  between two looks at a state
# MAX_RESTARTS=100              how often a run that makes no end is started again
# DRY_RUN=1                     prints the commands and runs none, as if there was no TPU yet
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/say.bash
. launch/say.bash
# shellcheck source=launch/queued_resource.bash
. launch/queued_resource.bash

NAME="${NAME:-poster-jax}"
LOGS="${LOGS:-runs/tpu/$NAME}"
POLL_SECS="${POLL_SECS:-30}"
MAX_RESTARTS="${MAX_RESTARTS:-100}"
pids=() # of the connections to the workers
workers=0
HERE="cd poster_jax && bash launch/worker.sh" # on a worker

# The words of a command, quoted for the shell of a worker.
quoted() {
  if [ $# -gt 0 ]; then
    printf ' %q' "$@"
  fi
}

# Runs a command line on worker $1, or on `all`.
on_worker() { cloud tpu-vm ssh "$NAME" "--worker=$1" "--command=$2"; }

sync() {
  local archive="$LOGS/poster_jax.tgz" file
  if dry; then
    echo "git ls-files --cached --others --exclude-standard | tar -czf $(say "$archive") -T -"
  else
    mkdir -p "$LOGS"
    # git also lists tracked files that are gone.
    git ls-files -z --cached --others --exclude-standard \
      | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done \
      | tar -czf "$archive" --null -T - || return 1
  fi
  cloud tpu-vm scp "$archive" "$NAME:poster_jax.tgz" --worker=all || return 1
  on_worker all "rm -rf poster_jax.new && mkdir -p poster_jax.new poster_jax_runs && tar -xzf poster_jax.tgz -C poster_jax.new\
 && ln -s ../poster_jax_runs poster_jax.new/runs && rm -rf poster_jax && mv poster_jax.new poster_jax"
}

setup() {
  sync || return 1
  on_worker all "$HERE setup$(quoted "${EXTRAS:-tpu,gcs}")"
}

# Sets `workers`.
count_workers() {
  local addresses
  addresses="$(ask tpu-vm describe "$NAME" "--format=value[delimiter=' '](networkEndpoints[].ipAddress)")" || return 1
  read -r -a addresses <<<"${addresses:-one}"
  workers=${#addresses[@]}
}

stop_run() { on_worker all "$HERE stop$(quoted "$@")"; }

# Joins the run on worker $1; its log goes to a file, whose last line tells how the run has ended.
follow() { on_worker "$1" "$HERE follow" 3>"$LOGS/worker-$1.log" 2>"$LOGS/worker-$1.ssh.log" </dev/null; }

# Prints the exit code of worker $1, or nothing when the connection ended before the run.
exit_code() { tail -n 1 "$LOGS/worker-$1.log" | sed -n 's/^worker\.sh: code //p'; }

following="" stopped=""
on_signal() {
  if [ -z "$following" ]; then
    echo "stopped before the run was joined; the TPU may be there, see status and delete." >&2
    exit 75
  fi
  stopped=1
  echo "stopping: the workers save, which may take a while" >&2
  stop_run || true
}

# Stops everybody because worker $1 has ended with code $2. Returns as watch_workers does.
give_up() {
  tail -n 3 "$LOGS/worker-$1.log" >&2
  echo "worker $1 of $workers failed with code $2, so the others are stopped; its log: $LOGS/worker-$1.log" >&2
  stop_run 20 || true
  [ "$2" != 2 ] || return 2
  # Workers that miss one another are the first that is seen of a TPU that is being taken.
  sleep "$POLL_SECS" || true
  ! was_taken || return 3
  return 1
}

# Follows all workers until they have ended. Returns 0, 2, 75 or 1 as `run` does, and 3 when the TPU was taken.
watch_workers() {
  local i code lost=0 unfinished="" codes=() left=$workers
  pids=()
  # Each connection gets a process group: Ctrl-C does not reach it, and it is ended whole.
  set -m
  for ((i = 0; i < workers; i++)); do
    follow "$i" &
    pids+=("$!") codes+=("")
  done
  while [ "$left" -gt 0 ]; do
    sleep 0.5 || true
    left=0
    for ((i = 0; i < workers; i++)); do
      [ -z "${codes[$i]}" ] || continue
      left=$((left + 1))
      ! kill -0 "${pids[$i]}" 2>/dev/null || continue
      code="$(exit_code "$i")"
      case "$code" in
        0) codes[i]=0 ;;
        75)
          codes[i]=75
          [ -n "$unfinished" ] || stop_run || true
          unfinished=1
          ;;
        "")
          sleep "$POLL_SECS" || true
          ! was_taken || return 3
          lost=$((lost + 1))
          if [ "$lost" -gt 10 ]; then
            give_up "$i" "that is not known: the connection is lost" || return $?
          fi
          echo "the connection to worker $i was lost: joining again" >&2
          follow "$i" &
          pids[i]=$!
          ;;
        *) give_up "$i" "$code" || return $? ;;
      esac
    done
  done
  [ -z "$unfinished" ] || return 75
}

hang_up() {
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do
    kill -- "-$pid" 2>/dev/null || true
  done
}

# Refuses arguments whose workdir is not in a bucket, because of $1.
need_bucket() {
  local argument
  for argument in "${@:2}"; do
    [[ "$argument" != --workdir=gs://* ]] || return 0
  done
  mistake "$1: give --workdir=gs://BUCKET/RUN."
}

# Starts the run with the given arguments on every worker, or joins it where it runs.
start_run() {
  count_workers || return 1
  if [ "$workers" -gt 1 ]; then
    need_bucket "$workers workers share no disk" "$@"
  fi
  case "$(ask tpu-vm ssh "$NAME" --worker=0 "--command=$HERE status" 2>/dev/null)" in
    running*) echo "joining the run that is there" ;;
    *)
      setup || return 1
      on_worker all "$HERE start$(quoted "$@")"
      ;;
  esac
}

# One TPU's life. Returns as watch_workers does.
attempt() {
  create || return 1
  if ! start_run "$@"; then
    ! was_taken || return 3
    echo "the workers could not be set up." >&2
    return 1
  fi
  if dry; then
    on_worker 0 "$HERE follow"
    return 0
  fi
  following=1
  local code=0
  watch_workers || code=$?
  following=""
  hang_up
  return "$code"
}

run_to_end() {
  local restarts code i
  [ $# -gt 0 ] || usage
  [ -z "${SPOT:-}" ] || need_bucket "a spot TPU takes its disk along when it goes" "$@"
  run mkdir -p "$LOGS"
  trap on_signal TERM INT
  trap hang_up EXIT
  for ((restarts = 0; restarts <= MAX_RESTARTS; restarts++)); do
    code=0
    attempt "$@" || code=$?
    if [ "$code" -eq 0 ]; then
      dry || echo "finished; the logs: $LOGS"
      return 0
    elif [ "$code" -ne 3 ] && [ "$code" -ne 75 ]; then
      return "$code"
    elif [ -n "$stopped" ]; then
      echo "stopped, and what was done is saved: run the same command to go on; logs: $LOGS" >&2
      return 75
    fi
    echo "not finished: going on after restart $restarts" >&2
    for ((i = 0; i < workers; i++)); do
      [ ! -e "$LOGS/worker-$i.log" ] || mv "$LOGS/worker-$i.log" "$LOGS/worker-$i.before-$((restarts + 1)).log"
    done
  done
  echo "not finished after $MAX_RESTARTS restarts (MAX_RESTARTS); run the same command to go on." >&2
  return 75
}

status() {
  local state
  state="$(request_state)"
  state+=", node: $(node_state)"
  dry || echo "$NAME: $state"
  [[ "$state" != ACTIVE* ]] || on_worker all "$HERE status"
}

logs() {
  local i
  count_workers
  for ((i = 0; i < workers; i++)); do
    dry || echo "== worker $i"
    on_worker "$i" "$HERE log$(quoted "$@")"
  done
}

fetch() {
  [ $# -gt 0 ] || mistake "fetch needs the workdir, as runs/cnn or gs://BUCKET/RUN."
  run mkdir -p "${2:-runs}"
  case "$1" in
    gs://*) cloud storage cp --recursive "$1" "${2:-runs}" ;;
    *) cloud tpu-vm scp --recurse "$NAME:poster_jax/$1" "${2:-runs}" --worker=0 ;;
  esac
}

delete() {
  local state
  state="$(request_state)"
  if [ "$state" = NONE ] && ! dry; then
    echo "$NAME is not there"
  else
    remove
  fi
}

action="${1:-}"
[ $# -eq 0 ] || shift
case "$action" in
  create | setup | sync | run | status | logs | stop | fetch | delete) ;;
  *) usage ;;
esac
[[ "$NAME" =~ ^[a-z][a-z0-9-]*$ ]] || mistake "NAME=$NAME is no name for a TPU: take small letters, digits and hyphens."
[ -n "${ZONE:-}" ] || mistake "ZONE= is needed, as us-central2-b; see --help."
case "$action" in
  run) run_to_end "$@" ;;
  stop) stop_run ;;
  *) "$action" "$@" ;;
esac
