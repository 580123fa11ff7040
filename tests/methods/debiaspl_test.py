"""DebiasPL: steps of the authors' code (debiased-pseudo-labeling, 3d68ccb), and its idea."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.methods.debiaspl import DebiasPL
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import GivenForward, Golden, assert_gradients_equal

GOLDEN = Golden("debiaspl")
METHOD = DebiasPL(
    tau=float(GOLDEN["hyper/tau"]),
    momentum=float(GOLDEN["hyper/qhat_m"]),
    threshold=float(GOLDEN["hyper/threshold"]),
    unlabeled_weight=float(GOLDEN["hyper/lambda_u"]),
)
K, U = len(GOLDEN["labeled_counts"]), 6
CTX = core.Context(jnp.int32(0), jnp.int32(0), None, AxisDevices(None))


def test_steps_are_the_authors():
    state = METHOD.init(GOLDEN.problem())
    np.testing.assert_allclose(state, GOLDEN["init/qhat"])
    for n in GOLDEN.steps:
        step = GOLDEN.below(f"step{n}")
        weak = jnp.float32(step["view/weak/logits/base"])
        debiased = jax.nn.softmax(weak - METHOD.bias(state)[None, :])
        np.testing.assert_allclose(debiased, step["target/unlabeled"], rtol=1e-4)
        targets, _ = METHOD.accept(state, weak, None, CTX)
        np.testing.assert_array_equal(targets.labels, step["pseudo_label/unlabeled"])
        np.testing.assert_array_equal(targets.probs, np.eye(K)[step["pseudo_label/unlabeled"]])
        loss, contributions, gradient = GOLDEN.replay(METHOD, n, state)
        for ours, theirs in {"supervised": "labeled", "consistency": "unlabeled"}.items():
            np.testing.assert_allclose(contributions[ours], step[f"term/{theirs}"], rtol=2e-5)
        np.testing.assert_array_equal(loss.monitors["mask/base"].mask, step["mask/unlabeled"])
        assert_gradients_equal(GOLDEN, n, gradient)
        state = loss.state
        np.testing.assert_allclose(state, step["state/qhat"], rtol=1e-5)


def guessed(method, logits, num_steps):
    """The average after so many steps in which the network says the same."""
    average = method.init(core.Problem(np.ones(K), U, steps_per_epoch=1, total_steps=1))
    for _ in range(num_steps):
        targets, average = method.accept(average, logits, None, CTX)
    return targets, average


def test_what_is_guessed_too_often_is_guessed_less():
    """Two rows are nearly another class than 0, to which the network is biased.

    In the first step it does not know yet: what it guesses then counts from the next step on.
    """
    logits = jnp.tile(jnp.asarray([[3.0, 0, 0, 0, 0]]), (U, 1))
    logits = logits.at[0, 1].set(2.8).at[1, 4].set(2.8)
    method = DebiasPL(tau=0.5, momentum=0.0)
    before, after = (guessed(method, logits, n)[0].labels for n in (1, 2))
    np.testing.assert_array_equal(before, np.zeros(U))
    np.testing.assert_array_equal(after, [1, 4, 0, 0, 0, 0])
    plain, _ = guessed(DebiasPL(tau=0.0, momentum=0.0), logits, 2)
    np.testing.assert_array_equal(plain.labels, before)


def test_the_average_is_a_distribution_over_classes_that_forgets():
    """In one port it runs over classes, too, is 1/K for ever, and the method is FixMatch."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(U, K)), jnp.float32)
    probs = np.asarray(jax.nn.softmax(logits)).mean(axis=0)
    average = guessed(DebiasPL(momentum=0.8), logits, 3)[1]
    np.testing.assert_allclose(average, 0.8**3 / K + (1 - 0.8**3) * probs, rtol=1e-5)
    assert np.ptp(average) > 0.05


def consistency(method, average, strong, labels):
    """The terms of `learn`, and the gradient of the consistency on the strong view."""
    zeros, index = jnp.zeros((U, K)), jnp.arange(U)
    targets = core.Targets(jax.nn.one_hot(labels, K), labels, jnp.ones(U))

    def total(strong):
        views = {"labeled": zeros, "strong0": strong + 0}
        said = {name: core.Outputs(x, {"base": x}) for name, x in views.items()}
        batch = core.Batch(
            core.Labeled(views["labeled"], labels, index),
            core.Unlabeled(zeros, (views["strong0"],), index),
        )
        terms = method.learn(average, GivenForward(said, views), batch, targets, CTX)
        return jnp.sum(terms["consistency"].values)

    return jax.value_and_grad(total)(strong)


def test_classes_that_are_rare_among_guesses_have_the_larger_margins():
    average, labels = jnp.asarray([0.6, 0.2, 0.1, 0.07, 0.03]), jnp.arange(U) % K
    _, gradient = consistency(DebiasPL(tau=1.0), average, jnp.zeros((U, K)), labels)
    pull = -np.asarray(gradient)[np.arange(K), np.arange(K)]
    np.testing.assert_allclose(pull, 1.0 - average, rtol=1e-5)
    assert np.all(np.diff(pull) > 0)


def test_a_class_that_is_never_guessed_makes_nothing_infinite():
    average, labels = jnp.asarray([1.0, 0, 0, 0, 0]), jnp.arange(U) % K
    value, gradient = consistency(DebiasPL(), average, jnp.zeros((U, K)), labels)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    targets, _ = DebiasPL().accept(average, jnp.zeros((U, K)), None, CTX)
    assert np.all(np.isfinite(targets.probs)) and np.all(targets.labels > 0)


def test_all_views_share_one_pass():
    groups = []

    class Noted(GivenForward):
        def jointly(self, *views):
            groups.append(len(views))
            return super().jointly(*views)

        apart = None

    said = GOLDEN.said(0)
    batch, views = GOLDEN.batch(0, said)
    METHOD.loss(METHOD.init(GOLDEN.problem()), Noted(said, views), batch, CTX)
    assert groups[0] == 3


@pytest.mark.parametrize("field, value", [("tau", -1.0), ("momentum", 1.0), ("threshold", 80.0)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(core.InputError, match=f"method.{field} is {value}"):
        DebiasPL(**{field: value})
