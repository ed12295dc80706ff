"""The paper's one-hot CNN (section III-C, Table 6 and Figure 11): six sigmoids, binary cross entropy, 4 epochs at 1e-4.

    python -m poster_jax.main --config=configs/cnn_onehot.py
    python -m poster_jax.main --config=configs/cnn_onehot.py --config.data.variant=kaggle --config.data.dir=DIR

Arguments, after a colon: `no_conv_dropout` (Figure 12: the first dropout removed, 1e-4), `no_dropout` (all dropout removed,
1e-3), `strict` (Table 5 read literally: a single 1 per row, the first-listed genre), `smoke` (seconds on a CPU).

On two CPU cores, test part: synthetic posters 108 s, mean average precision 0.794 (constant answer 0.231), binary accuracy
0.865 (all zeros 0.769); 9,111 real posters 239 s, 0.489 (0.293) and 0.725 (0.707).
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, no_conv_dropout=False, no_dropout=False, strict=False, smoke=False)
    config = config_lib.base()
    if chosen.no_conv_dropout or chosen.no_dropout:
        config.model.blocks = tuple((*block[:-1], 0.0) for block in config.model.blocks)
    if chosen.no_dropout:
        config.model.dense = tuple((*layer[:-1], 0.0) for layer in config.model.dense)
        config.optim.learning_rate = 1e-3
    if chosen.strict:
        config.data.encoding = "first"
    return config_lib.make_smoke(config) if chosen.smoke else config
