"""Rotation and MoCo against steps of YyzHarry/imbalanced-semi-self at b91ad29."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods import rotation
from ltssl_jax.methods.moco import MoCo
from ltssl_jax.methods.rotation import Rotation
from ltssl_jax.training.forward import AxisDevices, ExampleKeys
from tests.methods.golden import GivenForward, Golden

DEVICES = AxisDevices(None)
CTX = core.Context(jnp.int32(0), jnp.int32(0), ExampleKeys(jax.random.key(0)), DEVICES)


@pytest.fixture(scope="module")
def golden():
    return Golden("self_supervised")


def total_of(loss):
    return reduce_terms(loss.terms, DEVICES)[0]


def labeled(images):
    index = jnp.arange(len(images))
    return core.Labeled(images, jnp.zeros_like(index), index)


# --- rotation -------------------------------------------------------------------------------------


class Listening:
    """Notes the images it is asked about, and answers with given logits."""

    def __init__(self, logits):
        self.logits, self.images = logits, []

    def __call__(self, images):
        self.images.append(images)
        return core.Outputs(images, {"rotation": self.logits})


@pytest.mark.parametrize("n", range(3))
def test_rotation_turns_and_recognizes_like_the_authors(golden, n, monkeypatch):
    given = golden.below(f"rotation/step{n}")
    turns = jnp.asarray(given["random/turns"], jnp.int32)
    monkeypatch.setattr(rotation, "draw_quarter_turns", lambda keys: turns)
    images = jnp.asarray(given["images"].transpose(0, 2, 3, 1), jnp.float32)
    forward = None

    def objective(logits):
        nonlocal forward
        forward = Listening(logits)
        batch = core.Batch(labeled(images), core.Unlabeled(images, (), jnp.arange(len(images))))
        return total_of(Rotation("labeled").loss((), forward, batch, CTX))

    total, gradient = jax.value_and_grad(objective)(jnp.asarray(given["logits"], jnp.float32))
    np.testing.assert_allclose(total, given["total"], rtol=1e-5)
    np.testing.assert_allclose(gradient, given["grad/logits"], rtol=1e-4, atol=1e-6)
    (turned,) = forward.images
    np.testing.assert_allclose(turned, given["rotated"].transpose(0, 2, 3, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "terms"),
    [
        ("labeled", {"rotation_labeled"}),
        ("unlabeled", {"rotation_unlabeled"}),
        ("both", {"rotation_labeled", "rotation_unlabeled"}),
    ],
)
def test_rotation_reads_the_streams_that_are_asked_for(images, terms):
    view = jnp.ones((4, 2, 2, 1))
    batch = core.Batch(labeled(view), core.Unlabeled(2 * view, (), jnp.arange(4)))
    loss = Rotation(images).loss((), Listening(jnp.zeros((4, 4))), batch, CTX)
    assert set(loss.terms) == terms
    with pytest.raises(core.InputError, match="method.images 'all' is unknown"):
        Rotation("all")


# --- MoCo -----------------------------------------------------------------------------------------


def test_moco_steps(golden):
    """The queue is that of before the step, wraps around, and takes no gradient."""

    def hyper(name):
        return golden[f"moco/hyper/moco_{name}"].item()

    method = MoCo(int(hyper("dim")), int(hyper("queue")), hyper("temperature"))
    state = method.init(core.Problem(jnp.ones(5), 40, steps_per_epoch=1, total_steps=5))
    assert state["values"].shape == (24, 4)
    np.testing.assert_allclose(jnp.linalg.norm(state["values"], axis=1), 1, rtol=1e-5)
    state = state | {"values": jnp.asarray(golden["moco/init/queue"], jnp.float32)}
    for n in range(5):
        given = golden.below(f"moco/step{n}")
        query, key = (jnp.asarray(given[name], jnp.float32) for name in ("query", "key"))
        views = {"one": jnp.zeros((8, 1, 1, 1)), "other": jnp.ones((8, 1, 1, 1))}
        unlabeled = core.Unlabeled(
            views["one"], (), jnp.arange(8), contrastive=(views["one"], views["other"])
        )
        batch = core.Batch(labeled(views["one"]), unlabeled)

        def objective(query, key, state=state, batch=batch, views=views):
            said = {
                "one": core.Outputs(query, {"projection": query}),
                "teacher_other": core.Outputs(key, {"projection": key}),
            }
            forward = GivenForward(said, views)
            loss = method.loss(state, forward, batch, CTX)
            assert forward.passes == [["one"]] and forward.taught == [True]
            return total_of(loss), loss.state

        (total, state), gradients = jax.value_and_grad(objective, (0, 1), has_aux=True)(query, key)
        np.testing.assert_allclose(total, given["total"], rtol=1e-5)
        np.testing.assert_allclose(gradients[0], given["grad/query"], rtol=2e-4, atol=1e-6)
        assert not np.any(gradients[1])
        np.testing.assert_allclose(state["values"], given["state/queue"], rtol=1e-5, atol=1e-6)
        assert int(state["position"]) == given["state/queue_ptr"][0]
