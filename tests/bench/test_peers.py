"""Peers: which exist, and their numbers of parameters."""

import os

import pytest

from poster_jax import errors
from poster_jax.bench import keras_finetune, keras_heads, keras_search, peers
from poster_jax.data import builder


def test_a_network_that_a_framework_lacks_is_refused_in_one_sentence() -> None:
    shape = {"num_genres": 6, "image_size": (32, 32), "batch_size": 2}
    with pytest.raises(errors.UserError, match=r"^config.model.name=mobilenet_v2 .*=torch: .* network: keras\.$"):
        peers.start("torch", "mobilenet_v2", **shape)
    with pytest.raises(errors.UserError, match=r"network: none\.$"):
        peers.start("keras", "other", **shape)


def test_a_peer_of_another_size_is_told_apart() -> None:
    """6,295,558 parameters for the paper's six genres and posters of 150x101."""
    peer = peers.Peer("other", 6_295_558, lambda: 0.0, lambda: None)  # type: ignore[arg-type, return-value]
    assert peers.checked(peer, peers.cnn_parameters(6, (150, 101))) is peer
    with pytest.raises(AssertionError, match="6295558 parameters"):
        peers.checked(peer, peers.cnn_parameters(7, (150, 101)))


def test_keras_is_at_its_best_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    peers.keras_on_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    peers.keras_on_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"


def test_a_keras_peer_of_our_size_trains_and_scores() -> None:
    pytest.importorskip("keras")
    peer = peers.keras_cnn(num_genres=3, image_size=(40, 32), batch_size=4)
    assert peer.num_parameters == peers.cnn_parameters(3, (40, 32)) == 167_040 + (64 * 7 * 5 + 1) * 128 + 129 * 3
    losses = [peer.run_train() for _ in range(12)]
    assert losses[-1] < losses[0]
    scores = peer.run_forward()
    assert scores.shape == (4, 3) and ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize(
    ("bench", "arguments"),
    [
        (keras_search, ["--config=configs/search_cnn.py:smoke"]),
        (keras_heads, ["--config=configs/transfer_mobilenet.py:smoke", "--weights=none.h5"]),
        (keras_finetune, ["a", "--weights=none.h5", "--dir=none", "--workdir=none"]),
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_tensorflow_is_imported_by_keras_and_not_by_the_posters(bench, arguments, monkeypatch, capsys) -> None:
    def missing() -> None:
        raise errors.UserError("no Keras")

    def read(*_: object) -> None:
        pytest.fail("posters were read first")

    monkeypatch.setattr(peers, "keras_on_tensorflow", missing)
    monkeypatch.setattr(builder, "load_source", read)
    assert bench.main(arguments) == 2
    assert capsys.readouterr().err == "poster_jax: no Keras\n"
