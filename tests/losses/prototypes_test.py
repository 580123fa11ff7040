"""Cosines and blends against float64 NumPy, and where they could break."""

import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax.losses.prototypes import blend, cosine_similarity

RNG = np.random.default_rng(0)
FEATURES, PROTOTYPES = RNG.normal(size=(6, 4)), RNG.normal(size=(3, 4))
LOGITS = 3 * RNG.normal(size=(6, 3))
PROBS = RNG.dirichlet(np.ones(3), size=6)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def test_cosine_similarity():
    lengths = np.linalg.norm(FEATURES, axis=1)[:, None] * np.linalg.norm(PROTOTYPES, axis=1)[None]
    found = cosine_similarity(*float32(FEATURES, PROTOTYPES))
    np.testing.assert_allclose(found, FEATURES @ PROTOTYPES.T / lengths, rtol=1e-5, atol=1e-6)
    longer = cosine_similarity(*float32(7 * FEATURES, 0.1 * PROTOTYPES))
    np.testing.assert_allclose(longer, found, rtol=1e-5, atol=1e-6)


def test_a_prototype_of_zeros_is_similar_to_nothing_and_gradients_stay_finite():
    features, prototypes = float32(FEATURES, PROTOTYPES)
    prototypes, features = prototypes.at[1].set(0.0), features.at[2].set(0.0)
    value, pull_back = jax.vjp(cosine_similarity, features, prototypes)
    assert not np.any(value[:, 1]) and not np.any(value[2])
    assert all(np.all(np.isfinite(g)) for g in pull_back(jnp.ones_like(value)))


def test_blend():
    strength = np.linspace(0, 1, 6)
    mixed = (1 - strength)[:, None] * softmax(LOGITS) + strength[:, None] * PROBS
    found = blend(*float32(LOGITS, PROBS, strength))
    np.testing.assert_allclose(found, np.log(mixed), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(found).sum(1), 1, rtol=1e-5)


def test_blend_stays_finite_where_one_is_certain():
    logits = jnp.asarray([[1e4, 0.0, -1e4]] * 2)
    probs = jnp.asarray([[0.0, 0.0, 1.0]] * 2)
    found = blend(logits, probs, jnp.asarray([0.0, 1.0]))
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(jax.nn.softmax(found), np.eye(3)[[0, 2]], atol=1e-6)
