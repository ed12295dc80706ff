"""Every experiment of the paper, in order, and a table of its claims with the measurement for each.

    python -m poster_jax.main --config=configs/reproduce.py:smoke
    python -m poster_jax.main --config=configs/reproduce.py --config.data.variant=kaggle --config.data.dir=DIR \\
        --config.model.weights=keras:FILE --config.reproduce.catalog=CSV

The one-hot networks take the paper's 4 epochs of 449 steps, however many posters there are. Finished experiments are not
repeated. `python -m poster_jax.report runs/reproduce` writes the page, `--markdown` prints its tables.

Arguments, after a colon: `quick` (200 posters a genre, 3 epochs, one seed of the ablation; all trials and folds, and the seeds
of everything else, are kept: an hour or two on two CPU cores, and no verdict on what needs the paper's length), `smoke`
(minutes on a CPU, synthetic posters, no pretrained weights, no verdicts).
"""

from poster_jax import config as config_lib

BOTH_PARTS = "eval.parts=('train', 'validation')"
SEEDS = "num_seeds=3"
CURVES = (BOTH_PARTS, "train.log_accuracy=True")
LONG_STEPS = 4 * 1796
AUGMENTED = tuple(
    f"train.augment.{name}={value}"
    for name, value in (
        ("flip", True),
        ("shift", 0.08),
        ("zoom", 0.2),
        ("brightness", 0.1),
        ("contrast", 0.1),
        ("saturation", 0.1),
    )
)
# Steps are counted in epochs again.
IN_EPOCHS = ("train.num_steps=0", "eval.every_steps=0", "eval.every_epochs=1.0", "checkpoint.every_steps=0")
IN_EPOCHS += ("checkpoint.every_epochs=1.0",)


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, quick=False, smoke=False)
    config = config_lib.base("mobilenet_v2")
    config.protocol = "reproduce"
    one_hot, plain = "paper_steps", "no_dropout,paper_steps"
    longer = "train.num_epochs=8.0" if chosen.smoke else f"train.num_steps={LONG_STEPS}"
    experiments = (
        ("transfer", "transfer_mobilenet", "seeds", ()),
        ("transfer_drawn", "transfer_mobilenet", "seeds", ("model.weights=", "transfer.input_ranges=((0.0, 1.0),)")),
        ("search", "search_cnn", "", ()),
        ("search_batch_norm", "search_cnn", "batch_norm", ()),
        ("rates", "search_cnn", "rates", ()),
        ("table4", "search_cnn", "table4", ()),
        # Dropout x rate.
        ("one_hot", "cnn_onehot", one_hot, (SEEDS, *CURVES)),
        ("one_hot_fast", "cnn_onehot", one_hot, (SEEDS, "optim.learning_rate=1e-3")),
        ("one_hot_no_dropout", "cnn_onehot", plain, (SEEDS,)),
        ("one_hot_no_dropout_slow", "cnn_onehot", plain, (SEEDS, "optim.learning_rate=1e-4")),
        ("one_hot_no_conv_dropout", "cnn_onehot", "no_conv_dropout,paper_steps", (SEEDS,)),
        ("one_hot_strict", "cnn_onehot", "strict,paper_steps", (SEEDS,)),
        ("one_hot_long", "cnn_onehot", plain, (longer,)),
        ("one_hot_half", "cnn_onehot", one_hot, (SEEDS, "data.train_share=0.5")),
        ("one_hot_augmented", "cnn_onehot", one_hot, (SEEDS, *AUGMENTED)),
        ("one_hot_split_1", "cnn_onehot", one_hot, ("data.seed=1", *CURVES)),
        ("one_hot_split_2", "cnn_onehot", one_hot, ("data.seed=2", *CURVES)),
        ("ablation", "ablation_onehot", "seeds", ()),
    )
    config.reproduce.experiments = tuple(
        (name, f"configs/{file}.py:{','.join(filter(None, (words, 'smoke' if chosen.smoke else '')))}", own)
        for name, file, words, own in experiments
    )
    if chosen.quick:
        config.reproduce.overrides = (
            "data.balance_limit=200",
            "train.num_epochs=3.0",
            *IN_EPOCHS,
            "transfer.head_epochs=3.0",
            "ablation:num_seeds=1",
            "one_hot_long:train.num_steps=0",
            "one_hot_long:train.num_epochs=12.0",
        )
    if chosen.smoke:
        config.data.num_posters, config.data.min_movies, config.model.weights = 180, 8, ""
    return config
