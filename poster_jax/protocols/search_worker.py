"""A process that trains groups of a search for the run that started it, see `search.workers`.

    python -m poster_jax.protocols.search_worker WORKDIR BEGIN END TRIALS CORES

BEGIN and END are epochs, TRIALS and CORES numbers with commas. Snapshots and records go to the workdir, which that run has
locked; what it has decided is in chosen.json.
"""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, TextIO

from poster_jax import cli, errors

NEVER_SECS = threading.TIMEOUT_MAX


def main(argv: Sequence[str]) -> int:
    workdir, begin, end, trials, cores = argv
    # Before jax counts the cores for its threads.
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    # Lines of the run that started it go to stdout; this process has none of its own there.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    try:
        work(workdir, (int(begin), int(end)), [int(number) for number in trials.split(",")], told)
    except errors.UserError as error:
        tell(told, mistake=str(error))
        return cli.EXIT_MISTAKE
    except errors.Interrupted:
        return cli.EXIT_UNFINISHED
    return 0


def work(folder: str, epochs: tuple[int, int], trials: Sequence[int], told: TextIO) -> None:
    """Trains the groups whose numbers come, until stdin ends: then `Interrupted` is raised, with the state saved."""
    from poster_jax.protocols import search as protocol
    from poster_jax.protocols import search_rungs, stages
    from poster_jax.runtime import alive, compile_cache, preemption, storage
    from poster_jax.search import groups, snapshots
    from poster_jax.train.run import Run, make_cadence
    from poster_jax.workdir import run_folder

    workdir = storage.as_path(folder)
    alive.FIRST_SECS = NEVER_SECS  # the run that started it gives the signs of life

    def show(group: groups.Group, records: Sequence[snapshots.Record]) -> None:
        tell(told, names=group.names(), text=protocol.describe_epoch(config, records))

    with preemption.StopRequest().installed() as stop, compile_cache.for_this_process():
        numbers = listen()
        config = run_folder.load_config(workdir)
        loader = stages.open_loader(config, workdir)
        cadence = make_cadence(config, len(loader.rows.parts["train"]))
        search = protocol.recall(Run(config, config.seed, workdir, loader, cadence, stop), show)
        rung = search_rungs.make_rung(search, *epochs)
        made = list(search_rungs.make_groups(search, [search.trials[number] for number in trials]))
        while True:
            number = numbers.get()
            records = search_rungs.train_group(search, made[number], number, rung)
            if rung.is_last:
                search_rungs.save_records(search, records)
            tell(told, done=number)


def listen() -> queue.Queue[int]:
    """The numbers on stdin as they come; at its end this process gets SIGTERM."""
    numbers: queue.Queue[int] = queue.Queue()

    def read() -> None:
        rest = b""
        # Not through sys.stdin, whose lock a thread that waits there would hold when the process ends.
        while chunk := os.read(0, 4096):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                numbers.put(int(line))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    return numbers


def tell(told: TextIO, **message: Any) -> None:
    """One line to the run that started this process; where it has gone, stdin has ended too."""
    try:
        told.write(json.dumps(message) + "\n")
    except BrokenPipeError:
        raise errors.Interrupted("the end of the run that started it") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
