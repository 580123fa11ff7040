"""Batch norm against a float64 transcription of PyTorch's, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.models.layers import BatchNorm

RNG = np.random.default_rng(5)
X = RNG.normal(2.0, 3.0, (8, 3, 2, 4))
PARAMS = {"scale": RNG.uniform(0.5, 2, 4), "bias": RNG.standard_normal(4)}
STATS = {"mean": RNG.standard_normal(4), "var": RNG.uniform(0.5, 2, 4)}
VARIABLES = jax.tree.map(jnp.float32, {"params": PARAMS, "batch_stats": STATS})


def normalized(x, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * PARAMS["scale"] + PARAMS["bias"]


def assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_training_is_pytorchs():
    layer = BatchNorm()
    y, updated = layer.apply(VARIABLES, jnp.float32(X), True, mutable=["batch_stats"])
    axes, n = (0, 1, 2), X.size // 4
    mean, var = X.mean(axes), X.var(axes)
    assert_close(y, normalized(X, mean, var))
    expected = {
        "mean": 0.999 * STATS["mean"] + 0.001 * mean,
        "var": 0.999 * STATS["var"] + 0.001 * var * n / (n - 1),
    }
    # The change, not the value: a thousandth of an update would hide in the tolerance.
    change = jax.tree.map(lambda a, b: (a - b) / 0.001, expected, STATS)
    found = jax.tree.map(
        lambda a, b: np.float64(a - b) / 0.001, updated["batch_stats"], VARIABLES["batch_stats"]
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), found, change)


def test_evaluation_uses_running_statistics_and_keeps_them():
    y, updated = BatchNorm().apply(VARIABLES, jnp.float32(X), False, mutable=["batch_stats"])
    assert_close(y, normalized(X, STATS["mean"], STATS["var"]))
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], VARIABLES["batch_stats"])


def test_initialization_is_neutral():
    variables = BatchNorm(axis_name="data").init(jax.random.key(0), jnp.float32(X), True)
    expected = {
        "params": {"scale": np.ones(4), "bias": np.zeros(4)},
        "batch_stats": {"mean": np.zeros(4), "var": np.ones(4)},
    }
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


@pytest.mark.parametrize("lanes, negative_slope", [(2, 1.0), (8, 0.1)])
def test_statistics_and_gradients_are_those_of_the_global_batch(lanes, negative_slope):
    target = jnp.float32(RNG.standard_normal(X.shape))

    def objective(params, x, target, axis_name):
        variables = VARIABLES | {"params": params}
        layer = BatchNorm(0.5, axis_name=axis_name, negative_slope=negative_slope)
        y, updated = layer.apply(variables, x, True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(y) * target), (y, updated["batch_stats"])

    slope = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)

    def lane(x, target):
        (value, (y, stats)), (to_params, to_x) = slope(VARIABLES["params"], x, target, "data")
        value, stats, to_params = jax.lax.pmean((value, stats, to_params), "data")
        return value, stats, to_params, y, to_x / lanes  # a lane's mean weighs 1 / lanes

    split = [a.reshape(lanes, -1, *X.shape[1:]) for a in (jnp.float32(X), target)]
    value, stats, to_params, y, to_x = jax.jit(jax.vmap(lane, axis_name="data"))(*split)
    single = jax.jit(slope, static_argnums=3)
    (one_value, (one_y, one_stats)), (one_to_params, one_to_x) = single(
        VARIABLES["params"], jnp.float32(X), target, None
    )
    one_lane = jax.tree.map(lambda a: a[0], (value, stats, to_params))
    assert_close(one_lane, (one_value, one_stats, one_to_params))
    whole = [a.reshape(X.shape) for a in (y, to_x)]
    assert_close(whole, [one_y, one_to_x])


def test_a_constant_channel_stays_finite():
    x = jnp.full((4, 1000, 1, 4), 123.4)

    def total(x):
        return jnp.sum(BatchNorm().apply(VARIABLES, x, True, mutable=["batch_stats"])[0])

    value, gradient = jax.jit(jax.value_and_grad(total))(x)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_bfloat16_inputs_are_normalized_in_float32():
    x = jnp.bfloat16(X) + jnp.bfloat16(100)
    layer = BatchNorm(dtype=jnp.bfloat16)
    y, updated = layer.apply(VARIABLES, x, True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    values = np.float64(x)
    expected = normalized(values, values.mean((0, 1, 2)), values.var((0, 1, 2)))
    np.testing.assert_allclose(np.float64(y), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("negative_slope", [1.0, 0.1])
def test_the_written_gradient_is_the_automatic_one(negative_slope):
    """Against differentiating the plain formula, with the leaky ReLU that may follow."""
    target = jnp.float32(RNG.standard_normal(X.shape))
    x, layer = jnp.float32(X), BatchNorm(negative_slope=negative_slope)

    def ours(params, x):
        return layer.apply(VARIABLES | {"params": params}, x, True, mutable=["batch_stats"])[0]

    def plain(params, x):
        mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        scale, bias = (params[name].reshape(1, 1, 1, 4) for name in ("scale", "bias"))
        y = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
        return jnp.where(y >= 0, y, negative_slope * y)

    slopes = []
    for layer_fn in (ours, plain):
        value, pull_back = jax.vjp(layer_fn, VARIABLES["params"], x)
        slopes.append((value, pull_back(target)))
    assert_close(*slopes)


def test_no_gradient_through_running_statistics():
    def moved(x):
        updated = BatchNorm(0.5).apply(VARIABLES, x, True, mutable=["batch_stats"])[1]
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updated))

    np.testing.assert_array_equal(jax.grad(moved)(jnp.float32(X)), 0)
