"""Adsh against the rule in float64, and apart from what ports make of the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.adsh import share
from tests.methods.golden import Golden, assert_gradients_equal

LARGEST = 1  # the class with the most labels, by design not the first


@pytest.fixture(scope="module")
def golden():
    return Golden("adsh")


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def guessed(logits):
    probs = softmax(logits)
    return probs.argmax(-1), probs.max(-1)


def renewed(method, golden, logits, thresholds):
    """The thresholds after an epoch whose network said `logits` of the pool."""
    state = method.init(golden.problem()) | {"thresholds": jnp.asarray(thresholds, jnp.float32)}
    refresh = jax.jit(method.refresh)
    return np.asarray(refresh(state, 3, jnp.asarray(logits, jnp.float32))["thresholds"])


def test_steps_and_epochs_are_those_of_the_rule(golden):
    """The base's own threshold is another one: it must not be read."""
    method = methods.make("adsh", base=dict(name="fixmatch", threshold=0.2))
    state, every = method.init(golden.problem()), method.refresh_every(golden.problem())
    num_differing = 0
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        for name in ("supervised", "consistency"):
            np.testing.assert_allclose(
                contributions[name], golden[f"step{n}/term/{name}"], rtol=1e-5, atol=1e-7
            )
        mask = golden[f"step{n}/mask/confident"]
        np.testing.assert_array_equal(loss.monitors["mask/base"].mask, mask)
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])
        num_differing += np.any(mask != golden[f"step{n}/port/mask"])
        state = loss.state
        if (n + 1) % every == 0:
            pool = jnp.asarray(golden[f"step{n}/evaluation/logits"], jnp.float32)
            state = method.refresh(state, n + 1, pool)
        np.testing.assert_allclose(
            state["thresholds"], golden[f"step{n}/state/thresholds"], rtol=1e-5
        )
    assert num_differing >= 3  # the ports make other masks


@pytest.mark.parametrize("case", range(7))
def test_thresholds_of_hard_cases(golden, case):
    """Absent classes, quotas of 0, no confident image of the largest class, none at all."""
    logits, previous, expected, quota = (
        golden[f"case{case}/{name}"] for name in ("logits", "previous", "thresholds", "quota")
    )
    thresholds = renewed(methods.make("adsh"), golden, logits, previous)
    np.testing.assert_allclose(thresholds, expected, rtol=1e-6)
    labels, confidences = guessed(logits)
    for k in np.flatnonzero((np.arange(5) != LARGEST) & (quota > 0)):
        mine = confidences[labels == k]
        assert np.sum(mine >= thresholds[k] - 1e-6) == quota[k]


@pytest.mark.parametrize("case", [3, 4, 6])
def test_nothing_confident_does_not_accept_everything(golden, case):
    """Ports accept all images of a class when the largest class gives no share, or quotas are 0."""
    logits, previous = golden[f"case{case}/logits"], golden[f"case{case}/previous"]
    labels, confidences = guessed(logits)
    ours = renewed(methods.make("adsh"), golden, logits, previous)
    theirs = golden[f"case{case}/port/thresholds"]
    for k in np.flatnonzero(np.arange(5) != LARGEST):
        mine = confidences[labels == k]
        assert np.all(mine >= theirs[k] - 1e-9) and np.mean(mine >= ours[k]) < 0.9


def test_every_class_accepts_the_share_of_the_largest(golden):
    """A network unsure of rare classes: one threshold accepts nothing of them, Adsh its share."""
    rng, counts = np.random.default_rng(0), np.array([40, 400, 20, 200, 100])
    labels = np.repeat(np.arange(5), counts)
    sureness = np.where(labels == LARGEST, 4.0, 1.5) * rng.uniform(0.5, 1.5, len(labels))
    logits = np.eye(5)[labels] * sureness[:, None]
    confidences = guessed(logits)[1]
    share_of_largest = np.mean(confidences[labels == LARGEST] >= 0.95)
    thresholds = renewed(methods.make("adsh"), golden, logits, np.full(5, 0.95))
    assert 0.3 < share_of_largest < 0.9
    for k in range(5):
        accepted = np.mean(confidences[labels == k] >= thresholds[k] - 1e-6)
        assert abs(accepted - share_of_largest) <= 1 / counts[k]
        assert k == LARGEST or not np.any(confidences[labels == k] >= 0.95)


def test_first_epoch_is_the_base_with_this_threshold(golden):
    problem = golden.problem()
    method = methods.make("adsh", threshold=0.9, base=dict(name="fixmatch", threshold=0.1))
    base = methods.make("fixmatch", threshold=0.9)
    ours, contributions, _ = golden.replay(method, 0, method.init(problem))
    theirs, expected, _ = golden.replay(base, 0, base.init(problem))
    np.testing.assert_array_equal(
        ours.monitors["mask/base"].mask, theirs.monitors["mask/base"].mask
    )
    np.testing.assert_allclose(contributions["consistency"], expected["consistency"], rtol=1e-6)
    assert np.all(golden["port/first_epoch_threshold"] < 0.4)  # theirs is exp(-0.95)


def test_shares_of_large_pools_are_exact():
    """Where the product exceeds 32 bits and float32 rounds."""
    rng = np.random.default_rng(1)
    for whole in (1, 7, 40_001, 1_281_167):
        part = int(rng.integers(whole + 1))
        sizes = np.array([0, 1, whole, 999_983, *rng.integers(1_300_000, size=4)], np.int64)
        for part_ in (0, part, whole):
            ours = share(jnp.asarray(sizes, jnp.int32), jnp.int32(part_), jnp.int32(whole))
            np.testing.assert_array_equal(ours, sizes * part_ // whole)
    np.testing.assert_array_equal(share(jnp.array([3, 4]), jnp.int32(0), jnp.int32(0)), [0, 0])


def test_what_cannot_be_wrapped_is_refused():
    with pytest.raises(core.InputError, match="method.threshold is 1.5"):
        methods.make("adsh", threshold=1.5)
    with pytest.raises(core.InputError, match="'adsh' cannot wrap TRAS"):
        methods.make("adsh", base=dict(name="tras"))
    with pytest.raises(core.InputError, match="method.base.pseudo_label_tau is 1.0; it must be 0"):
        methods.make("adsh", base=dict(name="fixmatch", pseudo_label_tau=1.0))
