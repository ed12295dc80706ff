"""The paper's transfer learning (sections II-A and III-A): a frozen MobileNetV2, heads at three rates, then all weights.

    python -m poster_jax.main --config=configs/transfer_mobilenet.py
    python -m poster_jax.main --config=configs/transfer_mobilenet.py --config.data.variant=kaggle --config.data.dir=DIR

Integer labels of six genres drawn equal, 128 x 128, global max pooling, softmax; 1e-4, 1e-3 and 1e-2 for 20 epochs on the
frozen body, then from the first of these heads everything at 1e-5 for 20 more with BatchNorm in training mode, as Keras does
it. Once with posters in [0, 1], as the paper fed them, and once in the range of the pretrained weights.
`--config.model.weights=keras:FILE` where there is no network. On 2,382 real posters fine-tuning from the best head
(`--config.transfer.start_rate=0.0`) ends at a test top-1 of 0.365 [0.323, 0.409] and 0.350 [0.306, 0.394] in the two ranges,
floor 0.168, colour histograms 0.356; README.md beside this file has every rate.

Arguments, after a colon: `seeds` (three of them), `smoke` (seconds on a CPU, no pretrained weights).
"""

from poster_jax import config as config_lib


def get_config(arg: str = "") -> config_lib.Config:
    chosen = config_lib.parse_arg(arg, seeds=False, smoke=False)
    config = config_lib.base("mobilenet_v2")
    config.protocol = "transfer"
    config.num_seeds = 3 if chosen.seeds else 1
    config.data.image_size = (128, 128)
    config.data.encoding = "first"
    config.loss.name = "softmax"
    config.model.bn_mode = "training"
    config.transfer.input_ranges = ((0.0, 1.0), ())
    config.transfer.learning_rates = (1e-4, 1e-3, 1e-2)
    config.transfer.start_rate = 1e-4  # run 1 of Table 1
    config.transfer.head_epochs = 20.0
    config.optim.learning_rate = 1e-5
    config.train.num_epochs = 20.0
    config.eval.parts = ("train", "validation")
    config.eval.best_metric = "top1_accuracy"
    return config_lib.make_smoke(config) if chosen.smoke else config
