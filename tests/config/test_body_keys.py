"""The keys of a body: its own blocks and its own sources of weights, and the way to another network."""

import pytest

from poster_jax import config as config_lib
from poster_jax import errors


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("cnn_onehot", {"model.name": "efficientnet_lite0"}, "take configs/finetune_efficientnet.py for it"),
        ("finetune_efficientnet", {"model.name": "cnn"}, "take configs/cnn_onehot.py for it"),
        ("finetune_efficientnet", {"model.train_from": "block_16"}, "train_from='block_16' is unknown"),
        ("finetune_efficientnet", {"model.style_from": "block_16"}, "style_from='block_16' is unknown"),
        ("finetune_efficientnet", {"model.weights": "torchvision:a.pth"}, "it is one of efficientnet:FILE, poster_jax:FILE"),
        (
            "finetune_mobilenet",
            {"model.weights": "efficientnet:a.pth"},
            "it is one of keras:FILE, torchvision:FILE, timm:FILE",
        ),
        ("finetune_mobilenet", {"model.name": "efficientnet_lite0"}, "'keras:imagenet' is unknown for model.name=efficientnet"),
        ("finetune_efficientnet", {"protocol": "single"}, "take configs/finetune_efficientnet.py."),
    ],
)
def test_what_is_of_another_network_is_refused(name: str, overrides: dict[str, str], says: str) -> None:
    with pytest.raises(errors.UserError) as caught:
        config_lib.load(name, overrides.items())
    assert says in str(caught.value)


def test_any_recipe_takes_another_body_by_two_keys() -> None:
    overrides = {"model.name": "efficientnet_lite0", "model.weights": "efficientnet:a.safetensors"}
    for name in ("own_posters", "finetune_mobilenet", "transfer_mobilenet"):
        loaded = config_lib.load(name, overrides.items())
        text = config_lib.to_json(loaded)
        assert config_lib.to_json(config_lib.from_json(text)) == text
        assert (loaded.model.name, loaded.protocol) == ("efficientnet_lite0", "transfer")


def test_the_recipe_differs_from_that_of_mobilenet_in_the_body_alone() -> None:
    recipes = [config_lib.load(f"{name}:seeds") for name in ("finetune_mobilenet", "finetune_efficientnet")]
    changed = [line.split(":")[0] for line in config_lib.differences(*recipes)]
    assert changed == ["model.name", "model.weights"]
