"""`report WORKDIR... [--out=FILE.html | --markdown]`, `report FOLDER --index` and `report explain-72 CSV`.

The first writes one HTML page that needs no network, and its figures as PNG in a folder beside it, or prints the tables of the
runs as Markdown; the second writes FOLDER/index.html, a line for every run in the folder; the third prints what "no" to every
genre scores under each reading of the labels. Exit codes: 0 done, 2 a mistake in what was asked, in one sentence.
"""

import pathlib
import sys
from collections.abc import Sequence

from poster_jax import cli, errors
from poster_jax.report import index, page
from poster_jax.report.tables import markdown
from poster_jax.runtime import storage

EXPLAIN = "explain-72"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    print(_explain(argv[1:]) if argv[:1] == [EXPLAIN] else _report(argv), end="")
    return 0


def _explain(argv: list[str]) -> str:
    from poster_jax.paper import label_floor  # with pandas, which a page does without

    parser = cli.Parser(f"python -m poster_jax.report {EXPLAIN}", label_floor.__doc__)
    parser.add_argument("csv", metavar="CSV", help="a CSV with a column Genre or genres, as Drama|Crime")
    parser.add_argument("--genres", default="", metavar="A,B,...", help="the genres to tell apart")
    parser.add_argument("--num_genres", type=int, default=6, help="without --genres: how many, by first-listed genre")
    flags = parser.parse_args(argv)
    genres = [name.strip() for name in flags.genres.split(",") if name.strip()]
    return label_floor.describe(pathlib.Path(flags.csv), genres=genres, num_genres=flags.num_genres)


def _report(argv: list[str]) -> str:
    parser = cli.Parser("python -m poster_jax.report", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folder of a finished run; several are put side by side")
    parser.add_argument(
        "--out", default="", metavar="FILE.html", help="the page; WORKDIR/report.html of the first when not given"
    )
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown instead, with what made each row")
    parser.add_argument("--index", action="store_true", help="write WORKDIR/index.html instead, of every run in that folder")
    flags = parser.parse_args(argv)
    workdirs = [storage.as_path(workdir) for workdir in flags.workdirs]
    if flags.index:
        return f"index: {_index(workdirs, alone=not (flags.markdown or flags.out))}\n"
    if flags.markdown and flags.out:
        raise errors.UserError("--markdown prints its tables and writes no page: leave --out away, or --markdown.")
    if flags.markdown:
        return markdown.text(workdirs)
    if storage.is_remote(workdirs[0]) and not flags.out:
        raise errors.UserError(f"the page of {workdirs[0]} is written to a disk: name it with --out=FILE.html.")
    page_path, figures = page.write(workdirs, pathlib.Path(flags.out) if flags.out else workdirs[0] / "report.html")
    return f"page: {page_path}\nfigures: {figures}\n"


def _index(folders: Sequence[pathlib.Path], *, alone: bool) -> pathlib.Path:
    if len(folders) > 1 or not alone:
        raise errors.UserError("--index takes one folder of runs and no other option: leave the rest away.")
    if storage.is_remote(folders[0]):
        raise errors.UserError(f"the index of {folders[0]} is written to a disk: copy the runs to one first.")
    return index.write(folders[0])


if __name__ == "__main__":
    sys.exit(main())
