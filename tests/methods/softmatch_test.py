"""SoftMatch against steps of TorchSSL (f26e1d4) and of USB (1ef4cbe), and against the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.softmatch import SoftMatch
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden, assert_gradients_equal

K = 4
CONTEXT = core.Context(jnp.int32(0), jnp.int32(0), None, AxisDevices(None))
STATE = {"mean": "mu", "variance": "var", "prior": "p_model", "target": "p_target"}
RELEASES = {
    "torchssl": dict(target="labeled", statistics="raw"),
    "usb": dict(target="uniform", statistics="aligned"),
    "usb_labeled": dict(target="labeled", statistics="aligned"),
}


def released(name):
    """The golden steps of one release; all have the same inputs."""
    golden = Golden("softmatch")
    golden.arrays |= golden.below(name)
    return golden


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", RELEASES)
def test_steps_are_the_authors(name):
    golden = released(name)
    method = SoftMatch(
        float(golden["hyper/ema_p"]),
        float(golden["hyper/n_sigma"]),
        float(golden["hyper/lambda_u"]),
        **RELEASES[name],
    )
    state = method.init(golden.problem())
    if name != "torchssl":  # USB's average guess starts as that of the first batch
        first = softmax(golden["step0/view/weak/logits/base"]).mean(axis=0)
        state = state | {"prior": jnp.asarray(first, jnp.float32)}
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        state = loss.state
        for ours, theirs in {"supervised": "labeled", "consistency": "unlabeled"}.items():
            expected = golden[f"step{n}/term/{theirs}"]
            np.testing.assert_allclose(contributions[ours], expected, rtol=2e-5, err_msg=ours)
        weights = golden[f"step{n}/mask/base"]
        np.testing.assert_allclose(loss.monitors["mask/base"].mask, weights, rtol=1e-4)
        for ours, theirs in STATE.items():
            expected = golden[f"step{n}/state/{theirs}"]
            np.testing.assert_allclose(state[ours], expected, rtol=2e-5, err_msg=f"{n} {ours}")
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])


def test_the_releases_differ_and_hold_what_matters():
    """So no combination of options passes for another; labels are not those of aligned guesses."""
    weights = {
        name: np.array([released(name)[f"step{n}/mask/base"] for n in range(7)])
        for name in RELEASES
    }
    for name, other in [("torchssl", "usb"), ("usb", "usb_labeled"), ("usb_labeled", "torchssl")]:
        assert np.abs(weights[name] - weights[other]).max() > 0.05
    golden = released("usb")
    differs = [
        golden[f"step{n}/target/aligned"].argmax(axis=1) != golden[f"step{n}/pseudo_label/base"]
        for n in golden.steps
    ]
    assert np.sum(differs) >= 3


# --- the paper's combination, which neither release runs ------------------------------------------


def paper(state, logits, decay, num_sigmas):
    """The paper's algorithm: raw statistics, uniform target; float64."""
    probs = softmax(logits)
    confidence = probs.max(axis=1)
    mean = decay * state["mean"] + (1 - decay) * confidence.mean()
    variance = decay * state["variance"] + (1 - decay) * confidence.var(ddof=1)
    prior = decay * state["prior"] + (1 - decay) * probs.mean(axis=0)
    aligned = probs / K / prior
    aligned /= aligned.sum(axis=1, keepdims=True)
    below = np.minimum(aligned.max(axis=1) - mean, 0)
    weights = np.exp(-(below**2) / (2 * variance / num_sigmas**2))
    return probs.argmax(axis=1), weights, dict(mean=mean, variance=variance, prior=prior)


def accepted(method, state, logits):
    state = {name: jnp.asarray(value, jnp.float32) for name, value in state.items()}
    return method.accept(state, jnp.asarray(logits, jnp.float32), None, CONTEXT)


START = {
    "mean": 0.7,
    "variance": 0.02,
    "prior": np.array([0.55, 0.3, 0.1, 0.05]),
    "target": np.full(K, 0.25),
}


def test_the_defaults_are_the_paper():
    assert (SoftMatch().target, SoftMatch().statistics) == ("uniform", "raw")
    logits = 2 * np.random.default_rng(1).normal(size=(24, K))
    labels, weights, after = paper(START, logits, 0.8, 1.5)
    targets, state = accepted(SoftMatch(decay=0.8, num_sigmas=1.5), START, logits)
    np.testing.assert_array_equal(targets.labels, labels)
    np.testing.assert_array_equal(targets.probs, np.eye(K)[labels])
    np.testing.assert_allclose(targets.mask, weights, rtol=1e-4)
    for name, expected in after.items():
        np.testing.assert_allclose(state[name], expected, rtol=1e-5, err_msg=name)
    assert 0 < np.sum(weights < 1) < 24


def test_alignment_weighs_rare_classes_up_and_renames_none():
    """The same confidence for each class: the less expected it is, the more it counts."""
    expected = START | {"mean": 0.95, "prior": np.array([0.4, 0.3, 0.2, 0.1])}
    targets, _ = accepted(SoftMatch(), expected, np.log(0.8667 * np.eye(K) + 0.0333))
    assert np.all(np.diff(targets.mask) > 0)
    assert targets.mask[0] < 0.1 and targets.mask[-1] == 1
    # Aligned, this row is of the last class; its label stays the first.
    targets, _ = accepted(SoftMatch(), START, np.log([[0.5, 0.1, 0.05, 0.35]] * 2))
    np.testing.assert_array_equal(targets.labels, [0, 0])


def test_every_row_counts_something_and_those_above_the_mean_fully():
    logits = np.log(np.array([[0.97, 0.01, 0.01, 0.01], [0.4, 0.2, 0.2, 0.2]]))
    state = START | {"prior": np.full(K, 0.25)}
    targets, _ = accepted(SoftMatch(), state, logits)
    assert targets.mask[0] == 1 and 0 < targets.mask[1] < 0.1


def test_a_batch_of_one_row_has_no_variance_and_is_no_nan():
    targets, state = accepted(SoftMatch(decay=0.5), START, [[1.0, 0.0, 0.0, 0.0]])
    assert state["variance"] == np.float32(0.01) and np.all(np.isfinite(targets.mask))


def test_a_labeled_target_cannot_be_wrapped_between_its_parts():
    """`accept` alone would leave the target where it began: uniform."""
    core.check_slots("some", SoftMatch(), "guess", "accept", "supervised")
    core.check_slots("some", SoftMatch(target="labeled"), "supervised")
    with pytest.raises(core.InputError, match="'some' cannot wrap SoftMatch"):
        core.check_slots("some", SoftMatch(target="labeled"), "guess")


def test_a_labeled_target_follows_the_labeled_predictions_without_teaching_them():
    golden = released("torchssl")
    method = SoftMatch(decay=0.7, target="labeled", unlabeled_weight=100.0)
    loss, _, gradient = golden.replay(method, 0, method.init(golden.problem()))
    assert np.ptp(loss.state["target"]) > 0.01
    # The labeled rows' gradient is that of their own loss alone, however large the other term.
    said = golden.said(0)["labeled"].logits["base"]
    expected = (jax.nn.softmax(said) - np.eye(5)[golden["step0/labels"]]) / len(said)
    np.testing.assert_allclose(gradient["labeled"].logits["base"], expected, atol=1e-6)


def test_wrong_settings_are_refused():
    with pytest.raises(core.InputError, match="method.num_sigmas is 0; it must be positive"):
        methods.make("softmatch", num_sigmas=0)
    for field, word, near in [
        ("target", "labelled", "labeled"),
        ("statistics", "align", "aligned"),
    ]:
        with pytest.raises(core.InputError, match=f"did you mean '{near}'"):
            methods.make("softmatch", **{field: word})
