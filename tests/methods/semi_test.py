"""SeMi: golden steps, and what its memories are for.

Golden steps `as_released` are those of the authors' own `train`. The others are those of a float64
transcription; `train` gives the same numbers once its three faults are repaired: features cut from
the interleaved batch, a bank that drops its best features, a mixture that does not sum to 1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods.semi import SeMi
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import GivenForward, Golden, assert_gradients_equal

K, U, D = 3, 4, 2
TERMS = {
    "Lx": "supervised",
    "Lu": "consistency",
    "Lx_b": "supervised_balanced",
    "Lu_b": "consistency_balanced",
    "Lcons": "features",
}


def the_authors(golden, **changes):
    def hyper(name):
        return golden[f"hyper/{name}"].item()

    method = SeMi(
        pseudo_label_tau=hyper("tau12"),
        labeled_tau=hyper("tau2"),
        threshold=hyper("threshold"),
        prototype_weight=hyper("alpha"),
        prototype_temperature=hyper("tau_tar"),
        hardness=hyper("scale"),
        feature_weight=hyper("conswt"),
        feature_temperature=hyper("proto_t"),
        bank_size=int(hyper("mb_size")),
        bank_decay=hyper("bank_decay"),
        decay_every=int(hyper("decay_step")),
        warmup_epochs=int(hyper("est_epoch")),
    )
    return dataclasses.replace(method, **changes)


def close(ours, expected, what):
    np.testing.assert_allclose(ours, expected, rtol=5e-5, atol=2e-6, err_msg=what)


@pytest.mark.parametrize(("name", "as_released"), [("semi", False), ("semi_released", True)])
def test_golden_steps(name, as_released):
    golden = Golden(name)
    method = the_authors(golden, as_released=as_released)
    state = method.init(golden.problem())
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        assert golden.forward.passes == [["labeled", "weak", "strong0", "strong1"]]
        state = loss.state
        expected = golden.below(f"step{n}")
        for theirs, ours in TERMS.items():
            close(contributions[ours], expected[f"term/{theirs}"], f"{n} {theirs}")
        for theirs, ours in {"mask_ss_t": "mask/base", "mask_ss_b_h2": "mask/balanced"}.items():
            np.testing.assert_array_equal(loss.monitors[ours].mask, expected[f"mask/{theirs}"])
        close(state["center"], expected["state/qbar"], f"{n} center")
        for name in ("label_counts", "share"):
            close(state[name], expected[f"state/{name}"], f"{n} {name}")
        bank = state["bank"]
        close(bank["features"], expected["state/bank_features"], f"{n} features")
        close(bank["confidence"], expected["state/bank_confidence"], f"{n} confidence")
        assert_gradients_equal(golden, n, gradient)


# --- what the memories are for --------------------------------------------------------------------


def problem():
    counts = np.array([5, 20, 10])
    return core.Problem(counts, 20, steps_per_epoch=2, total_steps=20, num_features=D)


def context(step):
    devices = AxisDevices(None)
    return core.Context(jnp.int32(step), jnp.int32(step // 2), None, devices, 2, 20)


def small(**changes):
    settings = dict(bank_size=2, warmup_epochs=-1)
    return SeMi(**(settings | changes))


def views(weak, features):
    """What the network says: `base` on the weak view, features of all others; else nothing."""
    rng = np.random.default_rng(0)

    def said(z, f):
        z = jnp.asarray(z, jnp.float32)
        return core.Outputs(jnp.asarray(f, jnp.float32), {"base": z, "balanced": z})

    zeros = np.zeros((U, K))
    return {
        "labeled": said(zeros, rng.normal(size=(U, D))),
        "weak": said(weak, rng.normal(size=(U, D))),
        "strong0": said(zeros, features),
        "strong1": said(zeros, -np.asarray(features)),
    }


def step(method, state, said, n=0):
    """Terms, state, and the gradient of the objective by view."""
    images = {name: jnp.full((U, 1, 1, 1), float(i)) for i, name in enumerate(said)}
    labeled = core.Labeled(images["labeled"], jnp.zeros(U, jnp.int32), jnp.arange(U))
    strong = (images["strong0"], images["strong1"])
    batch = core.Batch(labeled, core.Unlabeled(images["weak"], strong, jnp.arange(U)))

    def objective(said):
        loss = method.loss(state, GivenForward(said, images), batch, context(n))
        return reduce_terms(loss.terms, AxisDevices(None))[0], loss

    gradient, loss = jax.grad(objective, has_aux=True)(said)
    return loss, gradient


SURE, UNSURE = [30.0, 0, 0], [1.0, 0.5, 0]
FEATURES = np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]])


def test_the_bank_holds_the_features_of_accepted_rows_and_of_no_other():
    """A port that cuts features from an interleaved batch stores labeled and rejected rows."""
    said = views([UNSURE, [0, 0, 30.0], UNSURE, UNSURE], FEATURES)
    loss, _ = step(small(), small().init(problem()), said)
    bank = loss.state["bank"]
    np.testing.assert_array_equal(bank["features"][2], [[3, 4], [-3, -4]])
    assert not np.any(bank["features"][:2]) and not np.any(bank["confidence"][:2])


def test_only_rejected_rows_teach_features_and_only_strong_views_learn_them():
    method = small(feature_weight=1.0)
    said = views([SURE, UNSURE, SURE, UNSURE], FEATURES / 9)
    _, gradient = step(method, method.init(problem()), said, n=2)
    for view in ("labeled", "weak"):
        assert not np.any(gradient[view].features), view
    assert not np.any(gradient["weak"].logits["base"])
    for view in ("strong0", "strong1"):
        is_taught = np.any(gradient[view].features != 0, axis=1)
        assert is_taught.tolist() == [False, True, False, True]


def test_prototypes_change_the_label_of_a_hard_example():
    """Two classes are as likely; the features of the row are those of the second in the bank."""
    method = small(threshold=0.5, prototype_weight=1.0, feature_weight=0.0)
    state = method.init(problem())
    held = jnp.zeros((K, 2, D)).at[:, :, 0].set(jnp.array([-9.0, 9.0, 99.0])[:, None])
    state["bank"] |= {"features": held, "confidence": jnp.ones((K, 2))}
    said = views([[5.1, 5.0, 0]] * U, np.tile([9.0, 0.0], (U, 1)))
    for n, label in [(0, 0), (18, 1)]:  # their weight grows with the epochs
        _, gradient = step(method, state, said, n)
        assert np.argmin(gradient["strong0"].logits["base"], axis=1).tolist() == [label] * U


def test_hard_examples_weigh_more():
    method = small(threshold=0.5, prototype_weight=0.0)
    said = views([[30.0, 0, 0], [3.0, 0, 0], [2.0, 0, 0], [1.0, 0, 0]], FEATURES / 9)
    loss, _ = step(method, method.init(problem()), said, n=2)
    values = np.asarray(loss.terms["consistency"].values)[0]
    assert np.all(np.diff(values) > 0)
    np.testing.assert_allclose(values[0], 0.25 * np.log(K), rtol=1e-4)


def test_all_of_it_but_the_bank_waits_for_the_warm_up():
    method = small(warmup_epochs=0)
    said = views([SURE, UNSURE, SURE, UNSURE], FEATURES / 9)
    loss, gradient = step(method, method.init(problem()), said, n=1)
    assert np.any(loss.state["bank"]["features"]) and not np.any(loss.state["center"])
    assert not np.any(gradient["strong0"].features)
    loss, gradient = step(method, loss.state, said, n=2)
    assert np.any(loss.state["center"]) and np.any(gradient["strong0"].features)


def test_shares_are_those_of_all_pseudo_labels_from_the_next_epoch_on():
    said = views([SURE, SURE, [0, 0, 30.0], UNSURE], FEATURES)
    loss, _ = step(small(), small().init(problem()), said, n=0)
    np.testing.assert_array_equal(loss.state["share"], np.ones(K))
    loss, _ = step(small(), loss.state, said, n=1)
    np.testing.assert_allclose(loss.state["share"], [2 / 3, 0, 1 / 3], rtol=1e-6)


def test_nothing_accepted_yet_leaves_everything_finite():
    """Released code divides by the number of pseudo-labels, and labels nothing ever after."""
    said = views([UNSURE] * U, FEATURES)
    loss, _ = step(small(), small().init(problem()), said, n=1)
    loss, gradient = step(small(), loss.state, said, n=2)
    np.testing.assert_array_equal(loss.state["share"], np.ones(K))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((loss, gradient)))


def test_it_predicts_by_the_balanced_head():
    logits = {"base": jnp.zeros((1, K)), "balanced": jnp.ones((1, K))}
    scores = SeMi().predict(None, lambda images: core.Outputs(images, logits), jnp.zeros((1, 2)), 0)
    assert scores[0, 0] == 1 and "balanced" in SeMi().scored_by(0)


@pytest.mark.parametrize(
    ("field", "value"), [("threshold", 1.2), ("hardness", -0.1), ("decay_every", 0)]
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(core.InputError, match=f"method.{field} is {value}"):
        SeMi(**{field: value})
