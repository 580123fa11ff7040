"""SimPro: the authors' steps (LeapLabTHU/SimPro, aa2425d), and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.core import InputError
from ltssl_jax.methods.simpro import SimPro
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden, assert_gradients_equal

TERMS = {"labeled": "supervised", "unlabeled": "consistency"}
K, COUNTS = 3, np.array([8.0, 1.0, 3.0])


def context(step, steps_per_epoch=2):
    epoch = step // steps_per_epoch
    return core.Context(
        jnp.int32(step), jnp.int32(epoch), None, AxisDevices(None), steps_per_epoch, 100
    )


def close(ours, expected, what=""):
    np.testing.assert_allclose(ours, expected, rtol=3e-5, atol=1e-6, err_msg=what)


def test_steps_are_the_authors():
    golden = Golden("simpro")
    tau, threshold, decay = (golden[f"hyper/{n}"].item() for n in ("tau", "threshold", "ema_u"))
    method = SimPro(tau, threshold, decay)
    assert method == SimPro()  # their values are the defaults
    state = method.init(golden.problem())
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        state = loss.state
        for theirs, ours in TERMS.items():
            close(contributions[ours], golden[f"step{n}/term/{theirs}"], f"{n} {theirs}")
        close(sum(contributions.values()), golden[f"step{n}/total"], f"{n} total")
        close(loss.monitors["mask/base"].mask, golden[f"step{n}/mask/confidence"], f"{n} mask")
        # They close an epoch after its last step, we at the next one's first.
        closed = method.in_this_epoch(state, context(n + 1, int(golden["steps_per_epoch"])))
        for name, expected in golden.below(f"step{n}/state").items():
            close(closed[name], expected, f"{n} {name}")
        assert_gradients_equal(golden, n, gradient)


def test_targets_are_the_soft_guesses_of_the_authors():
    golden = Golden("simpro")
    weak = golden.said(0)["weak"].logits["base"]
    method, state = SimPro(), SimPro().init(golden.problem())
    logits = weak + 2 * jnp.log(jnp.full((1, 5), 0.2))
    batch, _ = golden.batch(0, golden.said(0))
    targets, _ = method.accept(state, logits, batch, context(0))
    close(targets.probs, golden["step0/target/base"])
    assert np.all((targets.probs > 0) & (targets.probs < 1))


# --- what it is for -------------------------------------------------------------------------------


def facts(num_unlabeled=96):
    return core.Problem(COUNTS, num_unlabeled, steps_per_epoch=2, total_steps=100)


def batch(labels, num_unlabeled):
    labels = jnp.asarray(labels, jnp.int32)
    labeled = core.Labeled(None, labels, jnp.arange(len(labels)))
    return core.Batch(labeled, core.Unlabeled(None, (), jnp.arange(num_unlabeled)))


def test_the_prior_of_the_pool_is_found_from_any_start():
    """Expectation and maximization on a pool whose classes an ideal network tells apart by odds."""
    pool = np.array([0.1, 0.2, 0.7])
    rng = np.random.default_rng(0)
    truth = rng.choice(K, 512, p=pool)
    # Log-likelihoods log P(x | y): what a network says that is trained with the priors added.
    x = 2.0 * np.eye(K)[truth] + rng.normal(size=(512, K))
    likelihood = jnp.asarray(2.0 * x - 2.0, jnp.float32)
    method = SimPro(tau=1.0, threshold=0.0, prior_decay=0.5)
    state = method.init(facts())
    seen = batch(np.repeat(np.arange(K), [8, 1, 3]), 512)

    @jax.jit
    def step(state, number):
        ctx = context(number)
        log_prior = jnp.log(method.in_this_epoch(state, ctx)["prior_unlabeled"])
        return method.accept(state, likelihood + log_prior[None, :], seen, ctx)[1]

    for number in range(61):
        state = step(state, number)
    found = state["prior_unlabeled"] / jnp.sum(state["prior_unlabeled"])
    np.testing.assert_allclose(found, np.bincount(truth) / 512, atol=0.03)
    # All images, as often as they are seen: 12 labeled ones to 512.
    both = (512 * np.asarray(found) + COUNTS) / (512 + 12)
    np.testing.assert_allclose(state["prior_all"], both, atol=0.01)


def test_priors_stand_still_within_an_epoch():
    method, logits = SimPro(threshold=0.0), jnp.asarray([[9.0, 0, 0], [0, 0, 9]])
    state = method.init(facts())
    priors = []
    for number in range(5):
        _, state = method.accept(state, logits, batch([0, 1], 2), context(number))
        priors.append(np.asarray(state["prior_unlabeled"]))
    np.testing.assert_array_equal(priors[0], priors[1])
    np.testing.assert_array_equal(priors[2], priors[3])
    assert np.abs(priors[1] - priors[2]).max() > 0.01 < np.abs(priors[3] - priors[4]).max()


def test_only_confident_guesses_count_and_by_their_probabilities():
    method, state = SimPro(threshold=0.6), SimPro().init(facts())
    probs = jnp.asarray([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    targets, state = method.accept(state, jnp.log(probs), batch([0, 0, 2], 3), context(0))
    np.testing.assert_array_equal(targets.mask, [1, 0, 1])
    close(state["count_unlabeled"], probs[0] + probs[2])
    np.testing.assert_array_equal(state["count_labeled"], [2, 0, 1])


def test_an_epoch_that_accepts_nothing_leaves_the_shape_of_the_prior():
    method = SimPro(threshold=1.0)
    state = method.init(facts())
    for number in range(3):
        logits = jnp.zeros((4, K))
        _, state = method.accept(state, logits, batch([0, 2], 4), context(number))
    close(state["prior_unlabeled"], np.full(K, 0.9 / 3))
    assert np.all(np.isfinite(state["prior_all"]))
    np.testing.assert_allclose(jnp.sum(state["prior_all"]), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("num_unlabeled", "weight"),
    [(96, 3 / 6), (103, 3 / 6), (5, 3 / 1)],
    ids=["whole", "cut", "few"],
)
def test_the_labeled_loss_is_weighed_by_whole_batches_in_a_pass(num_unlabeled, weight):
    """Twelve labeled images make three batches of four; the pool batches of 16, at least one."""

    class Says:
        def jointly(self, *views):
            return tuple(core.Outputs(v, {"base": v}) for v in views)

    labeled, unlabeled = jnp.zeros((4, K)), jnp.zeros((16, K))
    labels = jnp.zeros(4, jnp.int32)
    views = core.Batch(
        core.Labeled(labeled, labels, jnp.arange(4), (labeled,)),
        core.Unlabeled(unlabeled, (unlabeled, unlabeled), jnp.arange(16)),
    )
    method = SimPro()
    loss = method.loss(method.init(facts(num_unlabeled)), Says(), views, context(0))
    close(loss.terms["supervised"].weight, weight)


def test_it_is_scored_by_plain_logits():
    logits = jnp.asarray([[1.0, 2.0, 3.0]])
    network = lambda images: core.Outputs(images, {"base": logits})  # noqa: E731
    state = SimPro().init(facts())
    np.testing.assert_array_equal(SimPro().predict(state, network, None, 3), logits)


@pytest.mark.parametrize("wrong", [dict(tau=-1.0), dict(threshold=1.1), dict(prior_decay=2.0)])
def test_wrong_hyper_parameters_are_refused(wrong):
    with pytest.raises(InputError, match=f"method.{next(iter(wrong))}"):
        SimPro(**wrong)
