"""`python -m poster_jax.features RUN --out=FILE [--config.data.KEY=VALUE ...]`: what a run's body makes of its posters.

RUN is a finished run of a pretrained network, or `released:NAME`. FILE gets an id, the pooled features of the last map (with
style where the run has it) and the part of every poster that the run uses: arrays id, features and part of an npz, a
safetensors or a parquet, by the suffix. With keys of `config.data` the posters are those, read as own_posters.py reads them.
The config probe_features.py trains on such files.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from poster_jax import cli
from poster_jax import config as config_lib
from poster_jax.data import feature_files, input_pipeline
from poster_jax.protocols import stages
from poster_jax.runtime import alive, sharding, storage
from poster_jax.train import features as features_lib


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.features", __doc__)
    parser.add_argument("run", metavar="RUN", help="a finished run of a pretrained network, or released:mobilenet_v2")
    parser.add_argument("--out", required=True, metavar="FILE", help="ends in .npz, .safetensors or .parquet")
    flags = parser.parse_args([argument for argument in argv if not argument.startswith("--config.")])
    overrides = config_lib.parse_overrides([argument for argument in argv if argument.startswith("--config.")])
    target, workdir = pathlib.Path(flags.out), storage.as_path(flags.run)
    feature_files.check_target(target)
    data = stages.find_data(workdir, flags.run, overrides)
    with alive.doing("opening the posters"):
        loader = input_pipeline.open_loader(data, sharding.make_shardings())
    rows = loader.rows
    print("\n".join(rows.describe()), flush=True)
    features = features_lib.of_run(workdir, loader, data.cache_dir)
    posters, first_rows = np.unique(rows.poster, return_index=True)
    parts = feature_files.part_names(rows.parts, rows.poster, posters)
    feature_files.write(target, rows.movie_id[first_rows], features.array, parts)
    print(f"{target}: {len(posters):,} posters, {features.array.shape[1]:,} features of {flags.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
