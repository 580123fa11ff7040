"""Contrastive losses against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import metric

RNG = np.random.default_rng(0)
ANCHORS, KEYS = RNG.normal(size=(4, 3)), RNG.normal(size=(6, 3))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def single(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_supervised_contrastive_is_the_mean_over_the_keys_of_the_same_kind():
    is_same = RNG.random((4, 6)) < 0.5
    is_same[0] = [True, False, False, False, False, False]  # none but itself
    is_other = np.ones((4, 6), bool)
    is_other[np.arange(4), np.arange(4)] = False
    expected = []
    for i in range(4):
        scores = np.exp(unit(ANCHORS[i]) @ unit(KEYS).T / 0.2)
        total = scores[is_other[i]].sum()
        own = [-np.log(scores[j] / total) for j in range(6) if is_same[i, j] and is_other[i, j]]
        expected.append(np.mean(own) if own else 0.0)
    losses = metric.supervised_contrastive(
        *single(ANCHORS, KEYS), jnp.asarray(is_same), jnp.asarray(is_other), temperature=0.2
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[0] == 0


def test_info_nce_tells_the_own_key_from_the_negatives():
    keys = KEYS[:4]
    expected = []
    for q, k in zip(unit(ANCHORS), unit(keys), strict=True):
        scores = np.exp(np.concatenate([[q @ k], unit(KEYS) @ q]) / 0.5)
        expected.append(-np.log(scores[0] / scores.sum()))
    losses = metric.info_nce(*single(ANCHORS, keys, KEYS), temperature=0.5)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 1e-3, 1e3])
def test_lengths_do_not_matter_and_gradients_stay_finite(factor):
    anchors, keys = single(factor * ANCHORS, KEYS)

    def total(anchors):
        return jnp.sum(metric.info_nce(anchors, keys[:4], keys, temperature=0.2))

    assert np.all(np.isfinite(jax.grad(total)(anchors)))
    if factor:
        plain = jnp.sum(metric.info_nce(*single(ANCHORS, KEYS[:4], KEYS), temperature=0.2))
        np.testing.assert_allclose(total(anchors), plain, rtol=1e-4)
