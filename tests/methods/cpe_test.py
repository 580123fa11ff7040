"""CPE against steps of the authors' code (machengcheng2016/CPE-LTSSL, dedd598), and its parts.

Their code needs classes in the order of their counts; it ran on ranks, and the file has the classes
back in an order of their own. The branches are tested with the network, in `models/pool_test.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods
from ltssl_jax.methods.cpe import CPE, EXPERTS
from tests.methods import golden as golden_

COUNTS = np.array([3, 40, 1, 12])  # ranks 2, 0, 3, 1
K, U = len(COUNTS), 6


def facts(counts=COUNTS):
    return core.Problem(counts, 99, steps_per_epoch=10, total_steps=100)


def configured(golden):
    hyper = {name: value.tolist() for name, value in golden.below("hyper").items()}
    taus = dict(zip(("tau1", "tau2", "tau3"), hyper.pop("tau"), strict=True))
    return CPE(**taus, **hyper)


def test_steps_are_the_authors():
    golden = golden_.Golden("cpe")
    method = configured(golden)
    state = method.init(golden.problem())
    for n in golden.steps:
        loss, terms, gradient = golden.replay(method, n, state)
        for name in EXPERTS:
            expected = golden[f"step{n}/term/supervised_{name}"]
            np.testing.assert_allclose(terms[f"supervised_{name}"], expected, rtol=2e-4)
            expected = golden[f"step{n}/term/unsupervised_{name}"]
            np.testing.assert_allclose(terms[f"consistency_{name}"], expected, rtol=2e-4, atol=1e-6)
            accepted = golden[f"step{n}/mask/{name}_branches"]
            np.testing.assert_array_equal(loss.monitors[f"mask/{name}"].mask, accepted[:, 0])
            assert float(loss.terms[f"consistency_{name}"].count) == accepted.sum()
        np.testing.assert_allclose(sum(terms.values()), golden[f"step{n}/total"], rtol=2e-4)
        golden_.assert_gradients_equal(golden, n, gradient)


# --- which branch learns what ---------------------------------------------------------------------


def told(seed, guesses=None):
    """Logits of one expert by branch `[U, 3, K]`; sure of `guesses` if there are any."""
    logits = np.random.default_rng(seed).normal(size=(U, 3, K))
    if guesses is not None:
        logits += 20.0 * np.eye(K)[guesses][:, None]
    return jnp.asarray(logits, jnp.float32)


def test_branches_are_for_ranks_of_the_labeled_counts():
    learns = CPE(cut1=1, cut2=3).init(facts())["learns"]
    np.testing.assert_array_equal(learns, [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]])


@pytest.mark.parametrize("label, branches", [(1, [0]), (3, [0, 1]), (0, [0, 1]), (2, [0, 1, 2])])
def test_a_pseudo_label_is_learned_by_the_branches_of_its_class(label, branches):
    method, strong = CPE(cut1=1, cut2=3), told(1)
    learns = method.init(facts())["learns"]

    def total(weak, strong):
        term, _ = method.consistency(learns, weak, strong)
        return jnp.sum(term.values), term.count

    weak = told(0, np.full(U, label))
    (to_weak, to_strong), count = jax.grad(total, (0, 1), has_aux=True)(weak, strong)
    assert not np.any(to_weak)
    assert [b for b in range(3) if np.any(to_strong[:, b])] == branches
    assert float(count) == U * len(branches)


def test_a_guess_is_that_of_the_mean_over_the_branches():
    """Two branches that contradict each other make an unsure guess."""
    method = CPE(cut1=1, cut2=3)
    learns = method.init(facts())["learns"]
    sure = told(0, np.full(U, 2))
    assert np.all(method.consistency(learns, sure, told(1))[1].mask)
    torn = sure.at[:, 1].set(told(0, np.full(U, 1))[:, 1]).at[:, 2].set(0.0)
    assert not np.any(method.consistency(learns, torn, told(1))[1].mask)


def test_every_expert_teaches_itself():
    """Nothing of one expert reaches the terms of another."""
    method = CPE(threshold=0.0, cut1=1, cut2=3)
    views = [jnp.full((U, 1), float(i)) for i in range(3)]
    outputs = [
        core.Outputs(jnp.zeros((U, 1)), {name: told(3 * i + v) for i, name in enumerate(EXPERTS)})
        for v in range(3)
    ]
    names = ("labeled", "weak", "strong")
    batch = core.Batch(
        core.Labeled(views[0], jnp.arange(U) % K, jnp.arange(U)),
        core.Unlabeled(views[1], (views[2],), jnp.arange(U)),
    )

    def terms(said):
        forward = golden_.GivenForward(said, dict(zip(names, views, strict=True)))
        loss = method.loss(method.init(facts()), forward, batch, None)
        return {name: jnp.sum(term.values) for name, term in loss.terms.items()}

    slopes = jax.jacrev(terms)(dict(zip(names, outputs, strict=True)))
    for term, slope in slopes.items():
        reached = {h for v in names for h in EXPERTS if np.any(slope[v].logits[h])}
        assert reached == {term.split("_")[1]}


def test_the_middle_expert_answers_by_the_mean_over_its_branches():
    said = {name: told(i) for i, name in enumerate(EXPERTS)}
    method = CPE()
    found = method.predict(None, lambda x: core.Outputs(x, said), jnp.zeros((U, 1)), 0)
    np.testing.assert_allclose(found, np.mean(said["expert2"], axis=1), rtol=1e-6)
    assert "expert2" in method.scored_by(0)


def test_a_class_without_labels_stays_finite():
    state = CPE().init(facts(np.array([3, 40, 0, 12])))
    assert np.all(np.isfinite(state["log_prior"]))
    np.testing.assert_array_equal(state["learns"].sum(1), [4, 2, 0])


def test_cuts_out_of_order_are_refused():
    with pytest.raises(core.InputError, match="method.cut2 is 1; it must be at least method.cut1"):
        methods.make("cpe", cut2=1)
