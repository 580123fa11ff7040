"""ABC: steps of the authors' own code (LeeHyuck/ABC, f70e926), and what the method is about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods import abc
from ltssl_jax.training.forward import AxisDevices, ExampleKeys
from tests.methods.golden import Golden, assert_gradients_equal

GOLDEN = Golden("abc")
COUNTS = GOLDEN["labeled_counts"]
K = len(COUNTS)
# Rows per class in proportion to the counts, as a long stream would show them.
LABELS = jnp.asarray(np.repeat(np.arange(K), 100 * COUNTS), jnp.int32)


@pytest.fixture
def draws(monkeypatch):
    """Lets the authors' draws of one step stand for ours, and hears the probabilities."""
    heard = {}

    def given(n):
        def stored(rng, stream, index, probs):
            heard[stream] = probs
            return jnp.asarray(GOLDEN[f"step{n}/random/{NAMES[stream]}"], jnp.float32)

        monkeypatch.setattr(abc, "drawn", stored)
        return heard

    return given


NAMES = {"keep_labeled": "labeled_keep", "keep_unlabeled": "unlabeled_keep"}


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_steps_are_the_authors(n, draws):
    method, heard = methods.make("abc"), draws(n)
    state = method.init(GOLDEN.problem())
    loss, contributions, gradient = GOLDEN.replay(method, n, state)

    def golden(key):
        return GOLDEN[f"step{n}/{key}"]

    expected = {
        "supervised": golden("term/labeled"),
        "consistency": golden("term/unlabeled"),
        "supervised_balanced": golden("term/abc_labeled"),
        "consistency_balanced": golden("term/abc_strong0") + golden("term/abc_strong1"),
    }
    assert set(contributions) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(contributions[name], value, rtol=2e-5, err_msg=name)
    assert_gradients_equal(GOLDEN, n, gradient)
    np.testing.assert_array_equal(loss.monitors["mask/balanced"].mask, golden("mask/balanced"))
    for stream, name in NAMES.items():
        np.testing.assert_allclose(heard[stream], golden(f"probability/{name}"), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, loss.state, state)


class Flat:
    """A `Forward` that is certain of one class on weak views, given by the image, else of none."""

    def __call__(self, images):
        return core.Outputs(images, {"base": images, "balanced": images})

    def apart(self, *views):
        return tuple(map(self, views))

    jointly = apart


def kept(epoch, *, step=0, ramp_epochs=10):
    """Which rows of a batch of `LABELS`, labeled and guessed, the terms of `balanced` count."""
    method = methods.make("abc", ramp_epochs=ramp_epochs)
    state = method.init(GOLDEN.problem())
    index, flat = jnp.arange(len(LABELS)), jnp.zeros((len(LABELS), K))
    batch = core.Batch(
        core.Labeled(flat, LABELS, index),
        core.Unlabeled(50.0 * jax.nn.one_hot(LABELS, K), (flat, flat), index),
    )
    rng = ExampleKeys(jax.random.key(step))
    ctx = core.Context(jnp.int32(step), jnp.int32(epoch), rng, AxisDevices(None))
    terms, _ = method.terms(state["kept"], Flat(), batch, ctx)
    labeled = terms["supervised_balanced"].values / np.log(K)
    return labeled, terms["consistency_balanced"].values / (2 * np.log(K))


def by_class(rows):
    return np.bincount(LABELS, weights=rows, minlength=K)


def test_all_classes_weigh_alike_in_the_labeled_term_and_at_the_ramps_end_in_the_other():
    """Without the draw the most frequent class would weigh thirteen times the rarest."""
    for rows in kept(epoch=10):
        assert np.all(np.isin(np.round(rows, 5), (0, 1)))  # both views of an image, or none
        np.testing.assert_allclose(by_class(rows), 100 * COUNTS.min(), rtol=0.2)


def test_unlabeled_rows_are_all_kept_at_first_then_fewer_and_never_fewer_than_labeled_ones():
    labeled, unlabeled = kept(epoch=0)
    np.testing.assert_allclose(unlabeled, 1.0, rtol=1e-5)
    assert by_class(labeled).max() < 1.3 * by_class(labeled).min()
    rho = COUNTS.min() / COUNTS
    half = by_class(kept(epoch=5)[1]) / (100 * COUNTS)
    np.testing.assert_allclose(half, 1 - 0.5 * (1 - rho), atol=0.06)
    later = by_class(kept(epoch=40)[1]) / (100 * COUNTS)
    np.testing.assert_allclose(later, rho, atol=0.06)


def test_each_step_and_each_stream_draws_anew():
    draws = [np.asarray(rows) > 0.5 for step in (0, 1) for rows in kept(epoch=10, step=step)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert np.mean(a != b) > 0.1


def test_a_class_without_labels_is_not_the_rarest():
    problem = core.Problem(np.array([1500, 150, 15, 0]), 9, steps_per_epoch=1, total_steps=1)
    state = methods.make("abc").init(problem)
    np.testing.assert_allclose(state["kept"], [0.01, 0.1, 1.0, 1.0])


def test_predicts_by_the_balanced_head_from_the_first_epoch_on():
    def network(images):
        return core.Outputs(images, {"base": jnp.zeros((1, K)), "balanced": jnp.ones((1, K))})

    method = methods.make("abc")
    scores = method.predict(method.init(GOLDEN.problem()), network, jnp.zeros((1, 2)), 0)
    assert np.all(np.asarray(scores) == 1.0) and "balanced" in method.scored_by(0)


def test_wraps_any_method_and_lets_it_work_on_the_pool():
    assert methods.make("abc", base=dict(name="supervised")).needs.strong == 1
    assert methods.make("abc").refresh_every(GOLDEN.problem()) == 0
    method, problem = methods.make("abc", base=dict(name="saw")), GOLDEN.problem()
    assert method.refresh_every(problem) == problem.steps_per_epoch
    state = method.init(problem)
    state["base"]["pseudo_labels"] = jnp.zeros(problem.num_unlabeled, jnp.int32)
    after = method.refresh(state, jnp.int32(2), None)
    weights = after["base"]["unlabeled_weights"]
    assert weights[0] < weights[1] and after["kept"] is state["kept"]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(base=dict(name="tras")), "without a head named 'balanced'"),
        (dict(base=dict(name="adsh")), "method.base is Adsh.* does not need the network's answers"),
        (dict(base=dict(name="cpe")), "method.base is CPE.* without branches"),
        (dict(threshold=1.5), "method.threshold is 1.5"),
        (dict(ramp_epochs=0), "method.ramp_epochs is 0"),
    ],
)
def test_refuses_what_cannot_work(settings, message):
    with pytest.raises(core.InputError, match=message):
        methods.make("abc", **settings)


def test_refuses_a_base_that_nobody_built():
    with pytest.raises(core.InputError, match="built by methods.make"):
        abc.ABC()
