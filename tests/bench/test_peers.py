"""Peers: which there are, and what they are held to."""

import pytest

from poster_jax import errors
from poster_jax.bench import peers


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
