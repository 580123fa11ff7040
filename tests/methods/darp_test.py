"""DARP: steps of the authors' own code (bbuing9/DARP, 64a94b4), and what the method is about.

The refinement by itself is tested in `tests/losses/refine_test.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.memory import pool
from ltssl_jax.methods.darp import DARP
from ltssl_jax.methods.remixmatch import ReMixMatch
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import GivenForward, Golden, assert_gradients_equal

BASE = dict(name="fixmatch", num_strong=2)


@pytest.fixture(scope="module")
def golden():
    return Golden("darp")


@pytest.fixture(scope="module")
def method(golden):
    return methods.make(
        "darp",
        alpha=float(golden["hyper/alpha"]),
        num_iterations=int(golden["hyper/iterations"]),
        refine_every=int(golden["hyper/num_iter"]),
        warmup_epochs=int(golden["hyper/warm"]),
        base=dict(BASE, threshold=float(golden["hyper/threshold"])),
    )


@pytest.fixture(scope="module")
def refresh(method):
    return jax.jit(method.refresh)


def softmax(z):
    e = np.exp(z - np.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def seen(golden, n, state):
    """The state that has seen the guesses of step `n`, as the authors have when they solve."""
    guesses = jnp.asarray(softmax(golden[f"step{n}/view/weak/logits/base"]), jnp.float32)
    index = jnp.asarray(golden[f"step{n}/index"], jnp.int32)
    return state | {"guessed": pool.put(state["guessed"], index, guesses, AxisDevices(None))}


def test_steps_are_the_authors(golden, method, refresh):
    """One epoch of warm-up, one with a solution every other step."""
    state, num_changed = method.init(golden.problem()), 0
    for n in golden.steps:
        if golden[f"step{n}/refreshed"]:
            state = refresh(seen(golden, n, state), n, None)
        loss, contributions, gradient = golden.replay(method, n, state)
        assert golden.forward.passes == [["weak"], ["labeled", "strong0", "strong1"]]
        for name in ("supervised", "consistency"):
            expected = golden[f"step{n}/term/{name}"]
            np.testing.assert_allclose(contributions[name], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(
            loss.monitors["mask/base"].mask, golden[f"step{n}/mask/confident"]
        )
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])
        weak = golden[f"step{n}/view/weak/logits/base"]
        is_changed = weak.argmax(1) != golden[f"step{n}/pseudo_label/refined"]
        np.testing.assert_array_equal(loss.monitors["changed/base"], is_changed)
        num_changed += is_changed.any()
        state = loss.state
        if f"step{n}/state/refined" in golden:
            expected = golden[f"step{n}/state/refined"]
            np.testing.assert_allclose(jnp.exp(state["log_refined"]), expected, atol=1e-3)
    np.testing.assert_allclose(state["guessed"], golden[f"step{n}/state/stored"], atol=1e-6)
    assert num_changed > 2


def filled(golden, method):
    """A state whose pool has been seen once, each image sure of something."""
    state = method.init(golden.problem())
    rng = np.random.default_rng(0)
    guesses = softmax(3.0 * rng.normal(size=state["guessed"].shape) + np.log([8, 40, 3, 19, 11]))
    return state | {"guessed": jnp.asarray(guesses, jnp.float32)}


def test_class_sums_become_those_of_the_pool(golden):
    """The idea: whatever the network says of the pool, what is learned has the wanted prior."""
    prior = (1.0, 2.0, 3.0, 2.0, 2.0)
    method = methods.make("darp", num_iterations=50, pool_prior=prior)
    state = filled(golden, method)
    before = jnp.mean(state["guessed"], axis=0)
    after = jnp.mean(jnp.exp(jax.jit(method.refined)(state)["log_refined"]), axis=0)
    assert np.abs(before - np.array(prior) / 10).max() > 0.15
    np.testing.assert_allclose(after, np.array(prior) / 10, atol=1e-4)


def test_nothing_is_refined_during_the_warm_up(golden, method, refresh):
    state = filled(golden, method)
    before, after = (refresh(state, step, None) for step in (4, 5))  # epochs 0 and 1
    jax.tree.map(np.testing.assert_array_equal, before, state)
    assert after["is_refined"] and not np.allclose(after["log_refined"], state["log_refined"])


def test_before_the_first_solution_the_base_learns_its_own_guesses(golden):
    """A port learns uniform rows then, whose most probable class is 0."""
    method = methods.make("darp", warmup_epochs=-1, base=dict(BASE, threshold=0.15))
    base = methods.make(**dict(BASE, threshold=0.15))
    ours, contributions, _ = golden.replay(method, 7, method.init(golden.problem()))
    _, expected, _ = golden.replay(base, 7, base.init(golden.problem()))
    np.testing.assert_array_equal(contributions["consistency"], expected["consistency"])
    assert np.all(ours.monitors["mask/base"].mask == 1) and not np.any(
        ours.monitors["changed/base"]
    )


def test_label_and_confidence_come_from_the_same_guess(golden, method):
    """Sure by itself, unsure once refined: not learned. A port keeps the confidence it had."""
    n, state = 9, method.init(golden.problem()) | {"is_refined": jnp.ones((), bool)}
    weak = golden[f"step{n}/view/weak/logits/base"]
    assert np.any(softmax(weak).max(1) > 0.95)
    loss, contributions, _ = golden.replay(method, n, state)  # all refined rows are uniform
    assert not np.any(loss.monitors["mask/base"].mask) and contributions["consistency"] == 0


def test_what_a_base_sharpens_is_refined_after_that():
    """Targets of ReMixMatch, made once, are stored; refined, they are learned as they are."""
    learned = []

    class Base(ReMixMatch):
        def learn(self, state, forward, batch, targets, ctx):
            learned.append(targets)
            return {}

    problem = core.Problem(np.array([7, 40, 3]), 4, steps_per_epoch=1, total_steps=9)
    method, logits = DARP(base=Base()), jnp.asarray([[3.0, 1, 0], [0, 2, 1]])
    views = {"weak": logits}
    batch = core.Batch(None, core.Unlabeled(logits, (), jnp.asarray([2, 0])))
    ctx = core.Context(jnp.int32(0), jnp.int32(0), None, AxisDevices(None))
    state = method.init(problem)
    accepted, of_base = method.base.accept(state["base"], logits, batch, ctx)
    refined = softmax(np.random.default_rng(0).normal(size=(4, 3)))
    for is_refined, expected in [(False, accepted.probs), (True, refined[[2, 0]])]:
        given = dict(is_refined=jnp.asarray(is_refined), log_refined=jnp.log(jnp.float32(refined)))
        forward = GivenForward({"weak": core.Outputs(logits, {"base": logits})}, views)
        loss = method.loss(state | given, forward, batch, ctx)
        np.testing.assert_allclose(learned[-1].probs, expected, rtol=1e-5)
        np.testing.assert_array_equal(learned[-1].labels, np.argmax(expected, axis=1))
        stored = np.asarray(loss.state["guessed"])[[2, 0]]
        np.testing.assert_allclose(stored, accepted.probs, rtol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, loss.state["base"], of_base)


def test_the_prior_is_that_of_the_labels_unless_it_is_given(golden):
    counts = np.array([7, 0, 3, 19, 11])
    problem = golden.problem()._replace(labeled_counts=counts)
    prior = methods.make("darp").init(problem)["pool_prior"]
    np.testing.assert_allclose(prior, np.maximum(counts, 1) / 41, rtol=1e-6)
    given = methods.make("darp", pool_prior=(1.0, 1.0, 1.0, 0.5, 0.5)).init(problem)["pool_prior"]
    np.testing.assert_allclose(given, [0.25, 0.25, 0.25, 0.125, 0.125], rtol=1e-6)
    with pytest.raises(core.InputError, match="one value for each of 5 classes"):
        methods.make("darp", pool_prior=(0.5, 0.5)).init(problem)


@pytest.mark.parametrize(
    "field, value",
    [("alpha", 0.0), ("num_iterations", 0), ("refine_every", 0), ("pool_prior", (0.5, 0.0))],
)
def test_values_that_cannot_be_are_refused(field, value):
    with pytest.raises(core.InputError, match=f"method.{field} is .*; it must be"):
        methods.make("darp", **{field: value})


def test_a_base_without_guesses_is_refused():
    with pytest.raises(core.InputError, match="'darp' cannot wrap TRAS"):
        methods.make("darp", base=dict(name="tras"))
