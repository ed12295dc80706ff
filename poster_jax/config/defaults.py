"""Every config key with its default; `types` has their types."""

import copy

from poster_jax.config import grid, networks, types, validate_probe, validate_search

# Every key there is. The values are the paper's one-hot CNN (section III-C, Table 6).
DEFAULTS = {
    "protocol": "single",
    "seed": 0,  # initial weights, order of examples, dropout, augmentation
    "num_seeds": 1,  # runs with seed, seed + 1, ...: reported as mean and range
    "data": {
        "variant": "synthetic",  # synthetic | kaggle | csv | folder | own (csv or folder, as is given) | packed
        "dir": "",  # kaggle: folder of MovieGenre.csv and posters/; folder: one folder a label; packed: a packed cache folder
        "csv": "",  # csv: file with the columns path and genres
        "path_column": "",  # csv: the column of pictures where it is not path or file_name
        "label_column": "",  # csv: the column of labels where it is not genres
        # probe only: files of features by id, separated by commas, or a run or released:NAME whose body computes them
        "features": "",
        "id_column": "",  # csv: the column of ids where it is not id
        "movie_column": "",  # csv: the column that ties rows of one movie together where it is not movie
        "split_column": "",  # csv: the column of train, validation and test where it is not split
        "label_separator": "",  # of the labels in a cell: a character, comma, slash, comma+slash, ...; none; empty: found
        "num_posters": 1500,  # synthetic only
        "seed": 0,  # drawing of the synthetic posters, balancing, splits
        "cache_dir": "",  # empty: ~/.cache/poster_jax, or $POSTER_JAX_CACHE
        "image_size": (150, 101),  # height, width in pixels
        "genres": (),  # a list here takes precedence over num_genres and genre_rank
        "num_genres": 6,  # 0: all that min_movies list
        "genre_rank": "first",  # rank genres by first-listed mention, or by any
        "num_auxiliary": 0,  # most further genres, by any mention, that are trained on but not measured; multi_hot only
        "min_movies": 100,  # fewer movies of a genre are refused (the paper asks for 1,000)
        "encoding": "multi_hot",  # first | one_hot (the same label as K numbers) | exploded | multi_hot | auto
        "balance": "equal",  # none | cap | equal
        "balance_limit": 0,  # most movies per genre; 0 is no limit
        "balance_before_split": True,  # as the paper did; False balances the training part only
        "split": (0.6, 0.2, 0.2),  # train, validation, test
        "split_grouped": True,  # False lets rows of one movie fall on both sides: the paper's leak
        "train_share": 1.0,  # share of the training part that is used; a smaller share is part of every larger one
        "path": "auto",  # auto | resident | streaming
    },
    "model": networks.MODELS["cnn"],
    "optim": {
        "name": "adam",  # adam | adamw | sgd (momentum 0.9)
        "learning_rate": 1e-4,
        "schedule": "constant",  # constant | cosine
        "warmup_steps": 0,  # linear, from 0
        "weight_decay": 0.0,  # adamw only
        "head_factor": 1.0,  # pretrained networks only: learning rate of the head over that of the body
        "accumulate_steps": 1,  # weights move every so many steps, by their mean gradient; BatchNorm's means are of one batch
    },
    "loss": {
        "name": "sigmoid",  # sigmoid | softmax | focal | asymmetric | auto (softmax where a row has one genre, else sigmoid)
        "label_smoothing": 0.0,
        "positive_weights": False,  # a genre's positives weigh as much as its negatives
        "focal_gamma": 2.0,  # focal only
        "asymmetric_gammas": (1.0, 4.0),  # asymmetric only: positives, negatives
        "asymmetric_clip": 0.05,  # asymmetric only
    },
    "train": {
        "batch_size": 32,  # over all devices
        "num_epochs": 4.0,  # one of num_epochs and num_steps is 0
        "num_steps": 0,
        # Runs, or files of scores by id, separated by commas: training targets are drawn towards the mean of their scores.
        "teacher": "",
        "teacher_share": 0.7,  # of the teacher's scores in a target; the rest is the label
        "average_decay": 0.0,  # of the moving average of the weights, which is then evaluated instead of them; 0 is none
        "precision": "float32",  # bfloat16: activations only; weights, statistics and loss stay float32
        "augment": {
            "flip": False,  # mirror half of the posters
            "shift": 0.0,  # largest shift as a share of the side
            "zoom": 0.0,  # random crop of at least 1 - zoom of the side, resized back
            "brightness": 0.0,  # largest change, as a share of full white
            "contrast": 0.0,  # factor in [1 - x, 1 + x]
            "saturation": 0.0,  # factor in [1 - x, 1 + x]
        },
        "log_every_steps": 20,
        "log_accuracy": False,  # binary accuracy of training steps, dropout on, beside their loss: what Keras prints
        "tensorboard": False,
    },
    "eval": {
        "batch_size": 64,
        "every_steps": 0,  # one of every_steps and every_epochs is 0
        "every_epochs": 1.0,
        "parts": ("validation",),  # scored while training; ("train", "validation") scores training in inference mode too
        "validation_steps": 0,  # validate on a sample of so many training-size batches; 0 is all rows, 20 is the paper's
        "best_metric": "mean_average_precision",  # the weights with the best value on validation are the ones measured on test
        "mirror": False,  # scores are the mean over the poster and its mirror image
        "bootstrap_samples": 1000,
        "baselines": True,  # logistic regression on colour histograms in the same table
    },
    "checkpoint": {
        "every_steps": 0,  # one of every_steps and every_epochs is 0
        "every_epochs": 1.0,
    },
    "transfer": {
        "input_ranges": ((),),  # one run for each, as `model.input_range`; the last one is the result
        "learning_rates": (1e-4, 1e-3, 1e-2),  # heads over the frozen body, trained together; the best one is fine-tuned
        "start_rate": 0.0,  # fine-tuning starts from this rate's head after its last epoch; 0: the best by validation
        "head_epochs": 20.0,
        "tune": True,  # False: the chosen head on the frozen body is the result
        "cached": True,  # heads train on features computed once; False: through the frozen body, one after another
        "augment": False,  # heads see augmented posters; needs cached=False
        "bn_mode": "frozen",  # of the frozen body; frozen_moving needs cached=False
        "unfreeze_epochs": 0.0,  # unfreeze the body stage by stage over so many epochs, last stage first; 0: all at once
    },
    "probe": validate_probe.PROBE_DEFAULTS,
    "search": validate_search.SEARCH_DEFAULTS,
    "ablation": grid.ABLATION_DEFAULTS,
    "reproduce": {
        "experiments": (),  # (name, config file as --config takes it, ("key=value", ...)) in the order in which they run
        # To reduce a reproduction: "key=value" applies to every experiment, before its own settings; "name:key=value" applies
        # to one, after them.
        "overrides": (),
        "catalog": "",  # CSV of the full set's genre texts, for the paper's counts; empty: no counts
    },
}


def base(model: str = "cnn") -> types.Config:
    """A fresh copy of every key with its default, for a network of `networks.MODELS`."""
    return types.make(copy.deepcopy({**DEFAULTS, "model": networks.MODELS[model]}))


def make_smoke(config: types.Config) -> types.Config:
    """Shrinks a config to seconds on a CPU: few small synthetic posters, narrow layers, two epochs."""
    config.data.variant = "synthetic"
    config.data.num_posters = 180
    config.data.min_movies = 8
    config.data.image_size = (38, 26)
    if config.model.name == "cnn":
        config.model.blocks, config.model.dense = narrow(config.model.blocks, 4), narrow(config.model.dense, 8)
    if config.model.name in networks.BODIES:
        config.data.image_size = (40, 32)
        config.model.width, config.model.weights = 0.35, ""
        config.transfer.head_epochs = 2.0
        config.transfer.unfreeze_epochs = min(1.0, config.transfer.unfreeze_epochs)
    config.train.batch_size = 16
    config.train.num_epochs, config.train.num_steps = 2.0, 0
    config.eval.every_epochs, config.eval.every_steps = 1.0, 0
    config.checkpoint.every_epochs, config.checkpoint.every_steps = 1.0, 0
    config.train.log_every_steps = 2
    config.eval.bootstrap_samples = 50
    return config


def set_steps(config: types.Config, *, num_steps: int, every: int) -> None:
    """Trains for num_steps, whatever the number of rows; evaluates and saves every so many steps."""
    config.train.num_epochs, config.train.num_steps = 0.0, num_steps
    config.eval.every_epochs, config.eval.every_steps = 0.0, every
    config.checkpoint.every_epochs, config.checkpoint.every_steps = 0.0, every


def narrow(rows: tuple[tuple, ...], width: int) -> tuple[tuple, ...]:
    """`model.blocks` or `model.dense` with `width` filters or units in every row."""
    return tuple((width, *row[1:]) for row in rows)
