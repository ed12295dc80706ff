"""Your own posters: a CSV of pictures and labels, or a folder for each label; nothing else needs to be said.

    python -m poster_jax.main --config=configs/own_posters.py --config.data.csv=FILE      # columns path and genres
    poster-jax train own_posters --config.data.dir=FOLDER                                 # FOLDER/Drama/1.jpg

All labels with at least 20 pictures (`--config.data.min_movies`), no balancing, movies and duplicates on one side of the
split. One label a picture: a softmax and a confusion matrix; several: a yes or no for each. It starts from the MobileNetV2 that
comes with the package, trained on other posters: first a head on its frozen features, then all weights.
`--config.model.weights=keras:FILE` starts from another.

Arguments, after a colon: `quick` (stops after the head), `small` (a small CNN from drawn weights, which needs no weights file),
`smoke` (seconds on a CPU).
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, quick=False, small=False, smoke=False)
    config = config_lib.base("cnn" if chosen.small else "mobilenet_v2")
    config.data.variant = "own"
    config.data.encoding = config.loss.name = "auto"
    config.data.num_genres, config.data.genre_rank = 0, "any"
    config.data.min_movies = 20
    config.data.balance = "none"
    config.train.augment.flip = True
    config.train.augment.shift = 0.08
    config.train.augment.zoom = 0.2
    if chosen.small:
        config.optim.learning_rate = 3e-4
        config.train.num_epochs = 20.0
        return _tiny(config) if chosen.smoke else config
    config.protocol = "transfer"
    config.model.weights = "released:mobilenet_v2"
    config.data.image_size = (224, 160)
    config.model.pooling = "avg"
    config.model.style_from = "block_0"
    config.model.dropout = 0.5
    config.transfer.learning_rates = (1e-4, 1e-3)
    config.transfer.head_epochs = 20.0
    config.transfer.tune = not chosen.quick
    config.optim.name, config.optim.weight_decay = "adamw", 0.05
    config.optim.learning_rate, config.optim.schedule = 2e-4, "cosine"
    config.optim.head_factor = 0.1
    config.train.num_epochs = 8.0
    config.eval.mirror = True
    return _tiny(config) if chosen.smoke else config


def _tiny(config: config_lib.Config) -> config_lib.Config:
    min_movies = config.data.min_movies
    config = config_lib.make_smoke(config)
    config.data.min_movies = min(min_movies, 4)
    return config
