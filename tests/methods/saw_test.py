"""SAW: epochs of the authors' own scripts (ZJUJeffLai/SAW_SSL, 44157ca), and what it is about."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.saw import SAW
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden, assert_gradients_equal

GOLDEN = Golden("saw")
K, N_U = 5, 24


def script(name):
    """The steps of one script: that for CIFAR-10, or that for STL-10."""
    golden = Golden("saw")
    if name == "stl10":
        golden.arrays |= GOLDEN.below("stl10")
    return golden


def weights(counts, beta=None):
    """The equations in float64; the average is taken before empty classes count as one image."""
    counts = np.asarray(counts, np.float64)
    average = counts.sum() / len(counts)
    beta = (average - 1) / average if beta is None else beta
    raw = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    return raw * len(counts) / raw.sum()


def saw(**changes):
    return methods.make("saw", **changes)


@pytest.mark.parametrize("name", ["cifar10", "stl10"])
def test_epochs_are_the_authors(name):
    """Four epochs of two steps; in the first, eight of 24 images are not seen."""
    golden, method = script(name), saw(is_label_weighted=name == "stl10")
    problem = golden.problem()
    assert method.refresh_every(problem) == problem.steps_per_epoch == 2
    state = method.init(problem)
    np.testing.assert_allclose(state["labeled_weights"], golden["step0/weights/labeled"], rtol=1e-5)
    for n in golden.steps:
        check_step(golden, method, n, state)
        loss, *_ = golden.replay(method, n, state)
        state = loss.state
        labels = golden[f"step{n}/state/pseudo_labels"]
        np.testing.assert_array_equal(state["pseudo_labels"], labels)
        if f"step{n}/state/histogram" in golden:
            state = method.refresh(state, jnp.int32(n + 1), None)
            state["unlabeled_weights"] = checked(golden, n, state["unlabeled_weights"])


def check_step(golden, method, n, state):
    loss, contributions, gradient = golden.replay(method, n, state)
    np.testing.assert_allclose(
        state["unlabeled_weights"], golden[f"step{n}/weights/unlabeled"], rtol=1e-5
    )
    np.testing.assert_array_equal(loss.monitors["mask/base"].mask, golden[f"step{n}/mask/base"])
    for ours, theirs in dict(supervised="labeled", consistency="unlabeled").items():
        expected = golden[f"step{n}/term/{theirs}"]
        np.testing.assert_allclose(contributions[ours], expected, rtol=2e-5, err_msg=f"{n} {ours}")
    assert_gradients_equal(golden, n, gradient)


def checked(golden, n, ours):
    """Theirs count images not seen yet as class 0: without those ours are the equations'."""
    histogram = golden[f"step{n}/state/histogram"]
    theirs = golden[f"step{n}/state/class_weights"]
    num_unseen = np.sum(golden[f"step{n}/state/pseudo_labels"] < 0)
    assert num_unseen == (8 if n == 1 else 0)
    np.testing.assert_allclose(weights(histogram), theirs, rtol=1e-5)
    np.testing.assert_allclose(ours, weights(histogram - num_unseen * np.eye(K)[0]), rtol=1e-5)
    return jnp.asarray(theirs, jnp.float32)


@pytest.mark.parametrize("table", ["toy", "zero", "cifar10_labeled", "cifar10_unlabeled"])
def test_class_weights_are_the_authors(table):
    """`zero` has empty classes, which count as one image, but not in the average."""
    found = GOLDEN.below(f"table/{table}")
    np.testing.assert_allclose(saw().weights(found["counts"]), found["adaptive"], rtol=2e-5)
    fixed = saw(beta=0.99).weights(found["counts"])
    np.testing.assert_allclose(fixed, found["fixed_0.99"], rtol=2e-5)


def test_unlabeled_weights_follow_the_guesses_and_not_the_labels():
    """A pool whose frequent classes are the rare ones of the labeled set turns the order around."""
    problem = core.Problem(np.array([40, 19, 11, 7, 3]), 80, steps_per_epoch=2, total_steps=4)
    method = saw()
    state = method.init(problem)
    np.testing.assert_array_equal(state["unlabeled_weights"], np.ones(K))
    guesses = np.repeat(np.arange(K), [3, 7, 11, 19, 40])
    state["pseudo_labels"] = jnp.asarray(guesses, jnp.int32)
    after = method.refresh(state, jnp.int32(2), None)
    np.testing.assert_allclose(
        after["unlabeled_weights"], after["labeled_weights"][::-1], rtol=1e-5
    )
    assert np.all(np.diff(after["unlabeled_weights"]) < 0)


def test_images_not_seen_yet_change_no_weight():
    method, problem = saw(), core.Problem(np.ones(3), 40, steps_per_epoch=1, total_steps=4)
    state = method.init(problem)
    seen = np.full(40, -1)
    seen[5:15] = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]
    state["pseudo_labels"] = jnp.asarray(seen, jnp.int32)
    after = method.refresh(state, jnp.int32(1), None)
    np.testing.assert_allclose(after["unlabeled_weights"], weights([6, 3, 1]), rtol=1e-5)
    nothing = method.refresh(method.init(problem), jnp.int32(1), None)
    np.testing.assert_array_equal(nothing["unlabeled_weights"], np.ones(3))


class Passes:
    """A `Forward` that answers with the images themselves and notes who went together first."""

    def __init__(self):
        self.groups, self._seen = [], set()

    def __call__(self, images):
        return self.jointly(images)[0]

    def apart(self, *views):
        return tuple(self(view) for view in views)

    def jointly(self, *views):
        new = {id(view) for view in views} - self._seen
        self._seen |= new
        self.groups += [len(new)] if new else []
        return tuple(core.Outputs(view, {"base": view}) for view in views)


def test_the_weak_view_goes_alone_and_all_others_together():
    """Labeled, strong, strong, in the authors' scripts, each in an array of its own here."""
    method, passes = saw(), Passes()
    x, w, s0, s1 = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, K)), jnp.float32)
    batch = core.Batch(
        core.Labeled(x, jnp.zeros(6, jnp.int32), jnp.arange(6)),
        core.Unlabeled(w, (s0, s1), jnp.arange(6)),
    )
    ctx = core.Context(jnp.int32(0), jnp.int32(0), None, AxisDevices(None))
    loss = method.loss(method.init(GOLDEN.problem()), passes, batch, ctx)
    assert passes.groups == [1, 3]
    np.testing.assert_array_equal(loss.state["pseudo_labels"][:6], np.argmax(w, axis=1))
    np.testing.assert_array_equal(loss.state["pseudo_labels"][6:], -1)


def test_refuses_what_cannot_work():
    with pytest.raises(core.InputError, match="'saw' cannot wrap TRAS: it changes guess"):
        saw(base=dict(name="tras"))
    with pytest.raises(core.InputError, match="method.beta is 1; it must be"):
        saw(beta=1)
    slots = ("guess", "accept", "supervised")
    busy = types.SimpleNamespace(slots=slots, refresh_every=lambda problem: 1)
    with pytest.raises(core.InputError, match="which works on the pool between"):
        SAW(base=busy)
