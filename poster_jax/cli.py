"""What all commands share: one parser, their exit codes, and one sentence for a user's mistake."""

import argparse
import errno
import importlib.metadata
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from poster_jax import errors

# 75 is EX_TEMPFAIL of sysexits.h: not finished, the same command goes on.
EXIT_MISTAKE, EXIT_UNFINISHED = 2, 75
NOT_KNOWN = "not known"

# Errors of the machine or of where a file was to lie, not of our code.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EMFILE, errno.ENFILE)
REFUSALS += (errno.ENAMETOOLONG, errno.ELOOP)


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
    print_any_text()
    try:
        code = command(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except errors.UserError as error:
        print(one_line(f"poster_jax: {error}"), file=sys.stderr)
        return EXIT_MISTAKE
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        print(one_line(f"poster_jax: the memory of this machine is too small for this{reason}: ask for less."), file=sys.stderr)
        return EXIT_MISTAKE
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refusal = machine_refusal(error)
        if not refusal:
            raise
        print(one_line(f"poster_jax: {refusal}: make room, or name another place."), file=sys.stderr)
        return EXIT_MISTAKE
    return code


def machine_refusal(error: Exception) -> str:
    """The refusal of a full, read-only or forbidden disk, or of another limit of the machine, in one line; else "".

    TFDS and orbax wrap a full disk in errors of their own, which keep its text.
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return f"{error.strerror}: {os.fsdecode(error.filename) if error.filename else 'the disk'}"
    full = os.strerror(errno.ENOSPC)
    return full if full in str(error) else ""


def print_any_text() -> None:
    """Lets this process print what its terminal cannot show, as backslashes: names of files may be any bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def version_of(package: str) -> str:
    """The version of an installed package, without loading it; NOT_KNOWN for one that is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_KNOWN


def is_text(name: str) -> bool:
    """Whether a name from the command line is UTF-8, not other bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def one_line(text: str) -> str:
    """The text with its line ends and other control characters written as escapes, as `\\n`."""
    return "".join(letter if letter.isprintable() or letter == " " else ascii(letter)[1:-1] for letter in text)
