"""The refinement of DARP against the authors' own functions (bbuing9/DARP, 64a94b4)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import refine

GOLDEN = dict(np.load(pathlib.Path(__file__).parents[1] / "golden" / "darp.npz"))
CASES = range(int(GOLDEN["num_cases"]))
solve = jax.jit(refine.match_class_sums, static_argnames="num_iterations")


def case(i, *names):
    return [GOLDEN[f"case{i}/{name}"] for name in names]


@pytest.mark.parametrize("i", CASES)
def test_the_surest_guesses_of_each_class_are_kept(i):
    target, alpha, expected = case(i, "target", "alpha", "denoised")
    probs = jnp.asarray(GOLDEN["probabilities"], jnp.float32)
    denoised = refine.denoise(probs, jnp.asarray(target, jnp.float32), alpha=float(alpha))
    np.testing.assert_allclose(denoised, expected, rtol=2e-4, atol=1e-8)


@pytest.mark.parametrize("i", CASES)
def test_as_far_as_the_authors_and_as_far_as_it_goes(i):
    """After as many turns theirs, whose secants stop within 0.1 of a root; after many, the only."""
    denoised, target, turns = case(i, "denoised", "target", "iterations")
    denoised, target = jnp.asarray(denoised, jnp.float32), jnp.asarray(target, jnp.float32)
    for num_iterations, name, distance in [(int(turns), "refined", 1e-3), (60, "converged", 1e-4)]:
        refined = np.exp(solve(denoised, target, num_iterations=num_iterations))
        np.testing.assert_allclose(refined, case(i, name)[0], atol=distance, err_msg=name)
        np.testing.assert_allclose(refined.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(refined.sum(axis=0), target, rtol=1e-3)


def test_guesses_with_the_wanted_sums_stay():
    probs = jnp.asarray(GOLDEN["probabilities"], jnp.float32)
    refined = solve(probs, jnp.sum(probs, axis=0), num_iterations=3)
    np.testing.assert_allclose(jnp.exp(refined), probs, atol=1e-5)


def test_sure_rows_move_least():
    sure, unsure = [0.998, 0.001, 0.001], [0.4, 0.3, 0.3]
    probs = jnp.asarray([sure, unsure] * 10)
    refined = jnp.exp(solve(probs, jnp.asarray([10.0, 5.0, 5.0]), num_iterations=50))
    moved = np.abs(refined - probs).max(axis=1)
    assert moved[0] < 0.02 and moved[1] > 0.3
    np.testing.assert_allclose(jnp.sum(refined, axis=0), [10, 5, 5], rtol=1e-3)


def test_permuted_classes_and_rows_permute_the_result():
    target = jnp.asarray(GOLDEN["case4/target"] * [1.2, 0.8, 1.1, 0.9, 1.0], jnp.float32)
    probs = jnp.asarray(GOLDEN["probabilities"], jnp.float32)
    rows, classes = np.random.default_rng(0).permutation(40), np.array([2, 0, 4, 3, 1])

    def refined(probs, target):
        return solve(refine.denoise(probs, target, alpha=1.5), target, num_iterations=5)

    ours = refined(probs[rows][:, classes], target[classes])
    np.testing.assert_allclose(ours, refined(probs, target)[rows][:, classes], rtol=1e-4, atol=1e-4)


def test_saturated_guesses_and_far_targets_stay_finite():
    """float32 near one-hot: entropies of 1e-5, and a rare class must become the most frequent."""
    rng = np.random.default_rng(0)
    num_rows, prior = 3000, np.array([0.7, 0.2, 0.06, 0.03, 0.01])
    probs = np.eye(5)[rng.choice(5, num_rows, p=prior)]
    probs[: num_rows // 3] = rng.dirichlet(np.full(5, 0.5), num_rows // 3)
    target = jnp.asarray(num_rows * prior[::-1], jnp.float32)
    kept = refine.denoise(jnp.asarray(probs, jnp.float32), target, alpha=2.0)
    refined = np.exp(solve(kept, target, num_iterations=20))
    assert np.all(np.isfinite(refined))
    distance = 0.5 * np.abs(refined.mean(axis=0) - prior[::-1]).sum()
    assert distance < 0.02
