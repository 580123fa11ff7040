"""The terms of each method against float64 NumPy transcriptions of its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.fixmatch import FixMatch
from ltssl_jax.methods.supervised import Supervised
from ltssl_jax.methods.tras import TRAS
from tests.methods.golden import Golden

K, B, U = 4, 6, 9
COUNTS = np.array([3.0, 40.0, 1.0, 12.0])
LOG_PI = np.log(COUNTS / COUNTS.sum())


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(z, target):
    target = np.eye(K)[target] if target.ndim == 1 else target
    return -(target * np.log(softmax(z))).sum(-1)


def logits(seed, n, scale=4.0):
    rng = np.random.default_rng(seed)
    return {head: scale * rng.normal(size=(n, K)) for head in ("base", "balanced")}


def facts():
    return core.Problem(COUNTS, 99, steps_per_epoch=10, total_steps=100)


@pytest.fixture
def labels():
    return np.random.default_rng(7).integers(K, size=B)


# --- TRAS -----------------------------------------------------------------------------------------


def tras_reference(method, x, w, s, y, is_transferring):
    """The card of TRAS, section by section, one unlabeled row and one view at a time."""
    strength = method.A * softmax(-LOG_PI) + method.B
    consistency, transfer = [], []
    for view in range(2):
        for i in range(U):
            base = softmax(w["base"][i] - LOG_PI)
            balanced = softmax(w["balanced"][i])
            z_h, z_b = (s[head][view * U + i] for head in ("base", "balanced"))
            loss = cross_entropy(z_h[None], np.array([base.argmax()]))[0]
            consistency.append(loss * (base.max() >= method.threshold))
            shifted = z_h - strength[balanced.argmax()] * LOG_PI
            target = softmax(shifted / method.temperature)
            loss = cross_entropy(z_b[None], target[None])[0]
            transfer.append(loss * (balanced.max() >= method.threshold))
    return {
        "supervised": (np.mean(cross_entropy(x["base"], y)), 1.0),
        "consistency": (np.mean(consistency), 1.0),
        "supervised_balanced": (
            np.mean(cross_entropy(x["balanced"] + LOG_PI, y)),
            float(is_transferring),
        ),
        "transfer": (np.mean(transfer), float(is_transferring)),
    }


@pytest.mark.parametrize("is_transferring", [False, True])
def test_tras_terms(labels, is_transferring):
    method = TRAS(A=1.5, B=2.5, temperature=3.0, threshold=0.7)
    x, w, s = logits(0, B), logits(1, U), logits(2, 2 * U)
    state = method.init(facts())
    np.testing.assert_allclose(state, LOG_PI, rtol=1e-6)

    as_jax = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (x, w, s))
    terms, monitors = method.terms(state, *as_jax, jnp.asarray(labels), is_transferring)

    expected = tras_reference(method, x, w, s, labels, is_transferring)
    assert set(terms) == set(expected)
    for name, (mean, weight) in expected.items():
        np.testing.assert_allclose(jnp.mean(terms[name].values), mean, rtol=2e-5, err_msg=name)
        assert float(terms[name].weight) == weight and terms[name].count is None
    for monitor in monitors.values():
        assert (
            0 < float(jnp.mean(monitor.mask)) < 1
        )  # the masks of this test are neither empty nor full


def test_tras_target_of_a_published_toy():
    """Three classes, worked out by hand: the target for each label that `balanced` may give."""
    log_pi = jnp.log(jnp.asarray([0.7, 0.2, 0.1]))
    z = jnp.tile(jnp.asarray([[2.0, 1.0, 0.0]]), (3, 1))
    weak = {"base": z, "balanced": 50.0 * jnp.eye(3)}
    strong = {"base": z, "balanced": z}
    terms, _ = TRAS().terms(log_pi, weak, weak, strong, jnp.arange(3), True)
    target = np.array(
        [[0.15583, 0.36889, 0.47528], [0.11410, 0.35465, 0.53125], [0.07159, 0.32578, 0.60263]]
    )
    expected = -(target * np.log(softmax(np.asarray(z)))).sum(-1)
    np.testing.assert_allclose(terms["transfer"].values, expected, rtol=2e-5)


def test_tras_transfers_without_teaching_the_teacher():
    """No gradient reaches `base` through the transfer, nor any head through the weak view."""
    method, y = TRAS(threshold=0.1), jnp.zeros(B, jnp.int32)
    x, w, s = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32), (logits(0, B), logits(1, U), logits(2, 2 * U))
    )
    state = method.init(facts())

    def total(w, s, term):
        terms, _ = method.terms(state, x, w, s, y, True)
        return jnp.sum(terms[term].values)

    gradient = jax.grad(total, (0, 1))
    weak, strong = gradient(w, s, "transfer")
    assert not np.any(strong["base"]) and np.all(strong["balanced"])
    assert not np.any(weak["base"]) and not np.any(weak["balanced"])
    weak, strong = gradient(w, s, "consistency")
    assert np.all(strong["base"]) and not np.any(strong["balanced"])
    assert not np.any(weak["base"])


def test_tras_shifts_targets_to_rare_classes_and_more_so_for_rare_labels():
    method, state = TRAS(threshold=0.0), TRAS().init(facts())
    z = {"base": jnp.zeros((K, K)), "balanced": jnp.zeros((K, K))}
    weak = {"base": z["base"], "balanced": 50.0 * jnp.eye(K)}

    # With flat logits of `balanced`, the gradient of the term is 1/K minus the target.
    def total(balanced):
        strong = {"base": z["base"], "balanced": balanced}
        terms, _ = method.terms(state, z, weak, strong, jnp.arange(K), True)
        return jnp.sum(terms["transfer"].values)

    target = 1.0 / K - jax.grad(total)(z["balanced"])
    order = np.argsort(-COUNTS)
    assert np.all(np.diff(np.asarray(target)[:, order], axis=1) > 0)
    rarest = order[-1]
    assert np.all(np.diff(np.asarray(target)[order, rarest]) > 0)


def test_tras_predicts_by_the_head_that_is_trained():
    def network(images):
        return core.Outputs(images, {"base": jnp.zeros((1, K)), "balanced": jnp.ones((1, K))})

    method = TRAS(warmup_epochs=10)
    for epoch, head in [(10, "base"), (11, "balanced")]:
        scores = method.predict(None, network, jnp.zeros((1, 2)), epoch)
        assert float(scores[0, 0]) == (head == "balanced")
        assert head in method.scored_by(epoch)


# --- FixMatch -------------------------------------------------------------------------------------


class Passes:
    """A `Forward` that answers with the images themselves and notes who went together first."""

    def __init__(self):
        self.groups, self._seen = [], []

    def __call__(self, images):
        return self.jointly(images)[0]

    def apart(self, *views):
        return tuple(self(view) for view in views)

    def jointly(self, *views):
        new = [view for view in views if all(view is not seen for seen in self._seen)]
        self._seen += new
        self.groups += [len(new)] if new else []
        return tuple(core.Outputs(view, {"base": view}) for view in views)


def batch(labels, labeled, weak, *strong):
    labels = jnp.asarray(labels, jnp.int32)
    return core.Batch(
        core.Labeled(labeled, labels, jnp.arange(B)),
        core.Unlabeled(weak, strong, jnp.arange(U)),
    )


@pytest.mark.parametrize("labeled_tau", [0.0, 1.0])
@pytest.mark.parametrize("pseudo_label_tau", [0.0, 1.5])
def test_fixmatch_terms(labels, labeled_tau, pseudo_label_tau):
    method = FixMatch(
        threshold=0.6,
        unlabeled_weight=0.5,
        labeled_tau=labeled_tau,
        pseudo_label_tau=pseudo_label_tau,
        num_strong=2,
    )
    x, w, s1, s2 = (logits(i, n)["base"] for i, n in enumerate([B, U, U, U]))
    probs = softmax(w - pseudo_label_tau * LOG_PI)
    guess, mask = probs.argmax(-1), probs.max(-1) >= 0.6
    consistency = np.mean([mask * cross_entropy(s, guess) for s in (s1, s2)])

    views = [jnp.asarray(a, jnp.float32) for a in (x, w, s1, s2)]
    terms, _, monitors = method.loss(method.init(facts()), Passes(), batch(labels, *views), None)

    supervised = np.mean(cross_entropy(x + labeled_tau * LOG_PI, labels))
    np.testing.assert_allclose(jnp.mean(terms["supervised"].values), supervised, rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(terms["consistency"].values), consistency, rtol=1e-5)
    assert terms["consistency"].weight == 0.5
    assert float(jnp.mean(monitors["mask/base"].mask)) == pytest.approx(mask.mean())
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize("mode, groups", [("joint", [4]), ("separate", [1, 1, 1, 1])])
def test_fixmatch_forwards_together_or_apart_and_learns_nothing_on_the_weak_view(mode, groups):
    method = FixMatch(threshold=0.2, num_strong=2, forward_mode=mode)
    passes, state = Passes(), method.init(facts())

    def total(weak, strong):
        views = batch(np.zeros(B), jnp.ones((B, K)), weak, strong, 2 * strong)
        loss = method.loss(state, passes, views, None)
        return sum(jnp.sum(term.values) for term in loss.terms.values())

    weak, strong = (jnp.asarray(logits(i, U)["base"], jnp.float32) for i in (0, 1))
    on_weak, on_strong = jax.grad(total, (0, 1))(weak, strong)
    assert passes.groups == groups
    assert not np.any(on_weak) and np.any(on_strong)


@pytest.mark.parametrize("mode, groups", [("joint", [3]), ("separate", [1, 1, 1])])
def test_fixmatch_keeps_to_its_passes_when_another_has_guessed(mode, groups):
    method, passes = FixMatch(num_strong=2, forward_mode=mode), Passes()
    x, w, s1, s2 = (jnp.asarray(logits(i, n)["base"]) for i, n in enumerate([B, U, U, U]))
    state = method.init(facts())
    targets, state = method.accept(state, w, None, None)
    method.learn(state, passes, batch(np.zeros(B), x, w, s1, s2), targets, None)
    assert passes.groups == groups


# --- supervised -----------------------------------------------------------------------------------


def test_supervised_objectives(labels):
    z = logits(0, B)["base"]
    for method, shift in [
        (Supervised(), 0.0),
        (Supervised("logit_adjusted", tau=2.0), 2.0 * LOG_PI),
    ]:
        term = method.term(method.init(facts()), jnp.asarray(z), jnp.asarray(labels), 0)
        np.testing.assert_allclose(term.values, cross_entropy(z + shift, labels), rtol=2e-5)
        assert term.count is None


@pytest.mark.parametrize("epoch", [2, 3])
def test_ldam_weighs_the_classes_from_its_epoch_on(labels, epoch):
    method = Supervised("ldam", max_margin=0.4, scale=10.0, beta=0.9, reweight_from=3)
    cosines = np.tanh(logits(0, B)["base"])
    margins = COUNTS**-0.25 / np.max(COUNTS**-0.25) * 0.4
    weights = (1 - 0.9) / (1 - 0.9**COUNTS)
    weights = weights / weights.sum() * K if epoch >= 3 else np.ones(K)
    losses = cross_entropy(10.0 * (cosines - margins[labels][:, None] * np.eye(K)[labels]), labels)
    expected = np.sum(weights[labels] * losses) / np.sum(weights[labels])

    term = method.term(method.init(facts()), jnp.asarray(cosines), jnp.asarray(labels), epoch)

    np.testing.assert_allclose(jnp.sum(term.values) / term.count, expected, rtol=2e-5)


@pytest.mark.parametrize("epoch", [0, 159, 160, 199])
def test_ldam_is_that_of_the_released_code(epoch):
    """YyzHarry/imbalanced-semi-self at b91ad29, whose losses are those of kaidic/LDAM-DRW."""
    golden = Golden("self_supervised")
    method, counts = Supervised("ldam"), golden["ldam/class_counts"]
    problem = core.Problem(counts, 1, steps_per_epoch=1, total_steps=200)
    labels = jnp.asarray(golden["ldam/labels"])

    def total(cosines):
        term = method.term(method.init(problem), cosines, labels, epoch)
        return jnp.sum(term.values) / term.count

    features, kernel = golden["ldam/features"], golden["ldam/normed_kernel"]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = jnp.asarray(unit @ (kernel / np.linalg.norm(kernel, axis=0)), jnp.float32)
    found, gradient = jax.value_and_grad(total)(cosines)
    expected = golden.below(f"loss/LDAM_DRW_{epoch}")
    np.testing.assert_allclose(found, expected["total"], rtol=2e-5)
    np.testing.assert_allclose(gradient, expected["grad/logits"], rtol=1e-3, atol=1e-4)


def test_wrong_settings_name_the_nearest():
    for make, near in [
        (lambda: Supervised("ldma"), "ldam"),
        (lambda: FixMatch(forward_mode="jont"), "joint"),
        (lambda: methods.make("fixmatsh"), "fixmatch"),
        (lambda: methods.make("tras", treshold=0.9), "threshold"),
    ]:
        with pytest.raises(core.InputError, match=f"did you mean '{near}'"):
            make()
    with pytest.raises(core.InputError, match="no module 'nowhere'"):
        methods.make("nowhere.foo")


@pytest.mark.parametrize(
    "name, field, value",
    [
        ("tras", "temperature", 0.0),
        ("tras", "threshold", 95.0),
        ("fixmatch", "threshold", -0.1),
        ("fixmatch", "num_strong", 0),
        ("supervised", "beta", 1.0),
    ],
)
def test_values_that_would_train_on_nonsense_are_refused(name, field, value):
    with pytest.raises(core.InputError, match=f"method.{field} is {value}; it must be"):
        methods.make(name, **{field: value})
