"""`python -m poster_jax.main --config=FILE[:ARG] [--config.KEY=VALUE ...] [--workdir=DIR] [--plan] [--profile]`.

Exit codes: 0 finished, 2 a mistake in what was asked (one sentence), 75 stopped by a signal with the state saved: run again.
"""

import argparse
import importlib
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from poster_jax import cli, errors
from poster_jax import config as config_lib
from poster_jax.data import own
from poster_jax.runtime import alive, hugepages, multihost, storage
from poster_jax.workdir import run_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one config and returns the exit code."""
    cli.print_any_text()
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except errors.UserError as error:
        return _end(f"{error}", cli.EXIT_MISTAKE)
    except errors.Interrupted as error:
        message = f"stopped by {error}; what was done is saved: run the same command to go on."
        return _end(message, cli.EXIT_UNFINISHED, alone=error.alone)
    except Exception as error:
        refusal = cli.machine_refusal(error)
        if not refusal:
            raise
        return _end(
            f"{refusal}: make room, or name other folders with --workdir and --config.data.cache_dir.", cli.EXIT_MISTAKE
        )


def _end(message: str, code: int, alone: bool = True) -> int:
    """Prints the message and returns the code; with `alone` ends this process, as others of the run may not know of it."""
    name = "poster_jax" if multihost.is_main() else f"poster_jax, process {multihost.index()} of {multihost.count()}"
    print(cli.one_line(f"{name}: {message}"), file=sys.stderr)
    if alone and multihost.count() > 1:
        from poster_jax.runtime import distributed

        distributed.leave(code)
    return code


def _run(argv: list[str]) -> int:
    # TensorFlow and oneDNN speak of themselves when they load; errors are still raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    overrides = [argument for argument in argv if argument.startswith("--config.")]
    unset = next((at for at, argument in enumerate(argv) if argument in overrides and "=" not in argument), len(argv))
    config_lib.parse_overrides(argv[unset:])
    flags = _parse_flags([argument for argument in argv if not argument.startswith("--config.")])
    if not cli.is_text(flags.workdir):
        raise errors.UserError(f"--workdir={flags.workdir} is not UTF-8, which JSON and checkpoints need: name another.")
    pairs = config_lib.parse_overrides(overrides)
    config = config_lib.load(flags.config, pairs)
    default = pathlib.Path("runs") / pathlib.Path(flags.config.partition(":")[0]).stem
    workdir = storage.as_path(flags.workdir) if flags.workdir else default
    config = own.settle(config, [key for key, _ in pairs], run_folder.begun_config(workdir))

    # Imports wait for what needs them: a mistyped key is answered before jax loads, and no protocol loads another's modules.
    if flags.summary:
        from poster_jax.models import summary

        print(summary.describe(config))
        return 0
    if flags.plan:
        with alive.doing("loading the readers of tables and pictures"):
            from poster_jax.protocols import plan

        for line in plan.describe(config, flags.write_split):
            print(line, flush=True)
        return 0
    if flags.write_split:
        raise errors.UserError("--write-split writes the split of a plan: add --plan, or use poster-jax plan.")
    if flags.profile and config.protocol == "search":
        raise errors.UserError("--profile is of one network's steps, and a search trains many at once: leave it out.")
    with alive.doing("loading jax"):
        from poster_jax.runtime import compile_cache, devices, distributed, preemption, tracing
        from poster_jax.workdir import logbook, provenance

        # config.validate knows the names.
        protocol = importlib.import_module(f"poster_jax.protocols.{config.protocol}")
    logbook.Logbook.verbose = flags.verbose
    distributed.initialize()
    devices.require()
    with preemption.StopRequest().installed() as stop, multihost.only_main_prints(), compile_cache.for_this_process():
        recorded = provenance.recorded(workdir, shlex.join(["python", "-m", "poster_jax.main", *argv]))
        with recorded, tracing.asked(flags.profile, workdir):
            results = protocol.run(config, workdir, stop)
        from poster_jax.report import terminal

        print(terminal.text(results, verbose=flags.verbose))
        if flags.profile and not list(workdir.glob(f"**/{tracing.FOLDER}")):
            print("no profile was written: no network took a second step")
        print(_what_next(workdir, config.protocol, flags.verbose))
        multihost.wait()
    return 0


def _what_next(workdir: pathlib.Path, protocol: str, verbose: bool) -> str:
    command = "poster-jax" if pathlib.Path(sys.argv[0]).name == "poster-jax" else "python -m poster_jax"
    lines = [f"workdir: {workdir}", f"the page:      {command} report {workdir}"]
    if protocol in ("single", "transfer", "search"):
        run = workdir / "winner" if protocol == "search" else workdir
        lines.append(f"a poster:      {command} predict {run} POSTER.jpg")
    if not verbose and protocol in ("single", "transfer", "probe", "search"):
        lines.append("every metric:  the same command with --verbose")
    return "\n".join(lines)


def _parse_flags(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser("python -m poster_jax.main", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a config file, as configs/cnn_onehot.py:smoke")
    parser.add_argument("--workdir", default="", help="run folder; runs/<config file's name> when not given")
    parser.add_argument("--plan", action="store_true", help="print what would be done and how long it takes, and stop")
    parser.add_argument("--write-split", default="", metavar="FILE", help="with --plan: write which picture is in which part")
    parser.add_argument("--summary", action="store_true", help="print the network's layers and parameters, and stop")
    parser.add_argument("--verbose", action="store_true", help="print every metric, at each evaluation and at the end")
    parser.add_argument("--profile", action="store_true", help="trace ten train steps of the first network into its profile/")
    return parser.parse_args(argv)


if __name__ == "__main__":
    hugepages.restart_with_huge_pages()
    sys.exit(main())
