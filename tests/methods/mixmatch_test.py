"""MixMatch: golden steps, and what ports of it have lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.losses import mixing
from ltssl_jax.methods.mixmatch import MixMatch
from tests.methods import mixtures
from tests.methods.golden import Golden

GOLDEN = Golden("mixmatch")
MIXED = ("mixed_labeled", "mixed_weak", "mixed_weak1")
METHOD = MixMatch(
    temperature=float(GOLDEN["hyper/temperature"]),
    concentration=float(GOLDEN["hyper/beta"]),
    unlabeled_weight=float(GOLDEN["hyper/weight"]),
    ramp_steps=int(GOLDEN["hyper/warmup_steps"]),
)


@pytest.mark.parametrize("n", GOLDEN.steps)
def test_steps_are_the_authors(n, monkeypatch):
    mixtures.given_draws(monkeypatch, GOLDEN, n)
    _, contributions, gradient, forward = mixtures.replay(GOLDEN, METHOD, n, (), MIXED)
    step = GOLDEN.below(f"step{n}")
    for name in MIXED:
        np.testing.assert_allclose(forward.images[name], step[f"image/{name}"], atol=1e-6)
        np.testing.assert_allclose(
            gradient[f"{name}/base"], step[f"grad/{name}/base"], rtol=2e-4, atol=2e-6
        )
    for name in ("weak", "weak1"):  # no gradient reaches the guesses
        assert not np.any(gradient[f"{name}/base"])
    np.testing.assert_allclose(contributions["supervised"], step["term/labeled"], rtol=1e-5)
    np.testing.assert_allclose(contributions["consistency"], step["term/unlabeled"], rtol=1e-5)


def test_the_ramp_of_the_golden_steps_begins_rises_and_ends():
    ramp = [float(GOLDEN[f"step{n}/warmup"]) for n in GOLDEN.steps]
    assert ramp[0] == 0 and 0 < ramp[1] < 1 and ramp[-1] == 1


def test_targets_are_the_authors():
    n = GOLDEN.steps[1]
    batch, views = mixtures.batch(GOLDEN, n)
    network = {k: jnp.asarray(v) for k, v in GOLDEN.below(f"step{n}").items()}
    forward = mixtures.TanhForward(network, views, MIXED, {})
    logits = METHOD.guess((), forward, batch, None)
    np.testing.assert_allclose(
        jax.nn.softmax(logits), GOLDEN[f"step{n}/target/mean_probability"], rtol=1e-5
    )
    targets, _ = METHOD.accept((), logits, batch, None)
    np.testing.assert_allclose(targets.probs, GOLDEN[f"step{n}/target/guess"], rtol=2e-5)
    assert np.all(targets.mask == 1)


def test_guesses_are_made_apart_and_mixtures_share_a_pass():
    forward = mixtures.replay(GOLDEN, METHOD, 0, (), MIXED)[3]
    assert forward.groups == [["weak"], ["weak1"], list(MIXED)]


def test_every_row_has_a_share_of_its_own(monkeypatch):
    """Ports draw one share for the whole batch, or the same one for all views of an image."""
    drawn, real = [], mixing.shares
    monkeypatch.setattr(mixing, "shares", lambda *a: drawn.append(real(*a)) or drawn[-1])
    mixtures.replay(GOLDEN, METHOD, 0, (), MIXED)
    drawn = np.concatenate(drawn)
    assert len(np.unique(drawn)) == len(drawn) == 24


def test_what_is_said_of_an_image_counts_for_all_its_views():
    """Without partners the consistency pulls both views to one sharpened average."""
    n, whole = 5, lambda keys, concentration: jnp.ones(len(keys))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "shares", whole)
        loss, *_, forward = mixtures.replay(GOLDEN, METHOD, n, (), MIXED)
    step = {k: np.float64(v) for k, v in GOLDEN.below(f"step{n}").items()}

    def probs(image):
        z = np.tanh(image.reshape(len(image), -1) @ step["backbone/kernel"])
        z = np.exp(z @ step["head/base/kernel"] + step["head/base/bias"])
        return z / z.sum(1, keepdims=True)

    both = [probs(step[f"image/{name}"]) for name in ("weak", "weak1")]
    target = np.mean(both, axis=0) ** 2
    target /= target.sum(1, keepdims=True)
    expected = [(p - target) ** 2 for p in both]
    np.testing.assert_allclose(loss.terms["consistency"].values, expected, rtol=1e-3, atol=1e-6)


def test_bad_settings_are_refused():
    for field in ("temperature", "concentration", "num_weak"):
        with pytest.raises(InputError, match=f"method.{field} is 0"):
            MixMatch(**{field: 0})
