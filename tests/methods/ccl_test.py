"""CCL: the authors' steps (zhouzihao11/CCL, 0410cb1), and what it is for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.core import InputError
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods.ccl import CCL
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import GivenForward, Golden, assert_gradients_equal

TERMS = {
    "base_labeled": "supervised_base",
    "base_unlabeled": "consistency_base",
    "balanced_labeled": "supervised_balanced",
    "balanced_unlabeled": "consistency_balanced",
    "smoothed": "smoothed",
    "reliable": "reliable",
}
VIEWS = ("labeled", "weak", "strong0", "strong1", "labeled_contrastive0", "labeled_contrastive1")
K, COUNTS, INDEX = 3, np.array([8.0, 1.0, 3.0]), np.array([0, 1, 5])


def close(ours, expected, what=""):
    np.testing.assert_allclose(ours, expected, rtol=5e-5, atol=2e-6, err_msg=what)


# --- the authors' steps ---------------------------------------------------------------------------


class GoldenCCL(Golden):
    """A file with centers of classes and contrastive views, both as rows of length 1."""

    def __init__(self, name):
        super().__init__(name)
        # Our rows are given their length 1 after they leave the network: of a gradient with respect
        # to them, what would change their length is lost.
        for key in [k for k in self.arrays if "/grad/" in k and "/logits" not in k]:
            row = key.replace("/grad/", "/view/").replace("/projector", "/logits/projector")
            if key.endswith(("projector", "centers/features")):
                unit, gradient = self[row], self[key]
                along = np.sum(unit * gradient, axis=1, keepdims=True)
                self.arrays[key] = gradient - along * unit

    def problem(self, **changes):
        is_labeled = np.zeros(int(self["num_unlabeled"]), bool)
        for n in self.steps:
            is_labeled[self[f"step{n}/index"]] = self[f"step{n}/is_labeled"]
        return super().problem(is_labeled=is_labeled, **changes)

    def stepper(self, method):
        """`Golden.replay`, compiled once for all steps: this method takes many operations."""
        problem, devices = self.problem(), AxisDevices(None)

        def objective(said, state, labels, index, n, epoch):
            views = {name: jnp.zeros((1,)) for name in said}  # stand-ins, told apart by identity
            x, weak, s0, s1, c0, c1 = (views[name] for name in VIEWS)
            labeled = core.Labeled(x, labels, labels, (), (c0, c1))
            batch = core.Batch(labeled, core.Unlabeled(weak, (s0, s1), index))
            lengths = problem.steps_per_epoch, problem.total_steps
            ctx = core.Context(n, epoch, None, devices, *lengths)
            loss = method.loss(state, GivenCenters(said, views), batch, ctx)
            total, contributions = reduce_terms(loss.terms, devices)
            return total, (loss.state, loss.monitors, total, contributions)

        compiled = jax.jit(jax.grad(objective, has_aux=True))

        def step(n, state):
            labels, index, epoch = (
                jnp.asarray(self[f"step{n}/{name}"], jnp.int32)
                for name in ("labels", "index", "epoch")
            )
            return compiled(self.said(n), state, labels, index, jnp.int32(n), epoch)

        return step


class GivenCenters(GivenForward):
    """The centers stand where the weights of `balanced` go through their projection."""

    def kernel(self, name):
        assert name == "balanced"
        return self._said["centers"].features.T

    def head(self, name, features):
        assert name == "centers"
        return features


def the_authors(golden):
    hyper = {name: value.item() for name, value in golden.below("hyper").items()}
    same = {name: hyper[name] for name in ("tau", "threshold", "energy_threshold")}
    weights = {name: hyper[name] for name in ("lambda1", "lambda2", "alpha", "beta")}
    return CCL(**same, **weights, warmup_epochs=hyper["est_epoch"], update_every=hyper["upbatch"])


@pytest.mark.parametrize("name", ["ccl", "ccl_mu1"])
def test_steps_are_the_authors(name):
    golden = GoldenCCL(name)
    method, mu = the_authors(golden), int(golden["hyper/mu"])
    state, step = method.init(golden.problem()), golden.stepper(method)
    for n in golden.steps:
        fused = method.fused(state, golden.said(n)["weak"].logits, mu)
        close(jax.nn.softmax(fused), golden[f"step{n}/target/fused"], f"{n} guesses")
        gradient, (state, monitors, total, contributions) = step(n, state)
        close(total, golden[f"step{n}/total"], f"{n} total")
        for theirs, ours in TERMS.items():
            close(contributions[ours], golden[f"step{n}/term/{theirs}"], f"{n} {theirs}")
        masks = {"confidence": monitors["mask/confidence"].mask, "energy": monitors["mask/energy"]}
        for mask, values in masks.items():
            close(values, golden[f"step{n}/mask/{mask}"], f"{n} {mask}")
        for i, which in enumerate(("unlabeled", "all")):
            close(state["priors"][i], golden[f"step{n}/state/prior_{which}"], f"{n} {which}")
            close(state["counts"][i], golden[f"step{n}/state/count_{which}"], f"{n} {which}")
        if golden.below(f"step{n}/grad"):
            assert_gradients_equal(golden, n, gradient, atol=5e-6)


def test_the_files_hold_what_they_are_to_test():
    """Priors that move, counts that are dropped, gradients of the centers, few and many rows."""
    for name in ("ccl", "ccl_mu1"):
        golden = GoldenCCL(name)
        priors = [golden[f"step{n}/state/prior_all"] for n in golden.steps]
        assert np.abs(priors[-1] - priors[0]).max() > 0.04
        gradients = [k for k in golden.arrays if k.endswith("grad/centers/features")]
        assert len(gradients) == 3 and all(np.abs(golden[k]).max() > 1e-3 for k in gradients)
        masks = [golden[f"step{n}/mask/energy"] for n in golden.steps]
        assert all(0 < mask.sum() < len(mask) for mask in masks)


# --- what it is for -------------------------------------------------------------------------------


def facts(**changes):
    return core.Problem(COUNTS, 20, steps_per_epoch=3, total_steps=100, **changes)


def context(step):
    epoch = jnp.int32(step // 3)
    return core.Context(jnp.int32(step), epoch, None, AxisDevices(None), 3, 100)


def test_both_heads_together_answer_for_the_pool():
    """`base` knows the prior it was trained on, `balanced` none: aligned, both say the same."""
    rng = np.random.default_rng(0)
    likelihood = jnp.asarray(rng.normal(size=(6, K)), jnp.float32)
    pool, everything = jnp.asarray([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    method, mu = CCL(tau=2.0), 3
    state = method.init(facts()) | {"priors": jnp.stack([pool, everything])}
    trained = (COUNTS / COUNTS.sum() + mu * everything) / (1 + mu)
    weak = {"base": likelihood + jnp.log(trained)[None, :], "balanced": likelihood}
    guesses = jax.nn.softmax(method.fused(state, weak, mu))
    # (0 + (1 + tau / 2)) / 2 = 1: Bayes' rule with the prior of the pool.
    expected = jax.nn.softmax(likelihood + jnp.log(pool)[None, :])
    np.testing.assert_allclose(guesses, expected, rtol=1e-5)


def test_the_prior_of_the_pool_leaves_out_labeled_images_and_goes_by_energy():
    is_labeled = np.arange(20) < 2
    method = CCL(warmup_epochs=-1, update_every=1, alpha=0.0, beta=0.0, energy_threshold=-3.0)
    state = step(method, method.init(facts(is_labeled=is_labeled)), INDEX)
    # Rows 0 and 1 say class 0 for sure, row 2 class 1; the counts begin at 1.
    np.testing.assert_allclose(state["priors"][0], np.array([1, 2, 1]) / 4, atol=1e-3)
    np.testing.assert_allclose(state["priors"][1], np.array([3, 2, 1]) / 6, atol=1e-3)
    strict = CCL(warmup_epochs=-1, update_every=1, alpha=0.0, beta=0.0, energy_threshold=-99.0)
    state = step(strict, strict.init(facts()), INDEX)
    np.testing.assert_allclose(state["priors"][0], np.full(3, 1 / 3), atol=1e-6)
    np.testing.assert_allclose(state["priors"][1], np.array([3, 2, 1]) / 6, atol=1e-3)


def test_priors_wait_for_the_warm_up_and_counts_end_with_the_epoch():
    method = CCL(warmup_epochs=0, update_every=2, energy_threshold=-3.0)
    start = state = method.init(facts())
    moves, counts = [], []
    for number in range(6):
        before = state["priors"]
        state = step(method, state, INDEX, number)
        moves.append(not np.array_equal(before, state["priors"]))
        counts.append(float(jnp.sum(state["counts"][1])) - K)
    assert moves == [False, False, False, False, True, False]
    # Guesses of one step: 3. Those of the last step of an epoch are lost.
    np.testing.assert_allclose(counts, [3, 6, 0, 3, 0, 0], atol=1e-2)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, start)


class Says:
    """Says the same of every view: projections by class, and centers."""

    def __init__(self, logits):
        self.logits = logits

    def jointly(self, *views):
        return (core.Outputs(None, self.logits),) * len(views)

    def kernel(self, name):
        return jnp.eye(K)

    def head(self, name, features):
        return features


@functools.partial(jax.jit, static_argnames="method")
def step(method, state, index, number=0):
    """A step on three unlabeled images of classes 0, 0 and 1, as certain as can be."""
    labels, sure = jnp.asarray([0, 1, 2], jnp.int32), jnp.eye(K)[jnp.asarray([0, 0, 1])]
    says = Says({"base": 40.0 * sure, "balanced": 40.0 * sure, "projector": sure + 0.1})
    labeled = core.Labeled(None, labels, labels, (), (None, None))
    batch = core.Batch(labeled, core.Unlabeled(None, (None, None), index))
    return method.loss(state, says, batch, context(number)).state


def test_it_is_scored_by_the_balanced_head():
    logits = {"base": jnp.zeros((1, K)), "balanced": jnp.ones((1, K))}
    network = lambda images: core.Outputs(images, logits)  # noqa: E731
    assert CCL().predict(None, network, None, 3)[0, 0] == 1
    assert "balanced" in CCL().scored_by(0)


@pytest.mark.parametrize("wrong", [dict(threshold=1.1), dict(lambda1=-0.1), dict(beta=2.0)])
def test_wrong_hyper_parameters_are_refused(wrong):
    with pytest.raises(InputError, match=f"method.{next(iter(wrong))}"):
        CCL(**wrong)


def test_priors_that_would_never_move_are_refused():
    with pytest.raises(InputError, match="method.update_every"):
        CCL(update_every=4).init(facts())
