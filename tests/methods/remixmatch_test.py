"""ReMixMatch: golden steps, and the alignment, the rotations and the order of its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.core import InputError
from ltssl_jax.methods import remixmatch
from ltssl_jax.methods.remixmatch import ReMixMatch
from ltssl_jax.training.forward import AxisDevices
from tests.methods import mixtures
from tests.methods.golden import Golden

GOLDEN = Golden("remixmatch")
MIXED = ("mixed_labeled", "mixed_weak", "mixed_strong0", "mixed_strong1")
# The authors' labels 0 to 3 are so many quarter turns; ours are the turns.
TURNS = np.array([0, 2, 1, 3])
TERMS = {
    "supervised": "labeled",
    "consistency": "unlabeled",
    "unmixed": "premixup",
    "rotation": "rotation",
}


def method(**changes):
    hyper = {k.removeprefix("w_"): v.item() for k, v in GOLDEN.below("hyper").items()}
    settings = dict(
        temperature=hyper["temperature"],
        concentration=hyper["beta"],
        unlabeled_weight=hyper["match"],
        unmixed_weight=hyper["kl"],
        rotation_weight=hyper["rot"],
        ramp_steps=hyper["warmup_steps"],
        num_strong=hyper["K"],
        window=hyper["buffer"],
    )
    return ReMixMatch(**settings | changes)


def network(n):
    """The file's network, its rotation head in the order of our labels."""
    kernels = {k: jnp.asarray(v) for k, v in GOLDEN.below(f"step{n}").items() if "kernel" in k}
    kernels |= {k: jnp.asarray(v) for k, v in GOLDEN.below(f"step{n}").items() if "bias" in k}
    turned = {k: v[..., TURNS] for k, v in kernels.items() if "rotation" in k}
    return kernels | turned


def replay(ours, n, state):
    turns = jnp.asarray(GOLDEN[f"step{n}/random/quarter_turns"])
    with pytest.MonkeyPatch.context() as patch:
        mixtures.given_draws(patch, GOLDEN, n)
        patch.setattr(remixmatch, "draw_quarter_turns", lambda keys: turns)
        new = ("rotated", *MIXED)
        return mixtures.replay(GOLDEN, ours, n, state, new, network(n))


def check_state(n, state):
    window = state["guesses"]
    oldest_first = np.roll(window["values"], -int(window["position"]), axis=0)
    np.testing.assert_allclose(oldest_first, GOLDEN[f"step{n}/state/p_model"], rtol=1e-5)
    np.testing.assert_allclose(state["prior"], GOLDEN[f"step{n}/state/p_data"], rtol=1e-5)


def test_steps_are_the_authors():
    ours = method(alignment="followed")
    state = ours.init(GOLDEN.problem())
    for n in GOLDEN.steps:
        step = GOLDEN.below(f"step{n}")
        loss, contributions, gradient, forward = replay(ours, n, state)
        for name in ("rotated", *MIXED):
            np.testing.assert_allclose(forward.images[name], step[f"image/{name}"], atol=1e-6)
        for name in ("strong0", *MIXED):
            np.testing.assert_allclose(
                gradient[f"{name}/base"], step[f"grad/{name}/base"], rtol=2e-4, atol=2e-6
            )
        rotation = step["grad/rotated/rotation"][:, TURNS]
        np.testing.assert_allclose(gradient["rotated/rotation"], rotation, rtol=2e-4, atol=2e-6)
        assert not np.any(gradient["weak/base"])  # no gradient reaches the guess
        for name, theirs in TERMS.items():
            np.testing.assert_allclose(
                contributions[name], step[f"term/{theirs}"], rtol=1e-5, err_msg=f"{n} {name}"
            )
        state = loss.state
        check_state(n, state)


@pytest.mark.parametrize(
    "alignment, variant, steps",
    [("labeled", "known_prior", (0, 1, 2)), ("none", "no_alignment", (1,))],
)
def test_other_alignments_are_the_authors(alignment, variant, steps):
    ours = method(alignment=alignment)
    state = ours.init(GOLDEN.problem())
    for n in range(max(steps) + 1):
        given, _ = mixtures.batch(GOLDEN, n)
        logits = jnp.asarray(GOLDEN[f"step{n}/view/weak/logits/base"])
        context = mixtures.context(GOLDEN, n)
        if n in steps:
            stored = GOLDEN.below(f"variant/{variant}/step{n}")
            guessed = np.mean(state["guesses"]["values"], axis=0)
            np.testing.assert_allclose(guessed, stored["prior/model"], rtol=1e-5)
        targets, state = ours.accept(state, logits, given, context)
        if n in steps:
            np.testing.assert_allclose(targets.probs, stored["target/guess"], rtol=1e-4, atol=1e-7)


def accepted(ours, logits, state=None):
    """Targets and state from logits, on one device."""
    problem = core.Problem(np.array([6.0, 1.0, 3.0]), 9, steps_per_epoch=1, total_steps=9)
    state = ours.init(problem) if state is None else state
    labeled = core.Labeled(None, jnp.zeros(2, jnp.int32), None)
    ctx = core.Context(0, 0, None, AxisDevices(None))
    return ours.accept(state, logits, core.Batch(labeled, None), ctx)


def test_guesses_come_to_have_the_classes_of_the_labels():
    """A network that says each row's class too often of one kind is corrected in the mean."""
    ours = ReMixMatch(temperature=1.0, window=2)
    logits = jnp.log(jnp.asarray([[0.2, 0.7, 0.1], [0.2, 0.6, 0.2], [0.2, 0.8, 0.0001]]))
    state = None
    for _ in range(3):
        targets, state = accepted(ours, logits, state)
    raw = np.mean(jax.nn.softmax(logits), axis=0)
    aligned = np.mean(targets.probs, axis=0)
    prior = np.array([0.6, 0.1, 0.3])
    assert np.abs(aligned - prior).sum() < 0.5 * np.abs(raw - prior).sum()


def test_a_step_is_aligned_by_what_was_guessed_before_it():
    """Ports count the step's own guesses; the authors, uniform ones before the first."""
    ours = ReMixMatch(temperature=1.0, window=4)
    logits = jnp.asarray([[3.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    targets, state = accepted(ours, logits)
    expected = np.asarray(jax.nn.softmax(logits)) * [0.6, 0.1, 0.3]  # the window is uniform
    np.testing.assert_allclose(targets.probs, expected / expected.sum(1, keepdims=True), rtol=1e-4)
    pushed = state["guesses"]["values"]
    np.testing.assert_allclose(pushed[0], np.mean(jax.nn.softmax(logits), axis=0), rtol=1e-6)
    np.testing.assert_allclose(pushed[1:], 1 / 3, rtol=1e-6)


def test_passes_and_their_order():
    forward = replay(method(), 0, method().init(GOLDEN.problem()))[3]
    assert forward.groups == [["weak"], ["strong0"], ["rotated"], list(MIXED)]


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="did you mean 'labeled'"):
        ReMixMatch(alignment="label")
    with pytest.raises(InputError, match="method.window is 0"):
        ReMixMatch(window=0)
