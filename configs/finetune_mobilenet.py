"""A recipe for predicting genres: MobileNetV2 fine-tuned on all genres of a movie, the top six by any mention.

First the head trains on frozen features, then all weights for 8 epochs. BatchNorm keeps its statistics, twelve more genres are
learnt beside the six, weights are averaged, labels are smoothed, and posters keep their own shape. Besides the last map, the
head gets the means and deviations of every block's map, which describe the look of a poster.

    python -m poster_jax.main --config=configs/finetune_mobilenet.py
    python -m poster_jax.main --config=configs/finetune_mobilenet.py --config.data.variant=kaggle --config.data.dir=DIR

`--config.model.weights=keras:FILE` where there is no network. Arguments, after a colon: `seeds` (three of them), `smoke`
(seconds on a CPU, no pretrained weights).

On 9,111 real posters, weights of width 1.0 made for 160 px, 43 to 50 minutes on one CPU core, test part: mean average
precision 0.616 [0.595, 0.639], 0.614 and 0.617 with seeds 0, 1 and 2 (constant answer 0.267, logistic regression on the frozen
features 0.576, on the pooled last map alone 0.548), binary accuracy 0.816 to 0.821 (all zeros 0.733). The stronger recipe of
`bench/keras_finetune.py` has 0.572, 0.562 and 0.564. On 1/8, 1/4 and 1/2 of the training movies
(`--config.data.train_share=0.5`) it has 0.533, 0.565 and 0.594: more data still helps.
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, seeds=False, smoke=False)
    config = config_lib.base("mobilenet_v2")
    config.protocol = "transfer"
    config.num_seeds = 3 if chosen.seeds else 1
    config.data.image_size = (256, 176)
    config.data.genre_rank = "any"
    config.data.balance = "none"
    config.data.num_auxiliary = 12
    config.loss.label_smoothing = 0.05
    config.model.pooling = "avg"
    config.model.style_from = "block_0"
    config.model.dropout = 0.5
    config.transfer.learning_rates = (3e-5, 1e-4)
    config.transfer.head_epochs = 6.0
    config.optim.name = "adamw"
    config.optim.learning_rate = 2e-4
    config.optim.schedule = "cosine"
    config.optim.weight_decay = 0.05
    config.optim.head_factor = 0.1
    config.train.num_epochs = 8.0
    config.train.average_decay = 0.998
    config.train.augment.flip = True
    config.train.augment.shift = 0.08
    config.train.augment.zoom = 0.2
    config.train.augment.brightness = 0.1
    config.train.augment.contrast = 0.1
    config.train.augment.saturation = 0.1
    config.eval.mirror = True
    return config_lib.make_smoke(config) if chosen.smoke else config
