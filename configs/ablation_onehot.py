"""The changes between the paper's searched CNN and its one-hot CNN, made one at a time: 12 cells in one table.

{Table 2, Table 6 network} x {softmax on integers, softmax on one-hot, sigmoid on one-hot} x {dropout kept, removed}, all on the
same rows: a movie's first-listed genre, drawn equal (Table 5 read literally), so that one-hot is another form of one label.

    python -m poster_jax.main --config=configs/ablation_onehot.py
    python -m poster_jax.main --config=configs/ablation_onehot.py:seeds,rates --config.data.variant=kaggle --config.data.dir=DIR

The Table 2 network is set 5 of the paper's Table 3 (12 and 31 filters, 81 units, dropout 0.39). Every cell has Table 6's rate
of 1e-4 and the search's 15 epochs, of which validation chooses the best. `--plan` estimates the time.

Another grid: `--config.ablation.axes='(("rate", "optim.learning_rate", (1e-4, 1e-3)), ("k", "train.batch_size", (8, 64)))'`.
An axis is (name, key, values), or (name, keys, ((label, value per key), ...)) where several keys change together.

Arguments, after a colon: `rates` (1e-4, 1e-3, 1e-2 as a further axis: the span of the paper's search), `augment` (with and
without augmentation, a further axis), `seeds` (three of them), `smoke` (a minute on a CPU).
"""

from poster_jax import config as config_lib

TABLE_2_BLOCKS = ((12, 3, 2, False, 0.0), (31, 3, 2, False, 0.0))
TABLE_2_DENSE = ((81, False, 0.39),)
LABELS = (
    ("softmax integers", "first", "softmax"),
    ("softmax one-hot", "one_hot", "softmax"),
    ("sigmoid one-hot", "one_hot", "sigmoid"),
)
# Flip, shift, zoom, brightness, contrast, saturation.
AUGMENT_KEYS = tuple(f"train.augment.{name}" for name in ("flip", "shift", "zoom", "brightness", "contrast", "saturation"))
AUGMENTED = (True, 0.08, 0.2, 0.1, 0.1, 0.1)


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, rates=False, augment=False, seeds=False, smoke=False)
    config = config_lib.base()
    config.protocol = "ablation"
    config.num_seeds = 3 if chosen.seeds else 1
    config.data.encoding = "first"
    config.loss.name = "softmax"
    config.train.num_epochs = 15.0
    # Colour alone is the same in every cell: configs/cnn_onehot.py:strict has it.
    config.eval.baselines = False
    networks = (
        ("table 2", TABLE_2_BLOCKS, TABLE_2_DENSE),
        ("table 6", config_lib.TABLE_6_BLOCKS, config_lib.TABLE_6_DENSE),
    )
    if chosen.smoke:
        config = config_lib.make_smoke(config)
        config.train.num_epochs = 1.0
        networks = tuple(
            (label, config_lib.narrow(blocks, 4), config_lib.narrow(dense, 8)) for label, blocks, dense in networks
        )
    axes = (
        ("network", ("model.blocks", "model.dense"), networks),
        ("labels", ("data.encoding", "loss.name"), LABELS),
        ("dropout", ("model.blocks.dropout", "model.dense.dropout"), (("kept",), ("removed", 0.0, 0.0))),
    )
    if chosen.rates:
        axes += (("rate", "optim.learning_rate", (1e-4, 1e-3, 1e-2)),)
    if chosen.augment:
        axes += (("augment", AUGMENT_KEYS, (("no",), ("yes", *AUGMENTED))),)
    config.ablation.axes = axes
    return config
