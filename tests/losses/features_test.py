"""Guesses by features against float64 NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, parallel
from ltssl_jax.losses import features
from ltssl_jax.training.forward import AxisDevices

U, K, D = 6, 4, 3
RNG = np.random.default_rng(11)
FEATURES, PROTOTYPES = RNG.normal(size=(U, D)), RNG.normal(size=(K, D))
PROBS, OTHER = RNG.dirichlet(np.ones(K), (2, U))


def softmax(logits):
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-7)


def test_prototype_probs_fall_with_the_distance():
    distance = np.array([[np.sqrt(np.sum((f - p) ** 2)) for p in PROTOTYPES] for f in FEATURES])
    ours = features.prototype_probs(jnp.asarray(FEATURES), jnp.asarray(PROTOTYPES), temperature=0.5)
    close(ours, softmax(-distance / 0.5))
    at_them = features.prototype_probs(PROTOTYPES, PROTOTYPES, temperature=0.05)
    assert np.argmax(at_them, axis=1).tolist() == list(range(K))


def test_centered_targets_are_over_the_features():
    center = RNG.normal(size=D)
    ours = features.centered_targets(jnp.asarray(FEATURES), jnp.asarray(center), temperature=0.2)
    close(ours, softmax((FEATURES - center) / 0.2))


def test_centering_takes_away_what_all_rows_share():
    shared = np.array([5.0, 0.0, -5.0])
    ours = features.centered_targets(FEATURES + shared, shared, temperature=0.2)
    close(ours, features.centered_targets(FEATURES, np.zeros(D), temperature=0.2))


def test_mix_by_class_is_on_the_simplex():
    """Released code leaves a mixture that does not sum to 1."""
    weights = np.array([0.0, 0.1, 0.4, 0.9])
    ours = features.mix_by_class(jnp.asarray(PROBS), jnp.asarray(OTHER), jnp.asarray(weights))
    mixed = (1 - weights) * PROBS + weights * OTHER
    assert np.abs(mixed.sum(axis=1) - 1).max() > 0.05
    close(ours, mixed / mixed.sum(axis=1, keepdims=True))
    close(features.mix_by_class(PROBS, OTHER, weights, is_normalized=False), mixed)


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_hard_example_weights_grow_with_entropy(share):
    log_base_k = np.log(PROBS) / np.log(K)
    ours = features.hard_example_weights(jnp.asarray(PROBS), share=share)
    close(ours, share * -(PROBS * log_base_k).sum(axis=1) + 1 - share)
    extremes = features.hard_example_weights(
        jnp.stack([jnp.eye(K)[0], jnp.full(K, 1 / K)]), share=share
    )
    close(extremes, [1 - share, 1])


def test_a_mixture_that_left_the_simplex_weighs_as_if_cut():
    """As released a guess of prototypes can have a weight above 1."""
    found = features.hard_example_weights(jnp.array([[1.3, -0.4, 0.1, 0.0]]), share=0.75)
    close(found, [0.25 + 0.75 * -0.1 * np.log(0.1) / np.log(K)])


SIZES = [(8, 8, 8, 8), (4, 8, 8, 8)]  # one and two unlabeled rows by labeled one


def outputs(sizes):
    """Views whose rows are told apart by their features; logits are the same numbers."""
    rows = jnp.asarray(np.random.default_rng(5).normal(size=(sum(sizes), D)), jnp.float32)
    views = jnp.split(rows, np.cumsum(sizes)[:-1])
    return rows, [core.Outputs(view, {"base": view}) for view in views]


def dealt(rows, sizes):
    """The interleaved batch: pile after pile."""
    num_piles = sum(sizes) // sizes[0]
    return jnp.concatenate([rows[pile::num_piles] for pile in range(num_piles)])


@pytest.mark.parametrize("sizes", SIZES)
def test_mixed_up_features_are_those_at_their_place_in_the_interleaved_batch(sizes):
    rows, views = outputs(sizes)
    found = features.mixed_up(views, AxisDevices(None))
    there = np.concatenate([view.features for view in found])
    np.testing.assert_array_equal(there, dealt(rows, sizes))
    for before, after in zip(views, found, strict=True):
        np.testing.assert_array_equal(after.logits["base"], before.features)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("mode", parallel.MODES)
def test_mixed_up_rows_are_those_of_all_devices_and_so_are_their_gradients(mode, sizes):
    runner = parallel.make(mode, num_devices=1 if mode == "jit" else 4)
    devices, (rows, views) = AxisDevices(runner.axis), outputs(sizes)

    def step(scale, views):
        def objective(scale):
            scaled = [v.replace(features=jnp.sin(v.features * scale[None, :])) for v in views]
            *_, last = features.mixed_up(scaled, devices)
            return jnp.mean(last.features * last.logits["base"])  # each row has its own weights

        return devices.mean(jax.grad(objective)(scale))

    def whole(scale):
        there = dealt(jnp.sin(rows * scale[None, :]), sizes)
        return jnp.mean(there[-sizes[-1] :] * rows[-sizes[-1] :])

    scale = jnp.array([0.5, 1.0, 2.0])
    found = runner.map(step)(runner.replicate(scale), runner.shard(views))
    np.testing.assert_allclose(found, jax.grad(whole)(scale), rtol=1e-5, atol=1e-6)


def test_extremes_stay_finite():
    far = 1e4 * jnp.asarray(FEATURES)
    chex.assert_tree_all_finite(
        [
            features.prototype_probs(far, -far[:K], temperature=0.1),
            features.centered_targets(far, jnp.zeros(D), temperature=0.01),
            jax.grad(lambda p: features.hard_example_weights(p, share=1.0).sum())(jnp.eye(K)),
        ]
    )


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        features.prototype_probs(jnp.ones((2, 3)), jnp.ones((4, 2)), temperature=1.0)
    with pytest.raises(AssertionError):
        features.centered_targets(jnp.ones((2, 3)), jnp.ones(2), temperature=1.0)
    with pytest.raises(AssertionError):
        features.mix_by_class(jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones(3))


def test_blend():
    logits, strength = 3 * RNG.normal(size=(U, K)), np.linspace(0, 1, U)
    mixed = (1 - strength)[:, None] * softmax(logits) + strength[:, None] * PROBS
    found = features.blend(*(jnp.asarray(x, jnp.float32) for x in (logits, PROBS, strength)))
    np.testing.assert_allclose(found, np.log(mixed), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(found).sum(1), 1, rtol=1e-5)


def test_blend_stays_finite_where_one_is_certain():
    logits = jnp.asarray([[1e4, 0.0, -1e4]] * 2)
    probs = jnp.asarray([[0.0, 0.0, 1.0]] * 2)
    found = features.blend(logits, probs, jnp.asarray([0.0, 1.0]))
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(jax.nn.softmax(found), np.eye(3)[[0, 2]], atol=1e-6)
