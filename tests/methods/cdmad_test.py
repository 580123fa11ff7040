"""CDMAD: steps of the authors' own code (LeeHyuck/CDMAD, 7cd732b), and what the method is about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods import cdmad
from tests.methods.golden import GivenForward, Golden

GOLDEN = Golden("cdmad")
EPSILON = float(GOLDEN["hyper/log_epsilon"])
STRONG = ("strong0", "strong1")
K, U = 4, 6


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def golden_method(n, **changes):
    base = methods.settings("cdmad")["base"] | {"threshold": float(GOLDEN[f"step{n}/threshold"])}
    return methods.make("cdmad", base=base, **changes)


@pytest.fixture
def reference(monkeypatch):
    """The stored answer to the reference, which must be ones, alone and without gradient."""

    def replicated(self, images):
        assert images.shape[0] == 1 and np.all(np.asarray(images) == 1.0)
        return self._said["reference"]

    monkeypatch.setattr(GivenForward, "replicated", replicated)


def expected_terms(n, *, epsilon):
    """Both terms in float64, from the stored logits, targets and mask."""

    def golden(key):
        return GOLDEN[f"step{n}/{key}"]

    def cross_entropy(view, target):
        logs = np.log(softmax(golden(f"view/{view}/logits/base")) + epsilon)
        return -(target * logs).sum(-1)

    one_hot = np.eye(len(GOLDEN["labeled_counts"]))[golden("labels")]
    unlabeled = [golden("mask/base") * cross_entropy(v, golden("target/base")) for v in STRONG]
    return np.mean(cross_entropy("labeled", one_hot)), np.mean(unlabeled)


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_terms_are_the_authors_but_for_what_they_add_inside_the_logarithm(n, reference):
    method = golden_method(n)
    loss, contributions, _ = GOLDEN.replay(method, n, method.init(GOLDEN.problem()))
    theirs = [GOLDEN[f"step{n}/term/{name}"] for name in ("labeled", "unlabeled")]
    np.testing.assert_allclose(expected_terms(n, epsilon=EPSILON), theirs, rtol=1e-9)
    ours = [contributions[name] for name in ("supervised", "consistency")]
    np.testing.assert_allclose(ours, expected_terms(n, epsilon=0.0), rtol=2e-5)
    np.testing.assert_array_equal(loss.monitors["mask/base"].mask, GOLDEN[f"step{n}/mask/base"])


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_gradients_are_the_authors_where_no_probability_vanishes(n, reference):
    """With targets that are soft, plain before epoch 101, and the reference's from there on."""
    method = golden_method(n)
    *_, gradient = GOLDEN.replay(method, n, method.init(GOLDEN.problem()))
    num_compared = 0
    for view in ("labeled", *STRONG):
        probs = softmax(GOLDEN[f"step{n}/view/{view}/logits/base"])
        rows = probs.min(1) > 1e-4
        num_compared += rows.sum()
        theirs = GOLDEN[f"step{n}/grad/{view}/base"][rows]
        ours = gradient[view].logits["base"][rows]
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=3e-6, err_msg=view)
    assert num_compared >= 10
    for view in ("weak", "reference"):
        assert not np.any(gradient[view].logits["base"])


class Biased:
    """A `Forward` that says of each image the image itself and one bias; notes the order."""

    def __init__(self, bias):
        self.bias, self.passes = bias, []

    def __call__(self, images):
        self.passes.append(images)
        return core.Outputs(images, {"base": images + self.bias[None, :]})

    replicated = __call__

    def apart(self, *views):
        return tuple(map(self, views))


def guesses(method, bias, epoch):
    """What the strong view is told of each image, from the gradient on it; and the forward."""
    rng = np.random.default_rng(0)
    weak, strong = (jnp.asarray(rng.normal(size=(U, K)), jnp.float32) for _ in range(2))
    labels, index = jnp.zeros(U, jnp.int32), jnp.arange(U)
    forward = Biased(jnp.asarray(bias, jnp.float32))
    ctx = core.Context(jnp.int32(0), jnp.int32(epoch), None, None)
    state = method.init(core.Problem(np.ones(K), U, steps_per_epoch=1, total_steps=1))

    def total(strong):
        batch = core.Batch(
            core.Labeled(weak + 1, labels, index), core.Unlabeled(weak, (strong,), index)
        )
        return jnp.sum(method.loss(state, forward, batch, ctx).terms["consistency"].values)

    gradient = jax.grad(total)(strong)
    return softmax(np.asarray(strong + forward.bias[None, :])) - gradient, forward


BASE = dict(name="fixmatch", threshold=0.0, is_soft=True, forward_mode="separate")


def test_a_bias_towards_classes_changes_no_guess_and_no_prediction():
    """In training from the epoch on that is asked for; in prediction from the beginning."""
    method, bias = methods.make("cdmad", debias_after=3, base=BASE), np.array([5.0, 0.0, 1.0, -3.0])
    plain, biased = ([guesses(method, b, epoch)[0] for epoch in (3, 4)] for b in (0 * bias, bias))
    assert np.abs(biased[0] - plain[0]).max() > 0.3
    np.testing.assert_allclose(biased[1], plain[1], atol=1e-5)

    images = jnp.asarray(np.random.default_rng(1).normal(size=(U, K)), jnp.float32)
    state = method.init(core.Problem(np.ones(K), U, steps_per_epoch=1, total_steps=1))
    said = [method.predict(state, Biased(jnp.asarray(b)), images, 0) for b in (0 * bias, bias)]
    np.testing.assert_allclose(*said, atol=1e-5)
    assert "de-biased" in method.scored_by(0)


@pytest.mark.parametrize("epoch", [0, 400])
def test_the_reference_goes_first_and_alone_in_every_step(epoch):
    _, forward = guesses(methods.make("cdmad", base=BASE), np.zeros(K), epoch)
    assert forward.passes[0].shape == (1, K)
    assert [len(images) for images in forward.passes[1:4]] == [U, U, U]
    assert all(len(images) == U for images in forward.passes[1:])


def test_predictions_are_the_authors():
    bias = jnp.asarray(GOLDEN["predict/view/reference/logits/base"], jnp.float32)
    logits = jnp.asarray(GOLDEN["predict/logits/base"], jnp.float32)

    def network(images):
        return core.Outputs(images, {"base": bias if len(images) == 1 else logits})

    method = methods.make("cdmad")
    state = method.init(GOLDEN.problem())
    ours = method.predict(state, network, jnp.zeros((len(logits), 2, 2, 3)), 0)
    np.testing.assert_allclose(ours, GOLDEN["predict/adjusted"], rtol=1e-5, atol=1e-6)


def test_the_reference_is_one_image_of_ones_where_images_are_normalized():
    image = cdmad.reference(jnp.zeros((7, 3, 2, 1)))
    assert image.shape == (1, 3, 2, 1) and np.all(np.asarray(image) == 1.0)


def test_refuses_a_base_that_does_not_label_the_pool():
    with pytest.raises(core.InputError, match="'cdmad' cannot wrap TRAS: it changes guess"):
        methods.make("cdmad", base=dict(name="tras"))
