"""Joining the other processes of a run, and leaving them."""

import collections
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import jax

from poster_jax import errors
from poster_jax.runtime import multihost

# JAX reads the first of them itself; a count and a number it does not read from the environment.
ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "POSTER_JAX_NUM_PROCESSES", "POSTER_JAX_PROCESS_ID"
# How long a process waits for the others at its start and at its end, and how long process 0 outlives a failure.
START_SECS, END_SECS, LAST_SECS = 300, 30, 3


def initialize(start_secs: int = START_SECS) -> None:
    """Joins the processes of this run, before anything else is asked of JAX; does nothing for a process that is alone.

    Takes JAX_COORDINATOR_ADDRESS, POSTER_JAX_NUM_PROCESSES and POSTER_JAX_PROCESS_ID where they are set, and otherwise what
    JAX finds of TPU pods, SLURM, Open MPI and Kubernetes. Raises `UserError` for half of it, or for processes with different
    numbers of devices; ends the process with exit code 2 when the others have not come after `start_secs`.
    """
    given = parse_place(os.environ)
    cluster = "" if given else find_cluster(os.environ, getattr(jax.config, "jax_platforms", None) or "")
    if not given and not cluster:
        return
    if given and given["process_id"] == 0:
        _check_port(int(given["coordinator_address"].rpartition(":")[2]))
    where = f"come to {given['coordinator_address']}" if given else f"been found by {cluster}"
    told = f"not all processes have {where} after {start_secs} seconds: start every one, and see that they reach each other"
    # JAX ends the process with a stack trace when it has waited long enough: this is to come before that.
    alarm = threading.Timer(start_secs, _end, (f"poster_jax: {told}.\n", 2))
    alarm.daemon = True
    alarm.start()
    try:
        # JAX's own handler of SIGTERM would take the signal from `StopRequest`.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(**given, initialization_timeout=2 * start_secs + 60, shutdown_timeout_seconds=END_SECS)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        if "coordinator_address" in reason:
            if cluster == "TPU":
                return
            reason = f"JAX reads no address from {cluster}; Kubernetes needs the package kubernetes, Open MPI 5 mpi4py"
        raise errors.UserError(
            f"joining the other processes failed ({reason}): mend that, or set {ADDRESS}, {COUNT} and {NUMBER}."
        ) from error
    finally:
        alarm.cancel()
    per_process = collections.Counter(device.process_index for device in jax.devices())
    if len(set(per_process.values())) > 1:
        raise errors.UserError(f"the processes hold {sorted(per_process.values())} devices: give each as many as the others.")
    here = f"process {jax.process_index()} of {jax.process_count()}, {jax.local_device_count()} devices"
    print(f"{here} of {jax.device_count()}", file=sys.stderr, flush=True)


def parse_place(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` from the three variables; empty where none is set. Raises UserError."""
    text = {name: environment.get(name, "").strip() for name in (ADDRESS, COUNT, NUMBER)}
    if not any(text.values()):
        return {}
    missing = [name for name, value in text.items() if not value]
    if missing:
        present = " and ".join(name for name, value in text.items() if value)
        raise errors.UserError(f"{present} is set without {' and '.join(missing)}: set all three, or none.")
    host, colon, port = text[ADDRESS].rpartition(":")
    if not host or not colon or not port.isdigit() or not 0 < int(port) < 2**16:
        raise errors.UserError(f"{ADDRESS}={text[ADDRESS]} is not an address: write HOST:PORT, as 10.0.0.1:12345.")
    if not text[COUNT].isdigit() or not text[NUMBER].isdigit() or not int(text[NUMBER]) < int(text[COUNT]):
        raise errors.UserError(
            f"{COUNT}={text[COUNT]} and {NUMBER}={text[NUMBER]} do not fit: number N processes from 0 to N - 1."
        )
    return {
        "coordinator_address": text[ADDRESS],
        "num_processes": int(text[COUNT]),
        "process_id": int(text[NUMBER]),
        "cluster_detection_method": "deactivate",
    }


def _check_port(port: int) -> None:
    """Raises `UserError` for a port that another program has: JAX would end without a word, or share it."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise errors.UserError(
            f"port {port} of {ADDRESS} cannot be opened by process 0 ({reason}): choose another one for all processes."
        ) from error


def find_cluster(environment: Mapping[str, str], platforms: str) -> str:
    """What started this process as one of several, as far as JAX knows it; empty where it is alone.

    JAX takes a shell inside a SLURM job, and every pod of Kubernetes, for one of several; these are not.

    Args:
        platforms: JAX's setting, which has `tpu` in it on a TPU VM.
    """
    if all(environment.get(f"SLURM_{name}") for name in ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")):
        return "SLURM" if environment["SLURM_NTASKS"] != "1" else ""
    if environment.get("OMPI_COMM_WORLD_SIZE"):
        return "Open MPI" if environment["OMPI_COMM_WORLD_SIZE"] != "1" else ""
    if "tpu" in platforms.split(","):
        return "TPU"
    return "Kubernetes" if environment.get("KUBERNETES_SERVICE_HOST") and environment.get("JOB_COMPLETION_INDEX") else ""


def leave(code: int) -> None:
    """Ends a process of several that has failed, without the others, which may be waiting for it; returns where it is alone.

    Process 0 goes last, because the others fall with it: those that failed as it did have ended with a code of their own.
    """
    if multihost.count() > 1:
        time.sleep(LAST_SECS if multihost.is_main() else 0)
        _end("", code)


def _end(said: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(said)
    sys.stderr.flush()
    os._exit(code)
