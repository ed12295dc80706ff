"""Pretrained bodies from files of Keras and torch, or from our own format; no code in a file is ever run.

`python -m poster_jax.models.convert FILE OUT` writes our format: one .npz of flat arrays and a JSON entry with what the weights
expect and where they came from, so that a machine needs neither h5py, Keras nor torch. Arrays are found by name and every one
is accounted for. Of Keras's configs only names and numbers are read, and pickles by torch's `weights_only` alone.
"""

import pathlib
import sys
from collections.abc import Sequence

from poster_jax import cli, errors
from poster_jax.models import layers, pretrained, weight_files


def main(argv: Sequence[str] | None = None) -> int:
    """Converts one file and returns the exit code: 0, or 2 with one sentence and nothing written."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.models.convert", __doc__)
    parser.add_argument("file", metavar="FILE", help="a weights file, or a value of config.model.weights as keras:imagenet")
    parser.add_argument("out", metavar="OUT", type=pathlib.Path, help="the file to write, as body.npz")
    flags = parser.parse_args(argv)
    weights = flags.file
    if weights.partition(":")[0] not in (*weight_files.ORIGINS, weight_files.OURS):
        weights = f"{weight_files.find_source(pathlib.Path(weights).expanduser())}:{weights}"
    if flags.out.exists():
        raise errors.UserError(f"{flags.out} exists already: remove it or name another file.")
    loaded = weight_files.load(weights)
    pretrained.save(flags.out, loaded)
    print(f"{flags.out}: {layers.count_values(loaded.variables):,} values, {loaded.fields()}, {loaded.provenance}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
