"""`config.model` of each network, and what the checks of a config must know of a body; `models.families` builds them."""

import dataclasses

# Paper, Table 6: four 3 x 3 convolutions; (filters, kernel, pool, batch norm, dropout) per block.
TABLE_6_BLOCKS = ((32, 3, 1, False, 0.0), (64, 3, 2, False, 0.0), (128, 3, 1, False, 0.0), (64, 3, 2, False, 0.25))
# (units, batch norm, dropout) per dense layer.
TABLE_6_DENSE = ((128, False, 0.5),)

# The keys that all bodies with pretrained weights share.
BODY = {
    "weights_sha256": "",  # what the file of weights must hash to; empty: any
    "width": 1.0,  # multiplier of the channels
    "input_range": (),  # what black and white are mapped to; empty: what the weights were made with
    "pooling": "max",  # max | avg
    "style_from": "",  # block_0, block_1, ..: from it on, mean and deviation of each map are features too; empty: none
    "dropout": 0.0,  # before the head
    "bn_mode": "frozen",  # frozen | frozen_moving | training
    "train_from": "stem",  # stem, block_0, block_1, .., last, head: the stages before it are frozen
}

# The values of the CNN are Table 6.
MODELS = {
    "cnn": {
        "name": "cnn",
        "blocks": TABLE_6_BLOCKS,
        "dense": TABLE_6_DENSE,
        "input_range": (0.0, 1.0),
    },
    "mobilenet_v2": {
        "name": "mobilenet_v2",
        "weights": "keras:imagenet",  # keras:, torchvision:, timm:, huggingface:, poster_jax:FILE, released:NAME; empty: none
        **BODY,
    },
    "efficientnet_lite0": {
        "name": "efficientnet_lite0",
        "weights": "efficientnet:imagenet",  # or efficientnet:FILE, poster_jax:FILE; empty: none
        **BODY,
    },
}


@dataclasses.dataclass(frozen=True)
class BodyFacts:
    """A body's number of blocks, and the sources of its weights as before the colon of `model.weights`."""

    num_blocks: int
    sources: tuple[str, ...]

    def choices(self) -> dict[str, tuple[str, ...]]:
        """{dotted key: its values} of the keys that name a block: what can be frozen, and what has a style."""
        blocks = tuple(f"block_{index}" for index in range(self.num_blocks))
        return {"model.train_from": ("stem", *blocks, "last", "head"), "model.style_from": ("", *blocks)}


BODIES = {
    "mobilenet_v2": BodyFacts(17, ("keras", "torchvision", "timm", "huggingface", "poster_jax", "released")),
    "efficientnet_lite0": BodyFacts(16, ("efficientnet", "poster_jax")),
}
# The config file that a message sends to, for each network.
CONFIGS = {
    "cnn": "configs/cnn_onehot.py",
    "mobilenet_v2": "configs/finetune_mobilenet.py",
    "efficientnet_lite0": "configs/finetune_efficientnet.py",
}


def kind(name: str) -> str:
    """ "body" or "cnn": the networks whose measured times stand for each other's."""
    return "body" if name in BODIES else "cnn"
