"""Transferred targets against float64 NumPy, published vectors and the reference code's values."""

import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import margins, transfer

U, K = 6, 4
RNG = np.random.default_rng(3)
LOGITS = 3 * RNG.standard_normal((U, K))
LABELS = np.array([3, 0, 1, 1, 2, 3])
PRIOR = np.array([0.55, 0.3, 0.1, 0.05])
STRENGTH = 2 * (1 / PRIOR) / (1 / PRIOR).sum() + 2
EXTREME = 1e4 * RNG.choice([-1.0, 1.0], (U, K))
COUNTS = np.array([1500, 899, 539, 323, 193, 116, 69, 41, 25, 15])
GOLDEN = pathlib.Path(__file__).parents[2] / "../shared/golden/tras_step.npz"


def softmax(logits):
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def transferred(logits, labels=LABELS, prior=PRIOR, strength=STRENGTH, **temperature):
    arrays = [jnp.asarray(a) for a in (logits, labels, np.log(prior), strength)]
    return transfer.tempered_transfer(*arrays, **temperature)


def reference(logits, labels, temperature):
    shifted = [z - STRENGTH[label] * np.log(PRIOR) for z, label in zip(logits, labels, strict=True)]
    return softmax(np.stack(shifted) / temperature)


class ReferenceTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_transfer_strength(self):
        found = self.variant(transfer.transfer_strength)(jnp.log(jnp.asarray(PRIOR)), 2.0, 2.0)
        np.testing.assert_allclose(found, STRENGTH, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_tempered_transfer(self):
        targets = self.variant(lambda z: transferred(z, temperature=3.0))(jnp.asarray(LOGITS))
        np.testing.assert_allclose(targets, reference(LOGITS, LABELS, 3), rtol=1e-4)


def test_published_strengths():
    expected = [2.0080, 2.0134, 2.0223, 2.0373, 2.0624, 2.1038, 2.1745, 2.2937, 2.4817, 2.8028]
    found = transfer.transfer_strength(margins.log_prior(COUNTS), 2.0, 2.0)
    np.testing.assert_allclose(found, expected, atol=6e-5)


@pytest.mark.parametrize(
    ("label", "target"),
    [
        (0, [0.15583, 0.36889, 0.47528]),
        (1, [0.11410, 0.35465, 0.53125]),
        (2, [0.07159, 0.32578, 0.60263]),
    ],
)
def test_published_targets(label, target):
    log_prior = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    strength = transfer.transfer_strength(log_prior, 2.0, 2.0)
    np.testing.assert_allclose(strength, [2.17391, 2.60870, 3.21739], atol=1e-5)
    logits, labels = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([label])
    found = transfer.tempered_transfer(logits, labels, log_prior, strength)
    np.testing.assert_allclose(found, [target], atol=1e-5)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs the reference values in ../shared")
def test_strengths_of_the_reference_code():
    golden = np.load(GOLDEN)
    found = transfer.transfer_strength(jnp.asarray(golden["log_prior"]), 2.0, 2.0)
    np.testing.assert_allclose(found, golden["strength_per_class"], rtol=1e-5)


def test_gradient_equals_the_formula():
    cotangent = RNG.standard_normal((U, K))
    found = jax.grad(lambda z: (transferred(z) * cotangent).sum())(jnp.asarray(LOGITS))
    probs = reference(LOGITS, LABELS, 2)
    expected = probs * (cotangent - (probs * cotangent).sum(1, keepdims=True)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_uniform_prior_only_tempers():
    uniform = np.full(K, 1 / K)
    strength = transfer.transfer_strength(jnp.log(jnp.asarray(uniform)), 2.0, 2.0)
    np.testing.assert_allclose(strength, np.full(K, 2.5), rtol=1e-6)
    found = transferred(LOGITS, prior=uniform, strength=RNG.uniform(2, 4, K))
    np.testing.assert_allclose(found, softmax(LOGITS / 2), rtol=1e-4)


def test_a_constant_added_to_the_logits_changes_nothing():
    shifted = transferred(LOGITS + RNG.standard_normal((U, 1)))
    np.testing.assert_allclose(shifted, transferred(LOGITS), rtol=1e-4)


def test_permuting_classes_permutes_results():
    order = np.array([2, 0, 3, 1])
    log_prior = jnp.log(jnp.asarray(PRIOR))
    np.testing.assert_allclose(
        transfer.transfer_strength(log_prior[order], 3.0, 1.0),
        transfer.transfer_strength(log_prior, 3.0, 1.0)[order],
        rtol=1e-6,
    )
    permuted = transferred(
        LOGITS[:, order], np.argsort(order)[LABELS], PRIOR[order], STRENGTH[order]
    )
    np.testing.assert_allclose(permuted, transferred(LOGITS)[:, order], rtol=1e-4)


def test_rarer_labels_move_more_probability_to_the_rarest_class():
    targets = transferred(np.zeros((K, K)), labels=np.arange(K))
    assert (np.diff(targets[:, -1]) > 0).all()


def test_extreme_logits_give_finite_targets_and_gradients():
    gradient = jax.grad(lambda z: (transferred(z)[:, 0]).sum())(jnp.asarray(EXTREME))
    chex.assert_tree_all_finite([transferred(EXTREME), gradient])


def test_an_empty_class_is_as_strong_as_one_of_a_single_example():
    log_prior = margins.log_prior(np.array([6, 0, 3]))
    strength = transfer.transfer_strength(log_prior, 2.0, 2.0)
    np.testing.assert_allclose(strength, [2 + 2 / 9, 2 + 12 / 9, 2 + 4 / 9], rtol=1e-6)
    chex.assert_tree_all_finite(
        transfer.tempered_transfer(jnp.zeros((2, 3)), jnp.array([0, 1]), log_prior, strength)
    )


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        transferred(LOGITS, labels=LABELS[:-1])
    with pytest.raises(AssertionError):
        transferred(LOGITS, strength=STRENGTH[:1])
