"""UDA: golden steps, training signal annealing, and what ports of it have lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.methods.uda import UDA
from tests.methods.golden import Golden, assert_gradients_equal

GOLDEN = Golden("uda")


class Variant(Golden):
    """The steps of one variant of the file: its answers to the inputs of the main steps."""

    def __init__(self, name):
        super().__init__("uda")
        given = {k: v for k, v in self.arrays.items() if not k.startswith("variant/")}
        answers = self.below(f"variant/{name}")
        self.steps = sorted({int(k[4]) for k in answers if k.startswith("step")})
        self.arrays = given | answers


def check(golden, method, n, **names):
    """Terms (ours by name, theirs) and gradients of one step; returns the `Loss`."""
    loss, contributions, gradient = golden.replay(method, n, ())
    for ours, theirs in names.items():
        np.testing.assert_allclose(
            contributions[ours], golden[f"step{n}/term/{theirs}"], rtol=1e-5, err_msg=f"{n} {ours}"
        )
    np.testing.assert_allclose(sum(contributions.values()), golden[f"step{n}/total"], rtol=1e-5)
    assert_gradients_equal(golden, n, gradient)
    return loss


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_steps_are_the_authors(n):
    loss = check(GOLDEN, UDA(), n, supervised="labeled", consistency="unlabeled")
    np.testing.assert_array_equal(
        loss.monitors["mask/base"].mask, GOLDEN[f"step{n}/mask/unlabeled"]
    )
    logits = jnp.asarray(GOLDEN[f"step{n}/view/weak/logits/base"])
    targets, _ = UDA().accept((), logits, None, None)
    np.testing.assert_allclose(targets.probs, GOLDEN[f"step{n}/target/weak"], rtol=1e-4, atol=1e-7)
    rows = loss.terms["consistency"].values[0]
    expected = GOLDEN[f"step{n}/row/kl"] * GOLDEN[f"step{n}/mask/unlabeled"]
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("signal", ["linear", "exp", "log"])
def test_annealing_is_the_authors(signal):
    golden = Variant(signal)
    kept = []
    for n in golden.steps:
        loss = check(golden, UDA(annealing=signal), n, supervised="labeled")
        kept.append(loss.terms["supervised"].values > 0)
        np.testing.assert_array_equal(kept[-1], golden[f"step{n}/mask/labeled"])
    assert 0 < np.mean(kept) < 1


def test_entropy_and_no_mask_are_the_authors():
    entropy = Variant("entropy")
    method = UDA(entropy_weight=float(entropy["ent_min_coeff"]))
    check(entropy, method, 0, supervised="labeled", consistency="unlabeled")
    weak = entropy.replay(method, 0, ())[2]["weak"].logits["base"]
    assert np.any(weak)  # entropy is the one term that reaches the weak view

    check(Variant("no_mask"), UDA(0.0, 1.0), 0, supervised="labeled", consistency="unlabeled")


def annealed(logits, labels, step):
    """The labeled term of linear annealing after `step` of 10 steps: values and count."""
    ctx = type("Context", (), dict(step=step, total_steps=10))
    term = UDA(annealing="linear").supervised(jnp.asarray(logits), jnp.asarray(labels), ctx)
    return np.asarray(term.values), float(term.count)


def test_annealing_looks_at_the_true_class_and_counts_what_is_kept():
    """Two of the faults of ports: any sure row is dropped; the mean is over all rows."""
    sure = [9.0, 0.0, 0.0]
    values, count = annealed([sure, sure], [0, 1], 5)  # right, and sure of a wrong class
    assert values[0] == 0 and values[1] > 8 and count == 1
    assert annealed([sure, sure], [0, 1], 10)[1] == 2  # everything is released in the end


def test_a_threshold_must_be_exceeded_and_targets_are_sharpened():
    logits = jnp.asarray([[0.0, 0.0], [0.1, 0.0], [3.0, 0.0]])
    targets, _ = UDA(0.5, 0.4).accept((), logits, None, None)
    np.testing.assert_array_equal(targets.mask, [0, 1, 1])
    np.testing.assert_allclose(targets.probs[2, 0], 1 / (1 + np.exp(-3 / 0.4)), rtol=1e-6)
    np.testing.assert_array_equal(targets.labels, jnp.argmax(jax.nn.softmax(logits), axis=1))


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="did you mean 'linear'"):
        UDA(annealing="lineal")
    with pytest.raises(InputError, match="method.temperature is 0"):
        UDA(temperature=0)
