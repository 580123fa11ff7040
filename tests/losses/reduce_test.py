"""Reduced terms equal the ratio over the global batch, however the examples lie on the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import Term
from ltssl_jax.losses.reduce import reduce_terms

N, D = 16, 3
RNG = np.random.default_rng(4)
INPUTS = RNG.standard_normal((N, D))
PARAMS = np.array([0.5, -1.0, 2.0])
# Crowded on the first examples, so that with 8 devices most of them accept nothing.
UNEVEN = np.isin(np.arange(N), [0, 1, 2, 3, 6]).astype(float)
WEIGHTS = RNG.uniform(0.01, 0.2, N)  # their mean is far below 1, as that of LDAM's may be


class Lanes:
    """`Devices` over the axis of a vmap."""

    def mean(self, tree):
        return jax.tree.map(lambda x: jax.lax.stop_gradient(jax.lax.pmean(x, "lanes")), tree)


def terms_of(params, inputs, mask, weights):
    errors = jnp.square(inputs @ params)
    return {
        "all": Term(errors, 0.5),
        "accepted": Term(mask * errors, 2.0, jnp.sum(mask)),
        "weighted": Term(weights * errors, jnp.float32(3.0), jnp.sum(weights)),
    }


def reduced_over(lanes, mask):
    """Value, contributions and gradient, each averaged over the lanes, as the step does it."""

    def objective(params, *arrays):
        return reduce_terms(terms_of(params, *arrays), Lanes())

    def lane(*arrays):
        results = jax.value_and_grad(objective, has_aux=True)(jnp.float32(PARAMS), *arrays)
        return jax.lax.pmean(results, "lanes")

    shares = [
        jnp.float32(a).reshape(lanes, N // lanes, *a.shape[1:]) for a in (INPUTS, mask, WEIGHTS)
    ]
    (total, contributions), gradient = jax.jit(jax.vmap(lane, axis_name="lanes"))(*shares)
    return total[0], jax.tree.map(lambda x: x[0], contributions), gradient[0]


def expected(mask):
    errors = (INPUTS @ PARAMS) ** 2
    slopes = 2 * (INPUTS @ PARAMS)[:, None] * INPUTS
    accepted = mask / max(mask.sum(), 1)
    shares = {
        "all": 0.5 * np.full(N, 1 / N),
        "accepted": 2 * accepted,
        "weighted": 3 * WEIGHTS / WEIGHTS.sum(),
    }
    values = {name: share @ errors for name, share in shares.items()}
    return values, sum(share @ slopes for share in shares.values())


@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
@pytest.mark.parametrize("mask", [UNEVEN, np.zeros(N)], ids=["uneven", "nothing accepted"])
def test_average_over_devices_is_the_global_ratio(lanes, mask):
    total, contributions, gradient = reduced_over(lanes, mask)
    values, slope = expected(mask)
    assert contributions.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_allclose(contributions[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(total, sum(values.values()), rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4)


class Alone:
    """`Devices` of a single device."""

    def mean(self, tree):
        return jax.lax.stop_gradient(tree)


def test_nothing_accepted_gives_zero_value_and_zero_gradient():
    def objective(logits):
        mask = jnp.zeros(3)
        return reduce_terms({"only": Term(mask * logits**2, 1.0, jnp.sum(mask))}, Alone())[0]

    value, gradient = jax.value_and_grad(objective)(jnp.array([1.0, 2.0, 3.0]))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_the_count_carries_no_gradient():
    def objective(scale):
        return reduce_terms({"only": Term(jnp.ones(3), 1.0, 3 * scale)}, Alone())[0]

    assert jax.grad(objective)(1.0) == 0


def test_values_may_have_any_shape():
    terms = {"two views": Term(jnp.arange(6.0).reshape(2, 3)), "scalar": Term(jnp.float32(4.0))}
    total, contributions = reduce_terms(terms, Alone())
    assert (total, contributions["two views"], contributions["scalar"]) == (6.5, 2.5, 4.0)


def test_arithmetic_is_float32_whatever_the_values():
    # Sums beyond 256 lose units in bfloat16.
    ones = jnp.ones(1000, jnp.bfloat16)
    terms = {"mean": Term(ones), "ratio": Term(ones, 1.0, jnp.bfloat16(1))}
    total, contributions = reduce_terms(terms, Alone())
    assert (contributions["mean"], contributions["ratio"]) == (1, 1000)
    assert {x.dtype for x in (total, *contributions.values())} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "term",
    [Term(jnp.ones(3), jnp.ones(3)), Term(jnp.ones(3), 1.0, jnp.ones(3))],
    ids=["weight", "count"],
)
def test_weights_and_counts_per_example_are_refused(term):
    with pytest.raises(AssertionError):
        reduce_terms({"only": term}, Alone())
