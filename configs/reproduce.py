"""Every experiment of the paper, in order, and a table of its claims with the measurement for each.

    python -m poster_jax.main --config=configs/reproduce.py:smoke
    python -m poster_jax.main --config=configs/reproduce.py --config.data.variant=kaggle --config.data.dir=DIR \\
        --config.model.weights=keras:FILE --config.reproduce.catalog=CSV

Run it in the folder that contains configs/. Finished experiments are not repeated.
`python -m poster_jax.report runs/reproduce` writes the page.

Arguments, after a colon: `quick` (200 posters a genre, 3 epochs, one seed of the ablation; all trials and folds, and the seeds
of everything else, are kept), `smoke` (minutes on a CPU, synthetic posters, no pretrained weights).

`:quick` on 1,200 of 9,111 real posters, 48 minutes on two CPU cores with jax 0.12: of 34 claims 12 hold, 8 do not and 14
cannot be told.
"""

from poster_jax import config as config_lib

BOTH_PARTS = "eval.parts=('train', 'validation')"


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, quick=False, smoke=False)
    config = config_lib.base("mobilenet_v2")
    config.protocol = "reproduce"
    experiments = (
        ("transfer", "transfer_mobilenet", "seeds", ()),
        ("search", "search_cnn", "", ()),
        ("search_batch_norm", "search_cnn", "batch_norm", ()),
        ("rates", "search_cnn", "rates", ()),
        ("one_hot", "cnn_onehot", "", ("num_seeds=3", BOTH_PARTS)),
        ("one_hot_no_conv_dropout", "cnn_onehot", "no_conv_dropout", ("num_seeds=3",)),
        ("one_hot_no_dropout", "cnn_onehot", "no_dropout", ("num_seeds=3",)),
        ("one_hot_strict", "cnn_onehot", "strict", ("num_seeds=3",)),
        ("one_hot_long", "cnn_onehot", "no_dropout", ("train.num_epochs=16.0",)),
        ("one_hot_split_1", "cnn_onehot", "", ("data.seed=1", BOTH_PARTS)),
        ("one_hot_split_2", "cnn_onehot", "", ("data.seed=2", BOTH_PARTS)),
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
            "transfer.head_epochs=3.0",
            "ablation:num_seeds=1",
        )
    if chosen.smoke:
        config.data.num_posters, config.data.min_movies, config.model.weights = 180, 8, ""
    return config
