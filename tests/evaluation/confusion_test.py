"""The confusion matrix against scikit-learn, with padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ltssl_jax.evaluation import confusion

B, K = 64, 5
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, K - 1, B)  # the last class never occurs
PREDICTIONS = RNG.integers(0, K, B)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_equals_scikit_learn_and_excludes_padding(compiled, dtype):
    count = jax.jit(confusion.count, static_argnums=3) if compiled else confusion.count
    mask = np.arange(B) < 61
    found = count(*map(jnp.asarray, (LABELS, PREDICTIONS, mask.astype(dtype))), K)
    expected = confusion_matrix(LABELS[mask], PREDICTIONS[mask], labels=np.arange(K))
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == 61 and found.dtype == jnp.int32


def test_rows_are_true_classes():
    found = confusion.count(jnp.array([2, 2]), jnp.array([0, 0]), jnp.ones(2), 3)
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 0], [2, 0, 0]])


def test_batches_add_up():
    ones = jnp.ones(B // 2)
    halves = [
        confusion.count(jnp.asarray(LABELS[s]), jnp.asarray(PREDICTIONS[s]), ones, K)
        for s in (slice(B // 2), slice(B // 2, B))
    ]
    np.testing.assert_array_equal(sum(halves), confusion_matrix(LABELS, PREDICTIONS))


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        confusion.count(jnp.zeros(4, int), jnp.zeros((4, K), int), jnp.ones(4), K)
    with pytest.raises(AssertionError):
        confusion.count(jnp.zeros(4, int), jnp.zeros(4, int), jnp.ones(1), K)
