"""Heads: what they compute, how they start, and which ones exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import Head, InputError
from ltssl_jax.models import heads

FEATURES = np.random.default_rng(6).standard_normal((5, 8)).astype(np.float32)


KEY = jax.random.key(0, impl="rbg")


def built(head):
    module = heads.make(head, 10)
    variables = jax.jit(module.init, static_argnums=2)(KEY, FEATURES, False)
    apply = jax.jit(module.apply, static_argnums=2)
    return apply(variables, FEATURES, False), variables["params"]


def test_linear_is_an_affine_map_that_starts_without_bias():
    logits, params = built(Head("base"))
    assert logits.shape == (5, 10)
    np.testing.assert_allclose(logits, FEATURES @ params["dense"]["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(params["dense"]["bias"], 0)


def test_weights_are_xavier_normal():
    kernel = np.asarray(heads.XAVIER_NORMAL(KEY, (400, 100)))
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (400 + 100)), rtol=0.02)
    # Not truncated: one in 370 is beyond three standard deviations.
    assert np.mean(np.abs(kernel) > 3 * kernel.std()) > 0.001


def test_cosine_is_the_cosine():
    cosines, params = built(Head("base", kind="cosine"))
    kernel = np.float64(params["kernel"])
    norms = np.linalg.norm(FEATURES, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)[None, :]
    np.testing.assert_allclose(cosines, FEATURES @ kernel / norms, rtol=1e-4, atol=1e-6)
    assert np.abs(cosines).max() <= 1 + 1e-6


def test_cosine_ignores_length_and_has_a_gradient_at_zero():
    module = heads.make(Head("base", kind="cosine"), 10)
    variables = jax.jit(module.init, static_argnums=2)(KEY, FEATURES, False)
    apply = jax.jit(lambda variables, x: module.apply(variables, x, False))
    one, thousand = [apply(variables, c * FEATURES) for c in (1, 1000)]
    np.testing.assert_allclose(one, thousand, rtol=1e-4, atol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(apply(variables, x)))(jnp.zeros((5, 8)))
    assert np.all(np.isfinite(gradient))


def test_mlp_has_one_hidden_layer_of_the_features_width():
    projections, params = built(Head("projection", size=6, kind="mlp"))
    assert projections.shape == (5, 6)
    hidden = np.maximum(FEATURES @ params["hidden"]["kernel"], 0)
    assert hidden.shape == (5, 8)
    expected = hidden @ params["output"]["kernel"]
    np.testing.assert_allclose(projections, expected, rtol=1e-4, atol=1e-6)


def test_normalized_mlp_has_hidden_units_of_mean_zero_and_variance_one_before_the_relu():
    module = heads.make(Head("projection", size=6, kind="normalized_mlp"), 10)
    variables = jax.jit(module.init, static_argnums=2)(KEY, FEATURES, False)
    projections, updated = jax.jit(
        lambda v: module.apply(v, FEATURES, True, mutable=["batch_stats"])
    )(variables)
    params = variables["params"]
    hidden = FEATURES @ np.float64(params["hidden"]["kernel"])
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)[None, :]
    expected = np.maximum(hidden, 0) @ params["output"]["kernel"]
    np.testing.assert_allclose(projections, expected, rtol=1e-3, atol=1e-4)
    mean = updated["batch_stats"]["bn"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * (FEATURES @ params["hidden"]["kernel"]).mean(0), 1e-3)


@pytest.mark.parametrize("kind", heads.KINDS)
@pytest.mark.parametrize("size, expected", [(4, 4), (None, 10)])
def test_size_is_the_heads_own_or_that_of_the_classes(kind, size, expected):
    module = heads.make(Head("rotation", size=size, kind=kind), 10)
    found, _ = jax.eval_shape(lambda: module.init_with_output(KEY, FEATURES, False))
    assert found.shape == (5, expected)


def test_unknown_kind_names_the_nearest():
    message = "kind of head 'base': 'cosinus' is unknown; did you mean 'cosine'"
    with pytest.raises(InputError, match=message):
        heads.make(Head("base", kind="cosinus"), 10)
