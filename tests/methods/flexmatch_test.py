"""FlexMatch against steps of TorchSSL (f26e1d4) and of USB, which agree, and against its idea."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.flexmatch import FlexMatch
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden, assert_gradients_equal

K, N_U = 4, 12
CONTEXT = core.Context(jnp.int32(0), jnp.int32(0), None, AxisDevices(None))


def variant(name):
    """The golden steps of one setting; all settings have the same inputs."""
    golden = Golden("flexmatch")
    golden.arrays |= golden.below(name)
    return golden


@pytest.mark.parametrize("name, threshold_warmup", [("", True), ("no_warmup", False)])
def test_steps_are_the_authors(name, threshold_warmup):
    golden = variant(name)
    assert bool(golden["hyper/thresh_warmup"]) == threshold_warmup
    method = FlexMatch(
        float(golden["hyper/p_cutoff"]),
        float(golden["hyper/lambda_u"]),
        threshold_warmup=threshold_warmup,
    )
    state = method.init(golden.problem())
    for n in golden.steps:
        np.testing.assert_allclose(state["status"], golden[f"step{n}/used/classwise_acc"], 1e-6)
        loss, contributions, gradient = golden.replay(method, n, state)
        for ours, theirs in {"supervised": "labeled", "consistency": "unlabeled"}.items():
            expected = golden[f"step{n}/term/{theirs}"]
            np.testing.assert_allclose(contributions[ours], expected, rtol=1e-5, err_msg=ours)
        np.testing.assert_array_equal(loss.monitors["mask/base"].mask, golden[f"step{n}/mask/base"])
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])
        state = loss.state
        np.testing.assert_array_equal(
            state["pseudo_labels"], golden[f"step{n}/state/selected_label"]
        )
        np.testing.assert_allclose(state["status"], golden[f"step{n}/state/classwise_acc"], 1e-6)


def test_the_golden_steps_hold_what_matters():
    """Partial masks, rows that count without being remembered, labels that change."""
    golden = Golden("flexmatch")
    masks, selected, labels = (
        np.array([golden[f"step{n}/{key}"] for n in golden.steps])
        for key in ("mask/base", "mask/select", "state/selected_label")
    )
    assert np.any((masks.mean(axis=1) > 0) & (masks.mean(axis=1) < 1))
    assert np.any(masks > selected) and np.all(masks >= selected)
    was, now = labels[:-1], labels[1:]
    assert np.any((was >= 0) & (was != now)) and not np.any((was >= 0) & (now < 0))


# --- against the equations ------------------------------------------------------------------------


def status_reference(remembered, before, threshold_warmup):
    """The paper's normalized learning effect, one class at a time."""
    counts = {c: int(np.sum(remembered == c)) for c in (-1, *range(K))}
    if max(counts.values()) == len(remembered):
        return before
    divisor = max(n for c, n in counts.items() if threshold_warmup or c >= 0)
    return np.array([counts[k] / divisor for k in range(K)])


@pytest.mark.parametrize("threshold_warmup", [True, False])
@pytest.mark.parametrize(
    "remembered",
    [
        [-1] * N_U,
        [2] * N_U,
        [-1] * 9 + [0, 0, 3],
        [-1] * 2 + [0] * 6 + [1, 1, 1, 3],
        [0] * 6 + [1] * 3 + [2, 3, 3],
    ],
)
def test_status_is_the_equation(remembered, threshold_warmup):
    remembered, before = np.array(remembered, np.int32), np.array([0.3, 1.0, 0.0, 0.25])
    method = FlexMatch(threshold_warmup=threshold_warmup)
    ours = method.status(jnp.asarray(remembered), jnp.asarray(before, jnp.float32))
    expected = status_reference(remembered, before, threshold_warmup)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def accepted(method, status, logits, index, remembered=None):
    remembered = np.full(N_U, -1) if remembered is None else remembered
    state = {
        "pseudo_labels": jnp.asarray(remembered, jnp.int32),
        "status": jnp.asarray(status, jnp.float32),
    }
    unlabeled = core.Unlabeled(None, (), jnp.asarray(index, jnp.int32))
    batch = core.Batch(None, unlabeled)
    return method.accept(state, jnp.asarray(logits, jnp.float32), batch, CONTEXT)


def confident(labels, confidences):
    """Logits whose softmax has these maxima there."""
    probs = np.repeat((1 - np.array(confidences))[:, None] / (K - 1), K, axis=1)
    probs[np.arange(len(labels)), labels] = confidences
    return np.log(probs)


def test_classes_that_are_hardly_learned_have_lower_thresholds():
    """The same confidence counts for a class of half the status, and not for the one in front."""
    status = [1.0, 0.5, 0.1, 0.0]  # thresholds 0.9, 0.3, 0.047, 0
    logits = confident([0, 1, 2, 3, 0], [0.7, 0.7, 0.7, 0.3, 0.91])
    targets, _ = accepted(FlexMatch(0.9), status, logits, np.arange(5))
    np.testing.assert_array_equal(targets.mask, [0, 1, 1, 1, 1])
    targets, _ = accepted(FlexMatch(0.9), [1.0] * K, logits, np.arange(5))
    np.testing.assert_array_equal(targets.mask, [0, 0, 0, 0, 1])  # all learned: FixMatch
    # Just below and above 0.9 * 0.5 / (2 - 0.5): the mapping is convex.
    targets, _ = accepted(FlexMatch(0.9), [0.5] * K, confident([1, 1], [0.29, 0.31]), [0, 1])
    np.testing.assert_array_equal(targets.mask, [0, 1])


def test_the_fixed_threshold_says_what_is_remembered_and_nothing_is_forgotten():
    before = np.array([2, 2, -1, -1, *[-1] * 8])
    logits = confident([1, 1, 1, 1], [0.95, 0.7, 0.95, 0.7])
    targets, state = accepted(FlexMatch(0.9), [0.1] * K, logits, np.arange(4), before)
    np.testing.assert_array_equal(targets.mask, [1, 1, 1, 1])
    np.testing.assert_array_equal(state["pseudo_labels"], [1, 2, 1, -1, *[-1] * 8])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_an_image_shown_twice_keeps_the_confident_answer(order):
    """At the end of one pass over the pool and the beginning of the next."""
    logits = confident([1, 3], [0.95, 0.7])[order]
    _, state = accepted(FlexMatch(0.9), [1.0] * K, logits, [N_U - 1, N_U - 1])
    np.testing.assert_array_equal(state["pseudo_labels"], [-1] * (N_U - 1) + [1])


def test_a_step_is_judged_by_those_before_it():
    """Were the batch remembered first, its own class would raise the threshold against it."""
    logits = confident([0] * 6 + [1], [0.95] * 6 + [0.5])
    targets, state = accepted(FlexMatch(0.9, threshold_warmup=False), [0.0] * K, logits, range(7))
    assert np.all(targets.mask == 1)
    np.testing.assert_array_equal(state["status"], [1, 0, 0, 0])


def test_a_threshold_beyond_probabilities_is_refused():
    with pytest.raises(core.InputError, match="method.threshold is 95; it must be"):
        methods.make("flexmatch", threshold=95)
