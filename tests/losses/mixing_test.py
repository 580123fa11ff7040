"""Mixtures: whose partner is who, how large their shares are, and on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.losses import mixing
from ltssl_jax.losses.mixing import Block
from ltssl_jax.training.forward import AxisDevices, ExampleKeys

B, U, K = 8, 16, 3


def context(axis=None):
    return core.Context(0, 0, ExampleKeys(jax.random.key(5)), AxisDevices(axis))


def blocks():
    """Images that say which row they are: 0 to 7, 100 to 115 and 200 to 215."""

    def block(first, size):
        rows = first + jnp.arange(size)
        images = jnp.broadcast_to(rows[:, None, None, None], (size, 2, 2, 1)).astype(jnp.float32)
        return Block(images, jax.nn.one_hot(rows % K, K), jnp.arange(size) + 50)

    return [block(0, B), block(100, U), block(200, U)]


def test_mix():
    rng = np.random.default_rng(0)
    rows, partners = rng.normal(size=(2, 4, 3, 3, 1))
    share = np.array([1.0, 0.5, 0.9, 0.0])
    expected = [s * a + (1 - s) * b for s, a, b in zip(share, rows, partners, strict=True)]
    mixed = mixing.mix(*map(jnp.asarray, (rows, partners, share)))
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def result():
    return mixing.mixed(blocks(), context(), concentration=0.75)


def test_partners_are_a_permutation_of_all_rows_and_targets_go_along(monkeypatch):
    monkeypatch.setattr(mixing, "shares", lambda keys, concentration: jnp.zeros(len(keys)))
    given, partners = blocks(), mixing.mixed(blocks(), context(), concentration=1.0)
    who = np.concatenate([block.images[:, 0, 0, 0] for block in partners])
    everyone = np.concatenate([block.images[:, 0, 0, 0] for block in given])
    assert sorted(who) == sorted(everyone) and not np.array_equal(who, everyone)
    targets = np.concatenate([block.targets for block in partners])
    np.testing.assert_array_equal(targets.argmax(1), who.astype(int) % K)
    assert np.any(who[:B] >= 100) and np.any(who[B:] < 100)  # across the streams


def test_own_share_is_the_larger_one(result):
    """A row keeps at least half: the mixture is nearer to it than to its partner."""
    for given, block in zip(blocks(), result, strict=True):
        own = np.asarray(jnp.sum(given.targets * block.targets, axis=1))
        assert np.all(own >= 0.5) and np.all(own <= 1 + 1e-6)
        np.testing.assert_array_equal(given.index, block.index)


def test_shares_have_their_distribution():
    keys = jax.random.split(jax.random.key(0), 4000)
    shares = np.asarray(mixing.shares(keys, 0.75))
    assert shares.min() >= 0.5 and shares.max() <= 1.0

    drawn = np.random.default_rng(0).beta(0.75, 0.75, 200_000)
    np.testing.assert_allclose(shares.mean(), np.maximum(drawn, 1 - drawn).mean(), atol=0.01)
    np.testing.assert_allclose(shares.std(), np.maximum(drawn, 1 - drawn).std(), atol=0.01)


def test_eight_devices_equal_one(result):
    given = blocks()
    spread = jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), given)
    ours = jax.pmap(lambda b: mixing.mixed(b, context("d"), concentration=0.75), axis_name="d")(
        spread
    )
    ours = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), ours)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, result)
