"""The paper's one-hot CNN (section III-C, Table 6 and Figure 11): six sigmoids, binary cross entropy, 4 epochs at 1e-4.

    python -m poster_jax.main --config=configs/cnn_onehot.py
    python -m poster_jax.main --config=configs/cnn_onehot.py --config.data.variant=kaggle --config.data.dir=DIR

Arguments, after a colon: `no_conv_dropout` (Figure 12: the first dropout removed, 1e-4), `no_dropout` (all dropout removed,
1e-3), `strict` (Table 5 literally: a single 1 per row, the first-listed genre), `paper_steps` (its 4 epochs of 449 steps,
however many posters there are), `paper_validation` (on 20 batches, as in Table 1), `smoke` (seconds on a CPU).
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    known = ("no_conv_dropout", "no_dropout", "strict", "paper_steps", "paper_validation", "smoke")
    chosen = config_lib.parse_arg(arg, **dict.fromkeys(known, False))
    config = config_lib.base()
    if chosen.no_conv_dropout or chosen.no_dropout:
        config.model.blocks = tuple((*block[:-1], 0.0) for block in config.model.blocks)
    if chosen.no_dropout:
        config.model.dense = tuple((*layer[:-1], 0.0) for layer in config.model.dense)
        config.optim.learning_rate = 1e-3
    if chosen.strict:
        config.data.encoding = "first"
    if chosen.paper_steps:
        config_lib.set_steps(config, num_steps=4 * 449, every=449)  # Table 1
    if chosen.paper_validation:
        config.eval.validation_steps = 20
    return config_lib.make_smoke(config) if chosen.smoke else config
