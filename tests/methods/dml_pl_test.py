"""DML-PL: what each phase learns, and that its loop labels the whole pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.data.growth import Candidates, nearest
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods.dml_pl import DMLPL
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import GivenForward

K, N, D = 3, 6, 4
COUNTS = np.array([5, 20, 10])
LABELS = jnp.array([0, 1, 0, 2, 1, 1])
NAMES = ("labeled", "labeled_strong", "strong0", "strong1")
RNG = np.random.default_rng(0)
SAID = {name: jnp.asarray(RNG.normal(size=(N, D)), jnp.float32) for name in NAMES}
DEVICES = AxisDevices(None)


def terms_and_gradient(method, index=tuple(range(N)), said=SAID):
    views = {name: jnp.full((N, 1, 1, 1), float(i)) for i, name in enumerate(NAMES)}
    x = core.Labeled(views["labeled"], LABELS, jnp.arange(N), (views["labeled_strong"],))
    strong = (views["strong0"], views["strong1"])
    u = core.Unlabeled(views["labeled"], strong, jnp.asarray(index))
    ctx = core.Context(jnp.int32(0), jnp.int32(0), None, DEVICES)
    problem = core.Problem(COUNTS, 40, steps_per_epoch=1, total_steps=5)

    def objective(said):
        outputs = {
            name: core.Outputs(z, {"embedding": z, "base": z[:, :K]}) for name, z in said.items()
        }
        forward = GivenForward(outputs, views)
        loss = method.loss(method.init(problem), forward, core.Batch(x, u), ctx)
        return reduce_terms(loss.terms, DEVICES)

    (_, terms), gradient = jax.value_and_grad(objective, has_aux=True)(said)
    return terms, gradient


def contrast(views, kinds, temperature):
    """Row by row, in float64."""
    rows = np.concatenate([np.float64(v) for v in views])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kinds, losses = np.concatenate([kinds] * len(views)), []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        total = sum(np.exp(rows[i] @ rows[j] / temperature) for j in others)
        own = [rows[i] @ rows[j] / temperature for j in others if kinds[j] == kinds[i]]
        losses.append(np.log(total) - np.mean(own))
    return np.mean(losses)


def test_the_metric_phase_contrasts_classes_and_images():
    method = DMLPL(temperature=0.5, unlabeled_weight=2.0)
    terms, gradient = terms_and_gradient(method)
    views = [SAID[name] for name in NAMES]
    np.testing.assert_allclose(terms["metric"], contrast(views[:2], LABELS, 0.5), rtol=1e-5)
    instances = 2 * contrast(views[2:], np.arange(N), 0.5)
    np.testing.assert_allclose(terms["instances"], instances, rtol=1e-5)
    assert all(np.any(gradient[name]) for name in NAMES)


def test_the_same_image_twice_in_a_batch_is_one_image():
    index = (3, 1, 2, 3, 4, 5)
    terms, _ = terms_and_gradient(DMLPL(temperature=0.5), index)
    expected = contrast([SAID["strong0"], SAID["strong1"]], np.array(index), 0.5)
    np.testing.assert_allclose(terms["instances"], expected, rtol=1e-5)


def test_tuning_is_the_logit_adjusted_loss_of_the_labels_alone():
    terms, gradient = terms_and_gradient(DMLPL("tune", labeled_tau=1.5))
    z = np.float64(SAID["labeled"])[:, :K] + 1.5 * np.log(COUNTS / COUNTS.sum())
    probs = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = -np.log(probs[np.arange(N), LABELS]).mean()
    np.testing.assert_allclose(terms["supervised"], expected, rtol=1e-5)
    assert set(terms) == {"supervised"} and not np.any(gradient["strong0"])


def test_unknown_phases_are_named():
    with pytest.raises(core.InputError, match="method.phase 'tun' is unknown; did you mean 'tune'"):
        DMLPL("tun")


# --- pseudo-labels by clusters --------------------------------------------------------------------


def around(directions, spread, rng):
    return np.concatenate([d + spread * rng.normal(size=(20, 2)) for d in np.float64(directions)])


def clustered():
    """Two classes of two clusters each, crosswise, so that no class has one centre."""
    rng = np.random.default_rng(1)
    directions = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    truth = np.repeat([1, 1, 0, 0], 20)
    features, labeled = (around(directions, 0.15, rng) for _ in range(2))
    probs = np.eye(2, dtype=np.float32)[1 - truth]  # always wrong: the rule must not look at them
    is_free = np.ones(80, bool)
    is_free[::7] = False
    scaled = features * rng.uniform(0.1, 10, (80, 1))
    return Candidates(probs, scaled, labeled, truth, np.array([40, 40]), is_free), truth


def test_images_near_to_a_cluster_take_its_class():
    candidates, truth = clustered()
    grown = nearest(candidates, clusters=2, share=1.0)
    np.testing.assert_array_equal(grown.rows, np.flatnonzero(candidates.is_free))
    np.testing.assert_array_equal(grown.labels, truth[grown.rows])


def test_the_nearest_of_every_cluster_come_first():
    candidates, _ = clustered()
    half, whole = (nearest(candidates, clusters=2, share=s) for s in (0.5, 1.0))
    assert set(half.rows) < set(whole.rows) and len(half.rows) >= len(whole.rows) / 2
    angle = np.arctan2(*np.abs(candidates.features).T)
    from_axis = np.minimum(angle, np.pi / 2 - angle)
    rest = np.setdiff1d(whole.rows, half.rows)
    assert from_axis[half.rows].mean() < 0.5 * from_axis[rest].mean()


def test_rounds_of_halves_and_a_last_one_label_everything():
    candidates, _ = clustered()
    is_free = candidates.is_free.copy()
    for share in (0.5, 0.5, 1.0):
        is_free[nearest(candidates._replace(is_free=is_free), share=share).rows] = False
    assert not is_free.any()


def test_a_class_with_one_label_has_one_cluster():
    candidates, truth = clustered()
    kept = np.append(np.flatnonzero(truth == 0), 5)
    few = candidates._replace(
        labeled_features=candidates.labeled_features[kept], labels=truth[kept]
    )
    assert set(nearest(few, clusters=5, share=1.0).labels) == {0, 1}


@pytest.mark.parametrize(("field", "value"), [("share", 0.0), ("share", 1.5), ("clusters", 0)])
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(core.InputError, match=f"growth.{field} is {value}"):
        nearest(clustered()[0], **{field: value})
