"""Features of posters, yours or a network's, judged as a network is: logistic regression and nearest neighbours on them.

    python -m poster_jax.main --config=configs/probe_features.py                       # of the released network, drawn posters
    poster-jax train probe_features --config.data.csv=FILE --config.data.features=FEATURES.npz

FEATURES is an npz, parquet or safetensors of `id` and `features`, several separated by commas, or a run or `released:NAME`,
whose body computes them. The penalty is chosen on validation; splits, floors, chance, intervals and the closing sentence are
those of every run. `poster-jax features` writes such a file, and poster_jax/data/README.md has a script for open_clip.

Arguments, after a colon: `smoke` (the released network's features of 180 small drawn posters; a minute on a CPU).
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, smoke=False)
    config = config_lib.base()
    config.protocol = "probe"
    config.data.encoding = config.loss.name = "auto"
    config.data.features = "released:mobilenet_v2"
    config.data.image_size = (256, 176)  # that of the released network
    if chosen.smoke:
        config = config_lib.make_smoke(config)
        config.data.image_size = (40, 32)  # the least that a body takes is 32
    return config
