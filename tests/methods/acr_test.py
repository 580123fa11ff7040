"""ACR: the authors' steps, and what adapts to the pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.losses.margins import log_prior
from ltssl_jax.losses.priors import anchor_log_priors
from ltssl_jax.methods.acr import ACR
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden, assert_gradients_equal

K = 5
COUNTS = np.array([7, 40, 3, 19, 11])  # as in the golden file, in no order
TERMS = {
    "Lx": "supervised",
    "Lu": "consistency",
    "Lx_b": "supervised_balanced",
    "Lu_b": "consistency_balanced",
}


@pytest.fixture(scope="module")
def golden():
    return Golden("acr")


def the_authors(golden, **changes):
    return ACR(
        golden["hyper/tau1"].item(),
        golden["hyper/tau12"].item(),
        golden["hyper/tau2"].item(),
        golden["hyper/threshold"].item(),
        golden["hyper/ema_u"].item(),
        int(golden["hyper/est_epoch"]),
        **changes,
    )


def close(ours, expected, what):
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-6, err_msg=what)


# The released code overwrites counts (see `ACR`); its authors' `train` with that one line replaced
# gave these two.
@pytest.mark.parametrize(("variant", "is_presence"), [("add_count", False), ("presence", True)])
def test_steps_are_the_authors(golden, variant, is_presence):
    method = the_authors(golden, is_presence=is_presence)
    is_labeled = np.arange(int(golden["num_unlabeled"])) < 20
    state = method.init(golden.problem(is_labeled=is_labeled))
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        assert golden.forward.passes == [["labeled", "weak", "strong0", "strong1"]]
        state = loss.state
        step = f"step{n}" if f"step{n}/{variant}/total" not in golden else f"step{n}/{variant}"
        close(sum(contributions.values()), golden[f"{step}/total"], f"{n} total")
        for name, ours in {"u_py": "pool_prior", "count_KL": "distances", "tau": "tau"}.items():
            close(state[ours], golden[f"{step}/state/{name}"], f"{n} {name}")
        if golden[f"{step}/total"] == golden[f"step{n}/total"]:
            check_what_variants_share(golden, n, loss, contributions, gradient)


def check_what_variants_share(golden, n, loss, contributions, gradient):
    for theirs, ours in TERMS.items():
        close(contributions[ours], golden[f"step{n}/term/{theirs}"], f"{n} {theirs}")
    for theirs, ours in {"mask_ss_t": "mask/base", "mask_ss_b_h2": "mask/balanced"}.items():
        np.testing.assert_array_equal(loss.monitors[ours].mask, golden[f"step{n}/mask/{theirs}"])
    assert_gradients_equal(golden, n, gradient)


# --- the estimate of the pool ---------------------------------------------------------------------


def facts(**changes):
    return core.Problem(COUNTS, 20, steps_per_epoch=4, total_steps=40)._replace(**changes)


def context(step):
    return core.Context(jnp.int32(step), jnp.int32(step // 4), None, AxisDevices(None), 4, 40)


def saying(labels, confident=True):
    """Logits of `balanced` that say these classes."""
    certainty = np.where(np.broadcast_to(confident, len(labels)), 20.0, 1.0)
    return jnp.asarray(np.eye(K)[np.asarray(labels)] * certainty[:, None], jnp.float32)


def tau_after(pool, num_epochs, method, state=None):
    """Tau when the pool's accepted labels have been these, batch by batch, for so many epochs."""
    state = state or method.init(facts())
    step = jax.jit(
        lambda state, n: method.observed(
            method.adapted(state, context(n)), saying(pool), jnp.arange(len(pool)), context(n)
        )
    )
    for n in range(4 * num_epochs):
        state = step(state, n)
    return method.adapted(state, context(4 * num_epochs))["tau"]


CONSISTENT = np.repeat(np.arange(K), [2, 10, 1, 5, 3])
REVERSED = np.repeat(np.arange(K), [5, 1, 10, 2, 3])


def test_tau_is_weaker_the_more_the_pool_resembles_the_labels():
    method = ACR(prior_decay=0.5, warmup_epochs=-1)
    taus = [float(tau_after(pool, 5, method)) for pool in (CONSISTENT, np.arange(K), REVERSED)]
    assert taus[0] < 2 / 3 - 0.05 < taus[1] < taus[2] - 0.2 < 2


def test_tau_is_a_third_first_and_then_it_moves():
    """A port that forgets the sum in every step stays at a third."""
    method = ACR(prior_decay=0.5, warmup_epochs=1)
    first, *later = (float(tau_after(REVERSED, e, method)) for e in (2, 3, 4))
    assert float(tau_after(REVERSED, 1, method)) == 2
    assert first == pytest.approx(2 / 3)
    assert all(tau > 0.8 for tau in later)


def observed(method, labels, confident=True, is_labeled=None):
    state, index = method.init(facts(is_labeled=is_labeled)), jnp.arange(len(labels))
    seen = method.observed(state, saying(labels, confident), index, context(4))
    return np.asarray(seen["pool_prior"]), np.asarray(seen["distances"])


def test_rows_add_up_or_classes_are_present():
    labels = [1, 1, 1, 4]
    rows, _ = observed(ACR(prior_decay=0.0, warmup_epochs=0), labels)
    np.testing.assert_allclose(rows, [0, 0.75, 0, 0, 0.25])
    classes, _ = observed(ACR(prior_decay=0.0, warmup_epochs=0, is_presence=True), labels)
    np.testing.assert_allclose(classes, [0, 0.5, 0, 0, 0.5])


@pytest.mark.parametrize("is_presence", [False, True])
def test_a_rejected_or_labeled_row_neither_counts_nor_erases(is_presence):
    method = ACR(prior_decay=0.0, warmup_epochs=0, is_presence=is_presence)
    is_labeled = np.arange(20) == 2
    prior, _ = observed(method, [1, 0, 0, 1], [True, True, True, False], is_labeled)
    np.testing.assert_allclose(prior, [0.5, 0.5, 0, 0, 0])


def test_an_empty_batch_changes_nothing():
    prior, distances = observed(ACR(warmup_epochs=0), [1, 2], [False, False])
    np.testing.assert_allclose(prior, 1 / K)
    assert not distances.any()


def test_a_class_that_is_never_seen_leaves_tau_finite():
    method = ACR(prior_decay=0.9, warmup_epochs=-1)
    state = method.init(facts()) | {"pool_prior": jnp.array([0.0, 0.5, 0.5, 0.0, 0.0])}
    tau = float(tau_after([1, 2], 2, method, state))
    assert 0 <= tau <= 2 and tau != pytest.approx(2 / 3)


def test_the_reversed_prior_is_by_rank(golden):
    anchors = jnp.exp(anchor_log_priors(log_prior(COUNTS)))
    np.testing.assert_allclose(anchors[2], golden["prior_reversed"], rtol=1e-6)


def test_it_predicts_by_the_balanced_head():
    logits = {"base": jnp.zeros((1, K)), "balanced": jnp.ones((1, K))}
    scores = ACR().predict(None, lambda images: core.Outputs(images, logits), jnp.zeros((1, 2)), 0)
    assert scores[0, 0] == 1 and "balanced" in ACR().scored_by(0)


@pytest.mark.parametrize(("field", "value"), [("threshold", 1.2), ("prior_decay", 1.0)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(core.InputError, match=f"method.{field} is {value}"):
        ACR(**{field: value})
