"""Class densities, contrast and propagation against float64 NumPy loops, and what they promise."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import contrastive
from ltssl_jax.losses.consistency import sharpen

N, M, K, D = 4, 7, 3, 5
RNG = np.random.default_rng(0)
ROWS, KEYS = (2 * RNG.normal(size=(n, D)) for n in (N, M))
LABELS = np.array([0, 1, 2, 0, 0, 2, 1])
MEMBERSHIPS = np.eye(K)[LABELS]
MEMBERSHIPS[-1] = [0.2, 0.5, 0.3]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def densities(rows, keys, memberships, temperature=0.1, skips=lambda i, j: False):
    """One row and one key at a time: a weighted mean of the kernel over the keys of each class."""
    found = np.zeros((len(rows), memberships.shape[1]))
    for i, row in enumerate(unit(rows)):
        used = [j for j in range(len(keys)) if not skips(i, j)]
        kernel = np.exp(unit(keys)[used] @ row / temperature)
        found[i] = kernel @ memberships[used] / memberships[used].sum(0)
    return found


def as_jax(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_a_density_is_a_mean_over_the_keys_of_the_class(temperature):
    found = contrastive.class_densities(*as_jax(ROWS, KEYS, MEMBERSHIPS), temperature=temperature)
    expected = softmax(np.log(densities(ROWS, KEYS, MEMBERSHIPS, temperature)))
    np.testing.assert_allclose(jax.nn.softmax(found), expected, rtol=2e-4, atol=1e-7)


def test_repeating_the_keys_of_a_class_changes_no_density():
    """What makes the contrast class-balanced."""
    memberships, again = np.eye(K)[LABELS], np.flatnonzero(LABELS == 0)
    more = [np.concatenate([a, a[again], a[again]]) for a in (KEYS, memberships)]
    once, thrice = (
        jax.nn.softmax(contrastive.class_densities(*as_jax(ROWS, *keys)))
        for keys in ((KEYS, memberships), more)
    )
    np.testing.assert_allclose(once, thrice, rtol=1e-4)


def test_contrast_leaves_each_row_out_of_its_own_keys():
    rows, memberships = KEYS, MEMBERSHIPS
    probs = densities(rows, rows, memberships, skips=lambda i, j: i == j)
    probs /= probs.sum(1, keepdims=True)
    expected = -(memberships * np.log(probs)).sum(1)
    found = contrastive.contrast_with_others(*as_jax(rows, memberships))
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_a_row_without_memberships_counts_nowhere():
    kept = contrastive.contrast_with_others(*as_jax(KEYS, MEMBERSHIPS))
    rows = jnp.asarray(np.concatenate([KEYS, ROWS]), jnp.float32)
    memberships = jnp.asarray(np.concatenate([MEMBERSHIPS, np.zeros((N, K))]), jnp.float32)

    def total(rows):
        return jnp.sum(contrastive.contrast_with_others(rows, memberships))

    found = contrastive.contrast_with_others(rows, memberships)
    np.testing.assert_allclose(found[:M], kept, rtol=1e-4)
    np.testing.assert_array_equal(found[M:], 0)
    gradient = jax.grad(total)(rows)
    np.testing.assert_allclose(gradient[M:], 0, atol=1e-6)
    assert np.abs(gradient[:M]).max() > 0.1


def test_contrast_brings_rows_to_others_of_their_class():
    classes, rng = np.arange(12) % 3, np.random.default_rng(3)
    rows, memberships = as_jax(np.eye(3, D)[classes], np.eye(3)[classes])
    rows = rows + 0.6 * jnp.asarray(rng.normal(size=(12, D)), jnp.float32)

    def loss(rows):
        return jnp.mean(contrastive.contrast_with_others(rows, memberships))

    def share_of_the_nearest_that_are_alike(rows):
        cosines = unit(np.asarray(rows)) @ unit(np.asarray(rows)).T - 2 * np.eye(12)
        return np.mean(classes[cosines.argmax(1)] == classes)

    descend = jax.jit(lambda rows: rows - jax.grad(loss)(rows))
    assert share_of_the_nearest_that_are_alike(rows) < 0.8
    for _ in range(100):
        rows = descend(rows)
    assert share_of_the_nearest_that_are_alike(rows) == 1
    assert loss(rows) < 0.01


def test_propagation_is_where_mixing_in_the_neighbours_comes_to_rest():
    probs, similarity = softmax(RNG.normal(size=(N, K))), softmax(unit(ROWS) @ unit(ROWS).T)
    at_rest = probs
    for _ in range(200):
        at_rest = 0.6 * similarity @ at_rest + 0.4 * probs
    found = contrastive.propagate(*as_jax(probs, ROWS), strength=0.6)
    np.testing.assert_allclose(found, at_rest, rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(found, axis=1), 1, rtol=1e-6)


def test_propagation_lets_a_row_take_on_what_rows_like_it_say():
    rows = np.array([[1.0, 0], [1, 0.1], [1, -0.1], [-1, 0]])
    probs = np.array([[0.5, 0.5], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    found = contrastive.propagate(*as_jax(probs, rows), strength=0.5)
    assert found[0, 0] > 0.6 and found[3, 0] < found[0, 0]
    unchanged = contrastive.propagate(*as_jax(probs, rows), strength=0.0)
    np.testing.assert_allclose(unchanged, probs, rtol=1e-6)


def test_smoothed_contrast():
    first, second, target = (softmax(RNG.normal(size=(N, K))) for _ in range(3))
    mean = (first + second) / 2
    expected = -(target * np.log(first * second) + mean * np.log(mean)).sum(1) / 3
    found = contrastive.smoothed_contrast(*as_jax(first, second, target))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_where_rows_are_alike_or_zero_everything_is_finite_and_no_gradient_explodes():
    rows = jnp.stack([jnp.ones(D), jnp.ones(D), -jnp.ones(D), jnp.zeros(D)])
    memberships = jnp.concatenate([jnp.ones((2, 2)), jnp.eye(2)])

    def total(rows):
        guesses = contrastive.smoothed_guesses(rows, rows, memberships)
        contrast = contrastive.smoothed_contrast(guesses, guesses[::-1], sharpen(guesses, 0.25))
        return jnp.sum(contrast) + jnp.sum(contrastive.contrast_with_others(rows, memberships))

    value, gradient = jax.value_and_grad(total)(rows)
    chex.assert_tree_all_finite(value)
    np.testing.assert_array_equal(gradient[-1], 0)
    assert np.abs(gradient).max() < 100


def test_only_directions_count():
    stretched = ROWS * RNG.uniform(0.1, 10, (N, 1))
    found = [contrastive.smoothed_guesses(*as_jax(r, KEYS, MEMBERSHIPS)) for r in (ROWS, stretched)]
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_wrong_shapes_are_refused():
    rows, keys, memberships = as_jax(ROWS, KEYS, MEMBERSHIPS)
    with pytest.raises(AssertionError):
        contrastive.class_densities(rows, keys[1:], memberships)
    with pytest.raises(AssertionError):
        contrastive.contrast_with_others(rows, memberships)
    with pytest.raises(AssertionError):
        contrastive.propagate(memberships, rows)
