"""`poster-jax COMMAND ...`, the same as `python -m poster_jax COMMAND ...`: every command of the project under one name.

    poster-jax train cnn_onehot:smoke                 trains from a config, as --config=configs/cnn_onehot.py:smoke
    poster-jax train cnn_onehot --config.seed=1 --workdir=runs/one
    poster-jax predict runs/one poster.jpg

`poster-jax COMMAND --help` tells the options of each, `poster-jax --version` the version that is installed. A config is the
name of one that comes with the project (`configs` lists them) or a file. Exit codes are those of the command.
"""

import importlib
import sys
from collections.abc import Sequence

from poster_jax import cli, errors

# {command: (the module whose main runs, what it does)}.
COMMANDS = {
    "train": ("main", "run a config: train, measure, compare with floors"),
    "plan": ("main", "the data: copies, leaks, floors; what a config would do and how long it takes"),
    "report": ("report.__main__", "one offline page of finished runs"),
    "predict": ("predict", "genres of pictures, by a finished run"),
    "demo": ("demo", "a page on this machine where a poster is dropped and judged"),
    "features": ("features", "what a run's body makes of its posters, as a file of numbers"),
    "score": ("score", "anybody's predictions in our table: floors, chance, intervals"),
    "suspects": ("suspects", "labels that the pictures contradict: perhaps wrong, perhaps missing"),
    "compare": ("compare", "which run is better? a paired bootstrap"),
    "export": ("export.__main__", "a finished run as a folder that needs no poster_jax"),
    "convert": ("models.convert", "pretrained weights of Keras or torchvision as a file of ours"),
    "download": ("data.download.__main__", "the posters of a CSV of addresses"),
    "bench": ("bench.__main__", "images per second beside the floor and a peer"),
    "configs": ("", "the configs that come with the project"),
    "keys": ("", "config keys with default and comment; words choose among them"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 2 for a command that does not exist."""
    return cli.run_command(_run, argv)


def usage() -> str:
    """The commands, one a line."""
    lines = [f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join([(__doc__ or "").rstrip(), "", "commands:", *lines])


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv == ["--version"]:
        print(f"poster_jax {cli.version_of('poster_jax')}")
        return 0
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        raise errors.UserError(f"{name!r} is no command: take one of {', '.join(COMMANDS)}; see poster-jax --help.")
    if name in ("configs", "keys"):
        return _list(name, rest)
    if name in ("train", "plan"):
        rest = _as_main(name, rest)
    from poster_jax.runtime import alive

    with alive.doing(f"loading {name}"):
        module = importlib.import_module(f"poster_jax.{COMMANDS[name][0]}")
    return module.main(rest)


def _as_main(name: str, rest: list[str]) -> list[str]:
    """`train CONFIG ...` as the arguments of `poster_jax.main`."""
    plan = ["--plan"] if name == "plan" else []
    if rest and not rest[0].startswith("-"):
        return [f"--config={rest[0]}", *rest[1:], *plan]
    if not rest:
        raise errors.UserError(f"poster-jax {name} needs a config: name one of `poster-jax configs`, as cnn_onehot:smoke.")
    return [*rest, *plan]


def _list(name: str, rest: list[str]) -> int:
    from poster_jax.config import listing

    parser = cli.Parser(f"poster-jax {name}", COMMANDS[name][1])
    if name == "keys":
        parser.add_argument("words", nargs="*", metavar="WORD", help="parts of the key or its comment, all of which it has")
    flags = parser.parse_args(rest)
    print("\n".join(listing.key_lines(flags.words) if name == "keys" else listing.config_lines()))
    return 0


def script() -> int:
    """The installed command: training starts again with huge pages, as `python -m poster_jax.main` does."""
    if sys.argv[1:2] == ["train"]:
        from poster_jax.runtime import hugepages

        hugepages.restart_with_huge_pages()
    return main()


if __name__ == "__main__":
    sys.exit(script())
