"""DASO against steps of the authors' code (ytaek-oh/daso, 3541a6c), and what it is for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.daso import DASO
from ltssl_jax.methods.fixmatch import FixMatch
from ltssl_jax.training.forward import AxisDevices
from tests.methods import golden as golden_

K, D, B, U = 4, 3, 4, 6


class Heard(FixMatch):
    """A FixMatch that notes the probabilities handed to it, and the targets that it makes."""

    notes = []

    def accept(self, state, logits, batch, ctx):
        targets, state = super().accept(state, logits, batch, ctx)
        self.notes.append((jax.lax.stop_gradient(jax.nn.softmax(logits)), targets))
        return targets, state


# --- the authors' steps ---------------------------------------------------------------------------


def configured(golden):
    hyper = {name: value.item() for name, value in golden.below("hyper").items()}
    return DASO(
        base=Heard(
            threshold=hyper["threshold"],
            unlabeled_weight=hyper["unlabeled_weight"],
            labeled_tau=hyper["tau"],
        ),
        dist_temperature=hyper["dist_temperature"],
        proto_temperature=hyper["proto_temperature"],
        align_weight=hyper["align_weight"],
        warmup_steps=hyper["pretrain_steps"],
        update_every=hyper["update_period"],
        queue_length=hyper["queue_size"],
    )


@pytest.mark.parametrize("name", ["daso", "daso_la"])
def test_steps_are_the_authors(name):
    golden = golden_.Golden(name)
    method = configured(golden)
    state = method.init(golden.problem())
    for n in golden.steps:
        loss, terms, gradient = golden.replay(method, n, state)
        state = loss.state
        check_terms(golden, n, terms)
        check_targets(golden, n, loss)
        if f"step{n}/grad/weak/base" in golden:
            golden_.assert_gradients_equal(golden, n, gradient)
        check_state(golden, n, state)


def check_terms(golden, n, terms):
    names = {"supervised": "supervised", "unsupervised": "consistency", "align": "alignment"}
    for theirs, ours in names.items():
        key = f"step{n}/term/{theirs}"
        expected = golden[key] if key in golden else 0.0  # no alignment in the warm-up
        np.testing.assert_allclose(terms[ours], expected, rtol=2e-4, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(sum(terms.values()), golden[f"step{n}/total"], rtol=2e-4)


def check_targets(golden, n, loss):
    probs, targets = Heard.notes[-1]
    np.testing.assert_allclose(probs, golden[f"step{n}/target/base"], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(targets.labels, golden[f"step{n}/pseudo_label/base"])
    np.testing.assert_array_equal(loss.monitors["mask/base"].mask, golden[f"step{n}/mask/base"])


def check_state(golden, n, state):
    expected, queue = golden.below(f"step{n}/state"), state["queues"]
    pushed = np.asarray(queue["num_pushed"])
    length = queue["values"].shape[1]
    np.testing.assert_array_equal(np.minimum(pushed, length), expected["queue_count"])
    for ring, start, theirs in zip(queue["values"], pushed, expected["queue"], strict=True):
        oldest_first = np.roll(ring, -start, axis=0) if start > length else ring
        np.testing.assert_allclose(oldest_first, theirs, rtol=1e-6)
    if n < golden.steps[-1]:  # the authors close no window after the last step
        np.testing.assert_array_equal(state["window"], expected["window"])
        np.testing.assert_array_equal(state["histogram"], expected["histogram"])


# --- what it is for -------------------------------------------------------------------------------

METHOD = DASO(Heard(0.9), warmup_steps=2, update_every=2, queue_length=5)
AXES = np.eye(K, D) - np.eye(K, D, -D)  # directions of the features of each class; class 3 is -x


class Given(golden_.GivenForward):
    """Also notes how the EMA network normalizes."""

    def teacher(self, images, *, by_batch=False):
        self.by_batch = by_batch
        return super().teacher(images, by_batch=by_batch)


def told(guesses, looks, *, confidence=9.0):
    """What the network says of `U` images: `guesses` by its head, `looks` by its features."""
    logits = jnp.asarray(confidence * np.eye(K)[guesses], jnp.float32)
    return core.Outputs(jnp.asarray(AXES[looks], jnp.float32), {"base": logits})


def stepped(state, n, weak, *, labels=range(K), method=METHOD, num_strong=1):
    """One step in which the EMA network sees each label where its class lies."""
    labels = np.array(labels)
    zeros = core.Outputs(jnp.zeros((B, D)), {"base": jnp.zeros((B, K))})
    strong = {f"strong{i}": told([0] * U, [i] * U) for i in range(num_strong)}
    said = dict(labeled=zeros, weak=weak, **strong)
    views = {name: jnp.full((B if name == "labeled" else U, 1), 0.0) + 1 for name in said}
    said["teacher_labeled"] = core.Outputs(jnp.asarray(AXES[labels], jnp.float32), {})
    batch = core.Batch(
        core.Labeled(views["labeled"], jnp.asarray(labels), jnp.arange(B)),
        core.Unlabeled(views["weak"], tuple(views[name] for name in strong), jnp.arange(U)),
    )
    forward = Given(said, views)
    ctx = core.Context(jnp.int32(n), jnp.int32(0), None, AxisDevices(None))
    loss = method.loss(state, forward, batch, ctx)
    assert forward.by_batch
    return loss, *Heard.notes[-1]


def start(histogram=(0, 0, 0, 0), method=METHOD):
    counts = np.array([3, 40, 1, 12])
    facts = core.Problem(counts, 99, steps_per_epoch=10, total_steps=100, num_features=D)
    return method.init(facts) | {"histogram": jnp.asarray(histogram, jnp.float32)}


def test_frequent_guesses_follow_the_prototypes_and_rare_ones_the_classifier():
    """The idea: 0 was guessed often of late and 1 never; all these images look like a 2."""
    _, probs, targets = stepped(start([8, 0, 0, 2]), 2, told([0, 0, 0, 1, 1, 1], [2] * U))
    np.testing.assert_array_equal(targets.labels, [2, 2, 2, 1, 1, 1])
    np.testing.assert_allclose(probs[0], np.eye(K)[2], atol=1e-5)
    *_, warming = stepped(start([8, 0, 0, 2]), 1, told([0] * U, [2] * U))
    np.testing.assert_array_equal(warming.labels, 0)


@pytest.mark.parametrize("temperature", [0.3, 1.5])
def test_strength_is_the_tempered_share_over_the_largest(temperature):
    counts = np.array([8.0, 0.0, 4.0, 2.0])
    share = (counts / counts.sum()) ** (1 / temperature)
    share /= share.sum()
    method = dataclasses.replace(METHOD, dist_temperature=temperature)
    found = method.strength(jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(found, share / share.max(), rtol=1e-5)
    assert not np.any(method.strength(jnp.zeros(K)))


def test_the_mask_is_of_the_blended_distribution():
    """A sure guess of the classifier that the prototypes contradict half is not sure any more."""
    half = 8.0 * 0.5**1.5  # of strength one half at temperature 1.5
    _, probs, targets = stepped(start([8, half, 0, 0]), 2, told([1] * U, [2] * U))
    np.testing.assert_allclose(np.sort(probs[0])[-2:], 0.5, atol=0.01)
    assert not np.any(targets.mask)


def test_prototypes_hold_the_rows_of_this_step():
    """A class whose first labeled image comes now is found now; not a step later."""
    state = stepped(start(), 0, told([0] * U, [2] * U), labels=[0, 0, 1, 1])[0].state
    state |= {"histogram": jnp.asarray([9.0, 0, 0, 0])}
    for labels, found in [([0, 0, 1, 1], False), ([0, 0, 1, 2], True)]:
        *_, targets = stepped(state, 2, told([0] * U, [2] * U), labels=labels)
        assert np.all(targets.mask * (targets.labels == 2)) == found


def test_blending_and_alignment_begin_together_after_the_warmup():
    for n in range(4):
        loss, *_ = stepped(start([8, 0, 0, 0]), n, told([0] * U, [2] * U))
        assert np.all(loss.monitors["blend"] > 0) == (n >= 2)
        assert float(loss.terms["alignment"].weight) == (n >= 2)


def test_all_guesses_of_a_window_are_counted_confident_or_not_and_replace_the_last():
    state, unsure = start([5, 0, 0, 0]), told([0, 0, 1, 1, 1, 3], [0] * U, confidence=0.5)
    state = stepped(state, 0, unsure)[0].state
    np.testing.assert_array_equal(state["window"], [2, 3, 0, 1])
    np.testing.assert_array_equal(state["histogram"], [5, 0, 0, 0])
    state = stepped(state, 1, unsure)[0].state
    np.testing.assert_array_equal(state["window"], 0)
    np.testing.assert_array_equal(state["histogram"], [4, 6, 0, 2])


def test_every_strong_view_is_aligned():
    method = dataclasses.replace(METHOD, base=Heard(0.9, num_strong=2))
    loss, *_ = stepped(start(method=method), 2, told([0] * U, [1] * U), method=method, num_strong=2)
    first, second = loss.terms["alignment"].values
    assert np.all(first > 10) and np.all(second < 0.1)  # the second looks like the weak one


def test_what_it_cannot_work_with_is_named():
    with pytest.raises(core.InputError, match="method.warmup_steps is 50; it must be at least"):
        methods.make("daso", warmup_steps=50)
    for field in ("dist_temperature", "proto_temperature", "update_every", "queue_length"):
        with pytest.raises(core.InputError, match=f"method.{field} is 0; it must be"):
            methods.make("daso", **{field: 0})
    with pytest.raises(core.InputError, match="cannot wrap"):
        methods.make("daso", base=dict(name="supervised"))


def test_asks_for_a_strong_view_where_the_base_has_none():
    assert methods.make("daso", base=dict(name="mixmatch")).needs.strong == 1
