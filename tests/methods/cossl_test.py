"""CoSSL: steps of the authors' own code (YUE-FAN/CoSSL, 9c7b840), and what the method is about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods import cossl
from ltssl_jax.training import optim
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.forward import AxisDevices, ExampleKeys
from tests.methods.golden import Golden

GOLDEN = Golden("cossl")
COUNTS = GOLDEN["labeled_counts"]
K, D = len(COUNTS), GOLDEN["step0/view/mixed/features"].shape[1]
BASE = dict(name="fixmatch", num_strong=2, threshold=float(GOLDEN["hyper/tau"]))
METHOD = methods.make(
    "cossl",
    min_share=float(GOLDEN["hyper/max_lam"]),
    weight_decay=float(GOLDEN["hyper/wd_tfe"]),
    warmup_epochs=0,
    base=BASE,
)


class Columns:
    """A `Forward` on images whose first columns are averaged features, and the others logits."""

    def __init__(self, head):
        self._head, self.groups = head, []

    def jointly(self, *views):
        self.groups.append(len(views))
        return tuple(core.Outputs(x[:, :D], {"base": x[:, D:]}) for x in views)

    def teacher(self, images):
        said = core.Outputs(images[:, :D], {"base": images[:, D:]})
        return jax.lax.stop_gradient(said)

    def head(self, name, features):
        assert name == "tfe"
        return features @ self._head["kernel"] + self._head["bias"][None, :]

    def kernel(self, name):
        assert name == "tfe"
        return self._head["kernel"]


def context(step=0, epoch=0):
    rng = ExampleKeys(jax.random.key(step))
    return core.Context(jnp.int32(step), jnp.int32(epoch), rng, AxisDevices(None))


def golden_views(n):
    """Views of step `n`, columns of features and of logits; the network says nothing of some."""
    step = GOLDEN.below(f"step{n}/view")
    zeros = {"features": np.zeros((8, D)), "logits": np.zeros((8, K))}
    pairs = {
        "labeled": (zeros["features"], step["labeled/logits/base"]),
        "weak": (step["teacher_weak/features"], zeros["logits"]),
        "strong0": (step["teacher_mixing/features"], step["strong0/logits/base"]),
        "strong1": (zeros["features"], step["strong1/logits/base"]),
        "balanced": (step["teacher_balanced/features"], zeros["logits"]),
    }
    return {name: jnp.float32(np.concatenate(pair, axis=1)) for name, pair in pairs.items()}


def golden_batch(n, views):
    step = GOLDEN.below(f"step{n}")
    labels, balanced = (jnp.int32(step[name]) for name in ("labels", "balanced_labels"))
    index, nothing = jnp.arange(8), jnp.zeros((8, D + K))
    return core.Batch(
        core.Labeled(views["labeled"], labels, index),
        core.Unlabeled(
            views["weak"], (views["strong0"], views["strong1"]), jnp.int32(step["index"])
        ),
        core.Labeled(nothing, balanced, index, (views["balanced"],)),
    )


def head_before(n, name="teacher"):
    return {k: jnp.float32(v) for k, v in GOLDEN.below(f"step{n}/head/{name}").items()}


def replayed(n, head, method=METHOD, epoch=0):
    """The loss of step `n`, contributions, the passes, gradients on logits and on the head."""
    state = method.init(GOLDEN.problem())
    passes = []

    def objective(views, head):
        forward = Columns(head)
        loss = method.loss(state, forward, golden_batch(n, views), context(n, epoch))
        total, contributions = reduce_terms(loss.terms, AxisDevices(None))
        passes.append(forward.groups)
        return total, (loss, contributions)

    gradient, (loss, contributions) = jax.grad(objective, (0, 1), has_aux=True)(
        golden_views(n), head
    )
    return loss, contributions, passes[0], *gradient


@pytest.fixture
def draws(monkeypatch):
    """Lets the authors' draws of one step stand for ours, and hears the probabilities."""
    heard = []

    def given(n):
        stored = jnp.float32(GOLDEN[f"step{n}/random/lambda"])
        monkeypatch.setattr(cossl, "shares", lambda ctx, probs, low: heard.append(probs) or stored)
        return heard

    return given


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_terms_and_gradients_are_the_authors(n, draws):
    heard, step = draws(n), GOLDEN.below(f"step{n}")
    loss, contributions, passes, on_views, _ = replayed(n, head_before(n))
    names = {"supervised": "labeled", "consistency": "unlabeled", "supervised_tfe": "teacher"}
    for ours, theirs in names.items():
        np.testing.assert_allclose(contributions[ours], step[f"term/{theirs}"], rtol=2e-5)
    np.testing.assert_array_equal(loss.monitors["mask/base"].mask, step["mask/unlabeled"])
    np.testing.assert_array_equal(loss.monitors["mixed/tfe"], step["random/mix"])
    for view in ("labeled", "strong0", "strong1"):
        theirs = step[f"grad/{view}/base"]
        np.testing.assert_allclose(on_views[view][:, D:], theirs, rtol=2e-4, atol=2e-6)
    # Labeled and strong views together, and nothing else: not the weak one, nor the balanced ones.
    assert passes == [3]
    # One port reads the class of each row as 0; then hardly anything is mixed.
    np.testing.assert_allclose(
        heard[0], GOLDEN["tfe_probability"][step["balanced_labels"]], rtol=1e-6
    )


def test_our_one_adam_moves_the_head_as_their_second_one_does(draws):
    """Six steps in a row: gradient, decay, moments, weights and their average."""
    adam = optim.make(name="adam", learning_rate=float(GOLDEN["hyper/lr_tfe"]), total_steps=6)
    averaging = Averaging(float(GOLDEN["hyper/ema_decay"]))
    head, ema = head_before(0), core.Ema(head_before(0, "teacher_ema"), {})
    opt_state = adam.tx.init(head)
    for n in GOLDEN.steps:
        draws(n)
        *_, gradient = replayed(n, head)
        updates, opt_state = adam.tx.update(gradient, opt_state, head)
        head = jax.tree.map(jnp.add, head, updates)
        ema = averaging.update(ema, head, {}, jnp.int32(n))
        ours = {
            "teacher": head,
            "teacher_ema": ema.params,
            "teacher_adam_m": opt_state[0].mu,
            "teacher_adam_v": opt_state[0].nu,
        }
        for name, arrays in ours.items():
            for part, x in arrays.items():
                theirs = GOLDEN[f"step{n}/state/{name}/{part}"]
                np.testing.assert_allclose(x, theirs, rtol=1e-3, atol=1e-7, err_msg=f"{n} {name}")


def test_the_head_learns_nothing_from_what_it_tells_the_base():
    """Its gradient is that of its own terms, with soft targets, too."""
    method = methods.make("cossl", warmup_epochs=0, base=BASE | dict(is_soft=True, threshold=0.0))

    def total(head, names):
        views = golden_views(0)
        loss = method.loss(
            method.init(GOLDEN.problem()), Columns(head), golden_batch(0, views), context()
        )
        return sum(jnp.sum(loss.terms[name].values) for name in names)

    on_head = jax.grad(total)(head_before(0), ("consistency", "supervised"))
    assert not np.any(on_head["kernel"]) and not np.any(on_head["bias"])
    on_head = jax.grad(total)(head_before(0), ("supervised_tfe",))
    assert np.all(np.asarray(on_head["bias"]) != 0)


def test_guesses_are_the_bases_own_by_the_average_until_the_head_is_warm():
    method = methods.make("cossl", warmup_epochs=3, base=BASE)
    said = jnp.float32(np.random.default_rng(0).normal(size=(8, K)))
    views = golden_views(0)
    views["weak"] = views["weak"].at[:, D:].set(said)
    batch, forward = golden_batch(0, views), Columns(head_before(0))
    state = method.init(GOLDEN.problem())
    before, after = (
        method.guess(state["base"], forward, batch, context(0, epoch)) for epoch in (2, 3)
    )
    np.testing.assert_allclose(before, said)
    np.testing.assert_allclose(after, GOLDEN["step0/view/teacher_weak/logits/teacher"], rtol=1e-5)
    assert forward.groups == []


def drawn(probs, *, step=0, low=0.6):
    return np.asarray(cossl.shares(context(step), jnp.asarray(probs, jnp.float32), low))


def test_the_rarer_a_class_is_the_more_of_its_rows_are_mixed():
    state = METHOD.init(GOLDEN.problem())
    np.testing.assert_allclose(state["mixed"], 1 - COUNTS / COUNTS.max(), rtol=1e-6)
    share = drawn(np.repeat(state["mixed"], 2000))
    mixed = np.mean(share.reshape(K, -1) < 1, axis=1)
    np.testing.assert_allclose(mixed, state["mixed"], atol=0.04)
    assert mixed[np.argmax(COUNTS)] == 0
    share = share[share < 1]
    assert share.min() >= 0.6 and abs(share.mean() - 0.8) < 0.01


def test_every_row_of_every_step_is_drawn_for_itself():
    """Also where a balanced batch holds the same image several times."""
    share = drawn(np.ones(64))
    assert len(np.unique(share)) == 64
    assert not np.any(share == drawn(np.ones(64), step=1))


def test_mixtures_keep_their_label_and_take_what_they_lack_from_the_pool(draws):
    """With nothing of the partners the term is the plain cross entropy of the balanced rows."""
    views = golden_views(1)
    head, batch = head_before(1), golden_batch(1, views)
    plain, _ = METHOD.terms(jnp.zeros(K), Columns(head), batch, context())
    logits = views["balanced"][:, :D] @ head["kernel"] + head["bias"][None, :]
    expected = -jax.nn.log_softmax(logits)[jnp.arange(8), batch.balanced.label]
    np.testing.assert_allclose(plain["supervised_tfe"].values, expected, rtol=1e-5)
    mixed, share = METHOD.terms(jnp.ones(K), Columns(head), batch, context())
    assert np.all(share < 1)
    assert np.all(np.abs(mixed["supervised_tfe"].values - expected) > 1e-4)


def test_partners_are_spread_over_the_strong_views_of_the_pool(monkeypatch):
    """Twice as many of them as balanced rows: every other one, whatever the number of devices."""
    views, head, share = golden_views(1), head_before(1), jnp.linspace(0.6, 1.0, 8)
    monkeypatch.setattr(cossl, "shares", lambda ctx, probs, low: share)
    batch = golden_batch(1, views)
    pool = jnp.float32(np.random.default_rng(0).normal(size=(16, D + K)))
    wide = core.Unlabeled(pool, (pool, 9 * pool), jnp.arange(16))
    terms, _ = METHOD.terms(jnp.ones(K), Columns(head), batch.replace(unlabeled=wide), context())
    own, others = views["balanced"][:, :D], pool[::2, :D]
    mixture = share[:, None] * own + (1 - share)[:, None] * others
    logits = mixture @ head["kernel"] + head["bias"][None, :]
    expected = -jax.nn.log_softmax(logits)[jnp.arange(8), batch.balanced.label]
    np.testing.assert_allclose(terms["supervised_tfe"].values, expected, rtol=1e-4)


def test_predicts_by_the_head_of_the_average():
    logits = jnp.float32(GOLDEN["predict/logits"])

    def network(images):
        return core.Outputs(images, {"base": -logits, "tfe": logits})

    scores = METHOD.predict(None, network, logits, 0)
    top1 = 100 * np.mean(np.argmax(scores, axis=1) == GOLDEN["predict/labels"])
    assert top1 == pytest.approx(GOLDEN["predict/top1"]) and "tfe" in METHOD.scored_by(0)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(base=dict(name="tras")), "'cossl' cannot wrap TRAS"),
        (dict(base=dict(name="simpro")), "'cossl' cannot wrap SimPro"),
        (dict(base=dict(name="fixmatch", pseudo_label_tau=0.5)), "method.base.pseudo_label_tau is"),
        (dict(min_share=1.5), "method.min_share is 1.5"),
        (dict(weight_decay=-1.0), "method.weight_decay is -1.0"),
    ],
)
def test_refuses_what_cannot_work(settings, message):
    with pytest.raises(core.InputError, match=message):
        methods.make("cossl", **settings)


def test_asks_for_labeled_images_class_by_class():
    needs = METHOD.needs
    assert needs.balanced and needs.labeled_strong == 1 and needs.strong == 2
    assert [head.name for head in needs.heads] == ["base", "tfe"]
