"""FreeMatch against steps of USB (1ef4cbe) and TorchSSL (f26e1d4), and against its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods.freematch import FreeMatch
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden, assert_gradients_equal

K = 4
DEVICES = AxisDevices(None)
CONTEXT = core.Context(jnp.int32(0), jnp.int32(0), None, DEVICES)
TERMS = {"supervised": "labeled", "consistency": "unlabeled", "fairness": "fairness"}
STATE = {"confidence": "time_p", "probs": "p_model", "histogram": "label_hist"}


def variant(name):
    """The golden steps of one setting; `own_clip` has inputs of its own."""
    golden = Golden("freematch")
    golden.arrays |= golden.below(name)
    return golden


@pytest.mark.parametrize("name", ["", "torchssl", "own_clip"])
def test_steps_are_the_authors(name):
    """USB; TorchSSL at the rate of its settings; USB with a cap, and no accepted row in step 5."""
    golden = variant(name)
    method = FreeMatch(
        float(golden["hyper/ema_p"]),
        float(golden["hyper/lambda_u"]),
        float(golden["hyper/ent_loss_ratio"]),
        0.95 if golden["hyper/clip_thresh"] else 1.0,
    )
    state = method.init(golden.problem())
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        state = loss.state
        for ours, theirs in TERMS.items():
            expected = golden[f"step{n}/term/{theirs}"]
            np.testing.assert_allclose(contributions[ours], expected, rtol=2e-5, err_msg=ours)
        np.testing.assert_array_equal(loss.monitors["mask/base"].mask, golden[f"step{n}/mask/base"])
        for ours, theirs in STATE.items():
            expected = golden[f"step{n}/state/{theirs}"]
            np.testing.assert_allclose(state[ours], expected, rtol=2e-6, err_msg=ours)
        np.testing.assert_allclose(
            method.thresholds(state), golden[f"step{n}/used/threshold"], 1e-5
        )
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])


def test_the_golden_steps_hold_what_matters():
    """Partial masks; a capped average; a step without any accepted row."""
    masks = [Golden("freematch")[f"step{n}/mask/base"].mean() for n in range(7)]
    assert min(masks) < 0.9 and max(masks) > 0
    capped = variant("own_clip")
    assert any(capped[f"step{n}/state/time_p"] == np.float32(0.95) for n in capped.steps)
    assert not np.any(capped["step5/mask/base"]) and not np.any(capped["step5/grad/strong0/base"])


# --- against the equations ------------------------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def accepted(method, state, logits):
    state = {name: jnp.asarray(value, jnp.float32) for name, value in state.items()}
    return method.accept(state, jnp.asarray(logits, jnp.float32), None, CONTEXT)


def test_the_average_confidence_of_all_rows_is_the_threshold():
    """Not of those that pass: then it could only rise; and of this batch already."""
    state = {"confidence": 0.9, "probs": np.full(K, 0.25), "histogram": np.full(K, 0.25)}
    logits = np.random.default_rng(0).normal(size=(20, K))
    probs = softmax(logits)
    targets, after = accepted(FreeMatch(decay=0.5), state, logits)
    threshold = 0.5 * 0.9 + 0.5 * probs.max(axis=1).mean()
    prior = 0.5 * 0.25 + 0.5 * probs.mean(axis=0)
    np.testing.assert_allclose(after["confidence"], threshold, rtol=1e-6)
    np.testing.assert_allclose(after["probs"], prior, rtol=1e-6)
    shares = np.bincount(probs.argmax(axis=1), minlength=K) / 20
    np.testing.assert_allclose(after["histogram"], 0.5 * 0.25 + 0.5 * shares, rtol=1e-6)
    expected = probs.max(1) >= (threshold * prior / prior.max())[probs.argmax(1)]
    np.testing.assert_array_equal(targets.mask, expected)
    assert 0 < expected.sum() < 20


def test_classes_the_network_expects_less_have_lower_thresholds():
    prior = np.array([0.6, 0.3, 0.08, 0.02])
    method = FreeMatch(decay=0.9999)
    state = {"confidence": 0.8, "probs": prior, "histogram": prior}
    thresholds = method.thresholds({name: jnp.asarray(x) for name, x in state.items()})
    np.testing.assert_allclose(thresholds, 0.8 * prior / 0.6, rtol=1e-6)
    logits = np.log(0.6 * np.eye(K) + 0.1)  # confidence 0.7 for each class
    targets, _ = accepted(method, state, logits)
    np.testing.assert_array_equal(targets.mask, [0, 1, 1, 1])


def fairness_reference(probs, mask, prior, histogram):
    """The paper's fairness on arrays: sums over classes, one at a time."""
    kept = probs[mask > 0]
    answers = np.bincount(kept.argmax(axis=1), minlength=K) / len(kept)
    q = np.array([u / h if h else 0.0 for u, h in zip(kept.mean(axis=0), answers, strict=True)])
    r = np.array([p / h if h else 0.0 for p, h in zip(prior, histogram, strict=True)])
    return np.sum(r / r.sum() * np.log(q / q.sum() + 1e-12))


def fairness(z, mask, prior, histogram, weight=1.0):
    state = {"probs": jnp.asarray(prior), "histogram": jnp.asarray(histogram)}
    term = FreeMatch(fairness_weight=weight).fairness(
        state, jax.nn.softmax(z), jnp.asarray(mask), DEVICES
    )
    return reduce_terms({"fairness": term}, DEVICES)[0]


@pytest.fixture
def views():
    rng = np.random.default_rng(3)
    prior, histogram = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.7, 0.1, 0.2, 0.0])
    mask = (np.arange(12) % 3 > 0).astype(float)
    return 1.5 * rng.normal(size=(12, K)), mask, prior, histogram


def test_fairness_is_the_equation_and_its_gradient(views):
    """Its rows are a linear expansion, so its differences show whether the slope is right."""
    z, *rest = views
    single = [jnp.asarray(a, jnp.float32) for a in rest]
    value, gradient = jax.value_and_grad(fairness)(jnp.asarray(z, jnp.float32), *single)
    np.testing.assert_allclose(value, fairness_reference(softmax(z), *rest), rtol=1e-5)
    for row, column in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[row, column] = 1e-6
        up, down = (fairness_reference(softmax(z + s), *rest) for s in (step, -step))
        np.testing.assert_allclose(gradient[row, column], (up - down) / 2e-6, rtol=1e-3, atol=1e-5)
    assert np.any(np.asarray(gradient)[1]) and not np.any(np.asarray(gradient)[::3])


def test_without_an_accepted_row_there_is_neither_fairness_nor_nan(views):
    z, mask, *rest = views
    value, gradient = jax.value_and_grad(fairness)(
        jnp.asarray(z, jnp.float32), jnp.zeros(12), *map(jnp.float32, rest)
    )
    assert value == 0 and not np.any(gradient)


def test_descent_spreads_what_is_said_of_the_strong_views():
    """Answers are balanced, but those of the last class are weak: its probability rises."""
    z = np.zeros((40, K))
    z[np.arange(40), np.arange(40) % K] = np.where(np.arange(40) % K == K - 1, 0.5, 3.0)
    uniform, z = jnp.full(K, 1 / K), jnp.asarray(z, jnp.float32)
    weak_prior = jnp.asarray([0.3, 0.3, 0.3, 0.1])  # the model's own guesses are as weak there

    def last(z):
        return float(jnp.mean(jax.nn.softmax(z), axis=0)[-1])

    gradient = jax.grad(fairness)(z, jnp.ones(40), weak_prior, uniform)
    assert last(z - gradient) > last(z)


def test_settings_out_of_range_are_refused():
    for field, value in [("decay", 1.0), ("max_threshold", 95)]:
        with pytest.raises(core.InputError, match=f"method.{field} is {value}; it must be"):
            methods.make("freematch", **{field: value})
