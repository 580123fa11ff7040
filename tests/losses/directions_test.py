"""Cosines against float64 NumPy, and where they could break."""

import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax.losses.directions import cosines

RNG = np.random.default_rng(0)
FEATURES, PROTOTYPES = RNG.normal(size=(6, 4)), RNG.normal(size=(3, 4))


def float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def test_cosines_are_those_of_the_directions():
    lengths = np.linalg.norm(FEATURES, axis=1)[:, None] * np.linalg.norm(PROTOTYPES, axis=1)[None]
    found = cosines(*float32(FEATURES, PROTOTYPES))
    np.testing.assert_allclose(found, FEATURES @ PROTOTYPES.T / lengths, rtol=1e-5, atol=1e-6)
    longer = cosines(*float32(7 * FEATURES, 0.1 * PROTOTYPES))
    np.testing.assert_allclose(longer, found, rtol=1e-5, atol=1e-6)


def test_a_row_of_zeros_is_similar_to_nothing_and_gets_no_gradient():
    features, prototypes = float32(FEATURES, PROTOTYPES)
    prototypes, features = prototypes.at[1].set(0.0), features.at[2].set(0.0)
    value, pull_back = jax.vjp(cosines, features, prototypes)
    assert not np.any(value[:, 1]) and not np.any(value[2])
    by_features, by_prototypes = pull_back(jnp.ones_like(value))
    assert not np.any(by_prototypes[1]) and not np.any(by_features[2])
    assert np.all(np.isfinite(by_features)) and np.any(by_features[0])
