"""What all commands share: one parser, their exit codes, and one sentence for a user's mistake."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from poster_jax import errors

# 75 is EX_TEMPFAIL of sysexits.h: not finished, the same command goes on.
EXIT_MISTAKE, EXIT_UNFINISHED = 2, 75


class Parser(argparse.ArgumentParser):
    """Options in full only; raises UserError for a mistake instead of ending the process."""

    def __init__(self, prog: str, description: str | None, *, show_defaults: bool = False) -> None:
        formatter = argparse.ArgumentDefaultsHelpFormatter if show_defaults else argparse.HelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise errors.UserError(f"{message}; see {self.prog} --help.")


def run_command(command: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Runs `command` on `argv`, or on the process's arguments, and returns its exit code; 2 after a UserError, printed.

    A reader of the output that has seen enough, as `| head`, ends the command with 0.
    """
    try:
        code = command(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except errors.UserError as error:
        print(f"poster_jax: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
