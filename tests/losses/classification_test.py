"""Cross entropy and entropy against float64 NumPy, and their properties."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import classification

B, K = 5, 4
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((B, K))
LABELS = np.array([3, 0, 1, 1, 2])
TARGETS = RNG.dirichlet(np.ones(K), size=B)
EXTREME = 1e4 * RNG.choice([-1.0, 1.0], (B, K))
ONE_HOT = np.eye(K)[LABELS]


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def gradient(function, *arrays):
    """Of the sum of the per-example losses, by the first array."""
    return jax.jit(jax.grad(lambda *a: function(*a).sum()))(*map(jnp.asarray, arrays))


class ReferenceTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_cross_entropy(self):
        losses = self.variant(classification.cross_entropy)(jnp.asarray(LOGITS), LABELS)
        expected = [-log_softmax(LOGITS)[i, label] for i, label in enumerate(LABELS)]
        np.testing.assert_allclose(losses, expected, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_soft_cross_entropy(self):
        losses = self.variant(classification.soft_cross_entropy)(jnp.asarray(LOGITS), TARGETS)
        np.testing.assert_allclose(losses, -(TARGETS * log_softmax(LOGITS)).sum(1), rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_entropy(self):
        entropies = self.variant(classification.entropy)(jnp.asarray(TARGETS))
        np.testing.assert_allclose(entropies, -(TARGETS * np.log(TARGETS)).sum(1), rtol=1e-5)


def test_gradients_equal_the_formulas():
    probs = np.exp(log_softmax(LOGITS))
    hard = gradient(classification.cross_entropy, LOGITS, LABELS)
    soft = gradient(classification.soft_cross_entropy, LOGITS, TARGETS)
    by_target = gradient(lambda t, z: classification.soft_cross_entropy(z, t), TARGETS, LOGITS)
    np.testing.assert_allclose(hard, probs - ONE_HOT, atol=1e-6)
    np.testing.assert_allclose(soft, probs - TARGETS, atol=1e-6)
    np.testing.assert_allclose(by_target, -log_softmax(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(
        gradient(classification.entropy, TARGETS), -np.log(TARGETS) - 1, rtol=1e-4, atol=1e-6
    )


def test_one_hot_targets_give_the_cross_entropy_of_labels():
    np.testing.assert_allclose(
        classification.soft_cross_entropy(jnp.asarray(LOGITS), ONE_HOT),
        classification.cross_entropy(jnp.asarray(LOGITS), LABELS),
        rtol=1e-6,
    )


def test_a_constant_added_to_the_logits_changes_nothing():
    shifted = jnp.asarray(LOGITS + RNG.standard_normal((B, 1)))
    np.testing.assert_allclose(
        classification.cross_entropy(shifted, LABELS),
        classification.cross_entropy(jnp.asarray(LOGITS), LABELS),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        classification.soft_cross_entropy(shifted, TARGETS),
        classification.soft_cross_entropy(jnp.asarray(LOGITS), TARGETS),
        rtol=1e-5,
    )


def test_permuting_classes_changes_nothing():
    order = np.array([2, 0, 3, 1])
    permuted = jnp.asarray(LOGITS[:, order])
    np.testing.assert_allclose(
        classification.cross_entropy(permuted, np.argsort(order)[LABELS]),
        classification.cross_entropy(jnp.asarray(LOGITS), LABELS),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        classification.soft_cross_entropy(permuted, TARGETS[:, order]),
        classification.soft_cross_entropy(jnp.asarray(LOGITS), TARGETS),
        rtol=1e-5,
    )


def test_extreme_logits_give_finite_losses_and_gradients():
    losses = classification.cross_entropy(jnp.asarray(EXTREME), LABELS)
    # Near 1e4, neighbouring float32 numbers are 1e-3 apart.
    expected = -(ONE_HOT * log_softmax(EXTREME)).sum(1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-3)
    chex.assert_tree_all_finite(
        [
            classification.soft_cross_entropy(jnp.asarray(EXTREME), TARGETS),
            gradient(classification.cross_entropy, EXTREME, LABELS),
            gradient(classification.soft_cross_entropy, EXTREME, TARGETS),
            gradient(lambda z: classification.entropy(jax.nn.softmax(z)), EXTREME),
        ]
    )


def test_entropy_of_a_certain_and_of_a_uniform_answer():
    probs = jnp.array([[0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [1e-40, 1.0, 0.0, 0.0]])
    np.testing.assert_allclose(classification.entropy(probs), [0, np.log(4), 0], atol=1e-6)
    chex.assert_tree_all_finite(gradient(classification.entropy, probs))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((B, K), (B, 1)), ((K,), (B,)), ((B, K), (B - 1,))],
    ids=["column of labels", "no batch axis", "fewer labels than logits"],
)
def test_wrong_shapes_are_refused(logits, labels):
    with pytest.raises(AssertionError):
        classification.cross_entropy(jnp.zeros(logits), jnp.zeros(labels, int))


def test_targets_of_another_shape_are_refused():
    with pytest.raises(AssertionError):
        classification.soft_cross_entropy(jnp.zeros((B, K)), jnp.zeros((1, K)))
