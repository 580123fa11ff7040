"""The estimators against closed forms and against simulated shifts whose truth is known."""

import numpy as np
import pytest

from ltssl_jax.inspection import frechet, probe, shift

DIMENSIONS = 12


def gaussians(counts, *, seed, distance=3.0):
    """Draws classes round means that every seed shares; returns features and labels."""
    means = np.random.default_rng(99).normal(size=(len(counts), DIMENSIONS))
    means *= distance / np.sqrt(DIMENSIONS)
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), DIMENSIONS))
    return (means[labels] + noise).astype(np.float32), labels


SHIFTS = {
    "consistent": [800, 400, 200, 100],
    "uniform": [400, 400, 400, 400],
    "reversed": [100, 200, 400, 800],
}


@pytest.mark.parametrize("name", SHIFTS)
def test_simulated_shifts_are_recovered_within_the_interval(name):
    labeled, labels = gaussians([200, 100, 50, 25], seed=0)
    pool, _ = gaussians(SHIFTS[name], seed=1)
    found = shift.estimate(labeled, labels, pool, num_classes=4)
    truth = np.array(SHIFTS[name]) / sum(SHIFTS[name])
    np.testing.assert_allclose(found.pool, truth, atol=0.05)
    assert ((found.low <= truth) & (truth <= found.high)).sum() >= 3
    assert found.low.min() >= 0 and np.all(found.low <= found.pool)
    assert found.balanced_accuracy > 0.7 and found.chance == 0.25
    moved = 0.5 * np.abs(truth - np.array([200, 100, 50, 25]) / 375).sum()
    assert found.distance[1] <= moved <= found.distance[2] < moved + 0.15


def test_many_classes_without_a_shift_are_not_taken_for_one():
    labeled, labels = gaussians([20] * 40, seed=0)
    pool, _ = gaussians([40] * 40, seed=1)
    distance, low, high = shift.estimate(labeled, labels, pool, num_classes=40).distance
    assert low < 0.02 and distance > 0.02 and high < 0.6


def test_a_few_rare_labels_are_not_estimated_by_themselves():
    group, groups = shift.grouped(np.array([73, 24, 3]))
    assert group.tolist() == [0, 1, 1] and [g.tolist() for g in groups] == [[0], [1, 2]]


def test_the_same_seed_gives_the_same_numbers():
    labeled, labels = gaussians([40, 20, 10], seed=0)
    pool, _ = gaussians([50, 50, 50], seed=1)
    once, again = (shift.estimate(labeled, labels, pool, num_classes=3) for _ in range(2))
    np.testing.assert_array_equal(once.low, again.low)
    np.testing.assert_array_equal(once.pool, again.pool)


def test_rare_classes_are_estimated_together():
    counts = [50, 1, 30, 0, 4, 5]
    group, groups = shift.grouped(np.array(counts))
    assert [g.tolist() for g in groups] == [[0], [2], [5], [4, 1]]
    np.testing.assert_array_equal(group, [0, 3, 1, -1, 3, 2])
    labeled, labels = gaussians(counts, seed=0, distance=5.0)
    pool, _ = gaussians([100] * 6, seed=1, distance=5.0)
    found = shift.estimate(labeled, labels, pool, num_classes=6)
    assert np.isfinite(found.pool).all() and found.pool.sum() == pytest.approx(1)
    assert found.pool[3] > 0.05  # 5 of 90 labeled images


def test_many_classes_are_estimated_in_groups_of_like_frequency():
    counts = np.random.default_rng(0).permutation(np.r_[np.arange(5, 505), 3, 2])
    group, groups = shift.grouped(counts)
    assert len(groups) == shift.MOST_GROUPS + 1 and group.min() == 0
    sizes = [counts[g] for g in groups]
    assert all(a.min() >= b.max() for a, b in zip(sizes[:-1], sizes[1:], strict=True))


def test_an_overconfident_probe_is_calibrated(monkeypatch):
    honest = probe.log_likelihoods
    monkeypatch.setattr(probe, "log_likelihoods", lambda *args: 8 * honest(*args))
    labeled, labels = gaussians([400, 200, 100, 50], seed=0, distance=2.0)
    pool, _ = gaussians(SHIFTS["reversed"], seed=1, distance=2.0)
    found = shift.estimate(labeled, labels, pool, num_classes=4)
    np.testing.assert_allclose(found.pool, np.array(SHIFTS["reversed"]) / 1500, atol=0.06)


@pytest.mark.parametrize(
    ("counts", "pool", "why"),
    [
        ([30, 20], [20, 20], "the pool has 40 images"),
        ([30, 4, 0], [100, 100, 100], "at least two classes"),
        ([3, 2, 1], [100, 100, 100], "at least two classes"),
    ],
)
def test_too_little_is_not_estimable(counts, pool, why):
    labeled, labels = gaussians(counts, seed=0)
    with pytest.raises(shift.NotEstimable, match=why):
        shift.estimate(labeled, labels, gaussians(pool, seed=1)[0], num_classes=len(counts))


def test_a_blind_probe_is_not_estimable():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 40)
    labeled, pool = rng.normal(size=(2, 320, DIMENSIONS)).astype(np.float32)
    with pytest.raises(shift.NotEstimable, match="does not see these classes.*guessing gives 12%"):
        shift.estimate(labeled, labels, pool, num_classes=8)


def test_maximize_is_the_fixed_point_of_saerens():
    rng = np.random.default_rng(0)
    prior = np.array([0.6, 0.3, 0.1])
    probs = rng.dirichlet(10 * prior, 400)
    found = shift.maximize(probs, prior)
    posterior = probs * (found / prior)[None, :]
    posterior /= posterior.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior.mean(axis=0), found, atol=1e-4)
    certain = np.eye(3)[rng.choice(3, 1000, p=[0.2, 0.3, 0.5])]
    np.testing.assert_allclose(shift.maximize(certain, prior), certain.mean(axis=0), atol=1e-6)
    held = shift.maximize(certain, prior, held_back=1.0)
    np.testing.assert_allclose(held, (certain.mean(axis=0) + prior) / 2, atol=1e-4)


def test_probe_is_the_predictive_density():
    labeled, labels = gaussians([60, 1, 0, 9], seed=0)
    found = probe.fit(labeled, labels, 4)
    x, _ = gaussians([5, 5, 5, 5], seed=1)
    z = (x @ found.projection).astype(np.float64)
    expected = -0.5 * np.stack(
        [((z - m) ** 2 / v + np.log(v)).sum(1) for m, v in zip(*found[1:], strict=True)], 1
    )
    difference = probe.log_likelihoods(found, x) - expected
    np.testing.assert_allclose(difference - difference[:, :1], 0, atol=1e-3)
    assert np.all(found.variance[2].max() > found.variance[0].max() + 0.1)
    # The fewer images, the wider the class; without any it is as wide as all means lie apart.
    assert np.all(found.variance[0] <= found.variance[3] + 1e-6)
    assert np.all(found.variance[3] <= found.variance[1] + 1e-6)
    assert np.all(found.variance[1] <= found.variance[2] + 1e-6)


def test_projection_keeps_the_largest_variances():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 6)).astype(np.float32) * np.array([1, 9, 2, 5, 0.1, 3])[None]
    found = probe.project(features, 3).var(axis=0)
    np.testing.assert_allclose(found, np.sort(features.var(axis=0))[::-1][:3], rtol=0.05)


def test_frechet_distance_in_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # exactly N(0, 1)
    y = x * np.array([1.0, 2.0, 3.0])[None, :] + np.array([1.0, 0, 2.0])[None, :]
    # |m|^2 + sum of (1 - s)^2
    assert frechet.squared_distance(x, y) == pytest.approx(1 + 4 + 0 + 1 + 4)
    assert frechet.squared_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_comparison_tells_a_difference_from_none():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(800, 40)).astype(np.float32)
    same = frechet.compare(rng.normal(size=(200, 40)).astype(np.float32), pool)
    other = frechet.compare(rng.normal(0.5, 1, size=(200, 40)).astype(np.float32), pool)
    assert same.num_images == other.num_images == 200
    assert same.distance < 1.3 * same.yardstick_high
    assert other.low > other.yardstick_high
    assert same.low <= same.yardstick <= same.high
    # In units of the pool's variance, 32: the means are apart by 0.5 in each direction.
    assert other.distance - other.yardstick == pytest.approx(0.25, rel=0.3)
    assert frechet.compare(pool[:63], pool) is None and frechet.compare(pool, pool[:126]) is None
