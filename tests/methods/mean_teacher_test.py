"""Mean Teacher: golden steps of two codes, and that the network learns from another view."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.core import InputError
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods.mean_teacher import MeanTeacher
from ltssl_jax.training.forward import AxisDevices
from tests.methods.golden import Golden

GOLDEN = Golden("mean_teacher")
GOOGLE = sorted({int(k[4]) for k in GOLDEN.below("variant/google") if k.startswith("step")})


class Given:
    """A `Forward` that answers with the images themselves, and notes who asked for what."""

    def __init__(self):
        self.together, self.taught = [], []

    def jointly(self, *views):
        self.together.append(len(views))
        return tuple(core.Outputs(view, {"base": view}) for view in views)

    def teacher(self, images, *, by_batch=False):
        self.taught.append(by_batch)
        return jax.lax.stop_gradient(core.Outputs(images, {"base": images}))


def step(method, labeled, labels, unlabeled, taught, epoch=0, forward=None):
    """Contributions by term, and the gradients of their sum by labeled, unlabeled, taught."""

    def objective(logits):
        labeled, unlabeled, taught = logits
        batch = core.Batch(
            core.Labeled(labeled, jnp.asarray(labels), None),
            core.Unlabeled(unlabeled, (), None, (taught,)),
        )
        ctx = core.Context(jnp.int32(0), jnp.int32(epoch), None, AxisDevices(None))
        return reduce_terms(
            method.loss((), forward or Given(), batch, ctx).terms, AxisDevices(None)
        )

    views = tuple(jnp.asarray(x) for x in (labeled, unlabeled, taught))
    gradient, contributions = jax.grad(objective, has_aux=True)(views)
    return contributions, gradient


def logits_of(prefix, *names):
    return [GOLDEN[f"{prefix}/view/{name}/logits/base"] for name in names]


@pytest.mark.parametrize("n", GOOGLE)
def test_terms_are_those_of_google(n):
    prefix = f"variant/google/step{n}"
    weight = float(GOLDEN["variant/google/consistency_weight"]) * GOLDEN[f"{prefix}/warmup"]
    method = MeanTeacher(float(weight), ramp_epochs=0)  # theirs rises in a straight line
    labeled, unlabeled, taught = logits_of(prefix, "labeled", "weak1", "teacher_weak")
    contributions, gradient = step(method, labeled, GOLDEN[f"{prefix}/labels"], unlabeled, taught)
    np.testing.assert_allclose(
        contributions["supervised"], GOLDEN[f"{prefix}/term/labeled"], rtol=1e-5
    )
    np.testing.assert_allclose(
        contributions["consistency"], GOLDEN[f"{prefix}/term/unlabeled"], rtol=1e-5
    )
    for ours, name in zip(gradient, ("labeled", "weak1", "teacher_weak"), strict=True):
        np.testing.assert_allclose(ours, GOLDEN[f"{prefix}/grad/{name}/base"], rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_the_consistency_is_the_authors_where_the_pool_holds_the_labeled_images(n):
    """Their labeled rows take part in it, and their denominators count all rows."""
    prefix = f"step{n}"
    method = MeanTeacher(
        float(GOLDEN["hyper/consistency"]), int(GOLDEN["hyper/consistency_rampup"])
    )
    labeled, weak = logits_of(prefix, "labeled", "weak")
    pool = np.concatenate([labeled, weak])
    taught = np.concatenate(logits_of(prefix, "teacher_labeled", "teacher_weak"))
    labels, epoch = GOLDEN[f"{prefix}/labels"], int(GOLDEN[f"{prefix}/epoch"])
    contributions, gradient = step(method, labeled, labels, pool, taught, epoch)
    share = len(labeled) / len(pool)
    np.testing.assert_allclose(
        contributions["consistency"], GOLDEN[f"{prefix}/term/unlabeled"], rtol=1e-5
    )
    np.testing.assert_allclose(
        contributions["supervised"] * share, GOLDEN[f"{prefix}/term/labeled"], rtol=1e-5
    )
    of_labeled, of_pool, _ = gradient
    theirs = np.concatenate([GOLDEN[f"{prefix}/grad/{name}/base"] for name in ("labeled", "weak")])
    ours = of_pool + np.concatenate([share * of_labeled, np.zeros_like(weak)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-7)


def test_the_network_learns_from_the_teachers_view_and_not_the_other_way_round():
    """USB compares the teacher with itself: its term is 0, and so is its gradient."""
    rng, forward = np.random.default_rng(0), Given()
    views = rng.normal(size=(3, 4, 3)).astype(np.float32)
    labels = np.zeros(4, np.int32)
    contributions, gradient = step(
        MeanTeacher(ramp_epochs=0), views[0], labels, views[1], views[2], forward=forward
    )
    assert contributions["consistency"] > 0
    assert np.all(gradient[1] != 0) and not np.any(gradient[2])
    assert forward.together == [2] and forward.taught == [True]


def test_the_weight_rises_over_epochs():
    views = np.random.default_rng(1).normal(size=(3, 4, 3)).astype(np.float32)
    labels = np.zeros(4, np.int32)
    terms = [
        float(step(MeanTeacher(50.0, 4), views[0], labels, *views[1:], epoch=e)[0]["consistency"])
        for e in (0, 2, 4, 9)
    ]
    np.testing.assert_allclose(
        np.array(terms) / terms[-1], np.exp([-5.0, -1.25, 0.0, 0.0]), rtol=1e-5
    )


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="method.ramp_epochs is -1"):
        MeanTeacher(ramp_epochs=-1)
