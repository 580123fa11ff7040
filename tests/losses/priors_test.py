"""Anchors and distances of priors against float64 NumPy."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import priors
from ltssl_jax.losses.margins import log_prior

COUNTS = np.array([7, 40, 3, 19, 11])
PI = COUNTS / COUNTS.sum()


def test_anchors_are_the_labels_uniform_and_reversed_by_rank():
    anchors = np.exp(priors.anchor_log_priors(log_prior(COUNTS)))
    np.testing.assert_allclose(anchors[0], PI, rtol=1e-6)
    np.testing.assert_allclose(anchors[1], 0.2, rtol=1e-6)
    np.testing.assert_allclose(anchors[2], np.array([19, 3, 40, 7, 11]) / 80, rtol=1e-6)


def test_permuting_classes_permutes_anchors():
    order = np.array([3, 1, 4, 0, 2])
    np.testing.assert_array_equal(
        priors.anchor_log_priors(log_prior(COUNTS[order])),
        priors.anchor_log_priors(log_prior(COUNTS))[:, order],
    )


def test_divergences_are_the_mean_of_both_directions():
    prior = np.array([0.1, 0.3, 0.25, 0.05, 0.3])
    anchors = np.stack([PI, np.full(5, 0.2), prior])

    def kl(p, q):
        return np.sum(p * np.log(p / q))

    expected = [(kl(prior, a) + kl(a, prior)) / 2 for a in anchors]
    ours = priors.symmetric_divergences(jnp.asarray(prior), jnp.log(jnp.asarray(anchors)))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_a_class_of_no_mass_is_far_but_not_infinitely():
    prior = jnp.array([0.5, 0.5, 0.0, 0.0, 0.0])
    ours = priors.symmetric_divergences(prior, priors.anchor_log_priors(log_prior(COUNTS)))
    chex.assert_tree_all_finite(ours)
    assert np.all(ours > 5)


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        priors.symmetric_divergences(jnp.ones(4) / 4, jnp.zeros((3, 5)))
