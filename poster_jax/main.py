"""`python -m poster_jax.main --config=FILE[:ARG] [--config.KEY=VALUE ...] [--workdir=DIR] [--plan]`.

Exit codes: 0 finished, 2 a mistake in what was asked (one sentence), 75 stopped by a signal with the state saved: run again.
"""

import argparse
import errno
import importlib
import os
import pathlib
import sys
from collections.abc import Sequence

from poster_jax import cli, errors
from poster_jax import config as config_lib
from poster_jax.runtime import hugepages, multihost, storage

# Errors of the machine, not of our code.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one config and returns the exit code."""
    cli.speak_any_name()
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except errors.UserError as error:
        return _end(f"{error}", cli.EXIT_MISTAKE)
    except errors.Interrupted as error:
        message = f"stopped by {error}; what was done is saved: run the same command to go on."
        return _end(message, cli.EXIT_UNFINISHED, alone=error.alone)
    except Exception as error:
        refusal = _machine_refusal(error)
        if not refusal:
            raise
        return _end(
            f"{refusal}; make room, or name other folders with --workdir and --config.data.cache_dir.", cli.EXIT_MISTAKE
        )


def _end(message: str, code: int, alone: bool = True) -> int:
    """Prints the message and returns the code; with `alone` ends this process, as others of the run may not know of it."""
    name = "poster_jax" if multihost.is_main() else f"poster_jax, process {multihost.index()} of {multihost.count()}"
    print(cli.one_line(f"{name}: {message}"), file=sys.stderr)
    if alone and multihost.count() > 1:
        from poster_jax.runtime import distributed

        distributed.leave(code)
    return code


def _machine_refusal(error: Exception) -> str:
    """The refusal of a full, read-only or forbidden disk, in one line; empty for every other error.

    TFDS and orbax wrap a full disk in errors of their own, which keep its text.
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return f"{error.strerror}: {error.filename or 'the disk'}"
    full = os.strerror(errno.ENOSPC)
    return full if full in str(error) else ""


def _run(argv: list[str]) -> int:
    # TensorFlow and oneDNN speak of themselves when they load; errors are still raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    overrides = [argument for argument in argv if argument.startswith("--config.")]
    unset = next((at for at, argument in enumerate(argv) if argument in overrides and "=" not in argument), len(argv))
    config_lib.parse_overrides(argv[unset:])
    flags = _parse_flags([argument for argument in argv if not argument.startswith("--config.")])
    config = config_lib.load(flags.config, config_lib.parse_overrides(overrides))
    if "auto" in (config.data.encoding, config.loss.name):
        from poster_jax.data import own

        config = own.settle(config)

    # Imports wait for what needs them: a mistyped key is answered before jax loads, and no protocol loads another's modules.
    if flags.summary:
        from poster_jax.models import summary

        print(summary.describe(config))
        return 0
    if flags.plan:
        from poster_jax.protocols import plan

        print(plan.describe(config))
        return 0
    from poster_jax.runtime import compile_cache, distributed, preemption
    from poster_jax.workdir import logbook, provenance

    logbook.Logbook.verbose = flags.verbose

    # config.validate knows the names.
    protocol = importlib.import_module(f"poster_jax.protocols.{config.protocol}")
    default = pathlib.Path("runs") / pathlib.Path(flags.config.partition(":")[0]).stem
    workdir = storage.as_path(flags.workdir) if flags.workdir else default
    distributed.initialize()
    with preemption.StopRequest().installed() as stop, multihost.only_main_prints(), compile_cache.for_this_process():
        with provenance.recorded(workdir):
            results = protocol.run(config, workdir, stop)
        from poster_jax.report import terminal

        print(terminal.text(results, verbose=flags.verbose))
        print(_what_next(workdir, config.protocol, flags.verbose))
        multihost.wait()
    return 0


def _what_next(workdir: pathlib.Path, protocol: str, verbose: bool) -> str:
    command = "poster-jax" if pathlib.Path(sys.argv[0]).name == "poster-jax" else "python -m poster_jax"
    lines = [f"workdir: {workdir}", f"the page:      {command} report {workdir}"]
    if protocol in ("single", "transfer", "search"):
        run = workdir / "winner" if protocol == "search" else workdir
        lines.append(f"a poster:      {command} predict {run} POSTER.jpg")
    if not verbose and protocol in ("single", "transfer", "search"):
        lines.append("every metric:  the same command with --verbose")
    return "\n".join(lines)


def _parse_flags(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser("python -m poster_jax.main", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a config file, as configs/cnn_onehot.py:smoke")
    parser.add_argument("--workdir", default="", help="run folder; runs/<config file's name> when not given")
    parser.add_argument("--plan", action="store_true", help="print what would be done and how long it takes, and stop")
    parser.add_argument("--summary", action="store_true", help="print the network's layers and parameters, and stop")
    parser.add_argument("--verbose", action="store_true", help="print every metric, at each evaluation and at the end")
    return parser.parse_args(argv)


if __name__ == "__main__":
    hugepages.restart_with_huge_pages()
    sys.exit(main())
