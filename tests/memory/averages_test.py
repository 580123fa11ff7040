"""Averages and windows, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.memory import averages
from ltssl_jax.training.forward import AxisDevices

K, U, D = 4, 12, 3
RNG = np.random.default_rng(5)
VALUES = RNG.normal(size=(U, D)).astype(np.float32)
WEIGHTS = np.array([1, 0, 0, 0, 0, 0, 2, 0.5, 0, 1, 1, 1], np.float32)  # unevenly over 4 devices
LABELS = np.array([0, 1, 1, 3, 3, 3, 0, 1, 2, 2, 3, 0])


def on(num_devices, function, *arrays):
    """What each device gets from `function(devices, *its rows)`; all must get the same."""
    if num_devices == 1:
        return np.asarray(function(AxisDevices(None), *map(jnp.asarray, arrays)))
    shards = [jnp.asarray(a).reshape(num_devices, -1, *a.shape[1:]) for a in arrays]
    results = jax.vmap(lambda *x: function(AxisDevices("d"), *x), axis_name="d")(*shards)
    assert all(np.array_equal(results[0], other) for other in results)
    return np.asarray(results[0])


on_devices = pytest.mark.parametrize("num_devices", [1, 4])


def test_follow_goes_a_part_of_the_way():
    moved = averages.follow(jnp.array([1.0, 2.0]), jnp.array([3.0, -2.0]), decay=0.75)
    np.testing.assert_allclose(moved, [1.5, 1.0])


@on_devices
def test_batch_mean_is_that_of_the_global_batch(num_devices):
    ours = on(num_devices, lambda d, x: averages.batch_mean(x, d), VALUES)
    np.testing.assert_allclose(ours, VALUES.mean(axis=0), rtol=1e-5, atol=1e-6)


@on_devices
def test_a_weighted_mean_divides_by_the_weights_of_all_devices(num_devices):
    ours = on(num_devices, lambda d, x, w: averages.batch_mean(x, d, weights=w), VALUES, WEIGHTS)
    expected = np.average(VALUES.astype(np.float64), axis=0, weights=WEIGHTS)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@on_devices
def test_the_mean_of_nothing_is_zero(num_devices):
    ours = on(
        num_devices, lambda d, x, w: averages.batch_mean(x, d, weights=w), VALUES, 0 * WEIGHTS
    )
    np.testing.assert_array_equal(ours, np.zeros(D))


@on_devices
def test_a_histogram_adds_rows_up(num_devices):
    ours = on(num_devices, lambda d, y, w: averages.histogram(y, K, d, w), LABELS, WEIGHTS)
    np.testing.assert_allclose(ours, np.bincount(LABELS, WEIGHTS, minlength=K))
    assert ours.dtype == np.float32


def test_no_gradient_flows_into_a_memory():
    def total(x, w):
        mean = averages.batch_mean(x, AxisDevices(None), weights=w)
        counts = averages.histogram(jnp.asarray(LABELS), K, AxisDevices(None), w)
        return jnp.sum(mean) + jnp.sum(counts**2)

    for gradient in jax.grad(total, (0, 1))(jnp.asarray(VALUES), jnp.asarray(WEIGHTS)):
        assert not np.any(gradient)


def test_a_window_forgets_the_oldest():
    window = averages.empty_window(4, np.full(K, 0.25))
    assert window["values"].dtype == jnp.float32 and window["position"].dtype == jnp.int32
    expected = [0.25] * 4
    for n in range(1, 7):
        window, expected = averages.slid(window, jnp.full(K, float(n))), [*expected[1:], n]
        assert sorted(window["values"][:, 0].tolist()) == sorted(expected)
    assert window["values"].shape == (4, K)


@on_devices
def test_a_batch_slides_a_window_and_may_not_be_larger(num_devices):
    def values(devices, rows):
        window = averages.slid_by(averages.window_of(jnp.zeros((16, D))), rows, devices)
        return averages.slid_by(window, 2 * rows, devices)["values"]

    ours = on(num_devices, values, VALUES)
    expected = np.concatenate([2 * VALUES[4:], VALUES[8:], 2 * VALUES[:4]])
    np.testing.assert_array_equal(ours, expected)
    small = averages.window_of(jnp.zeros((11, D)))
    with pytest.raises(core.InputError, match="method.queue_size is 11; it must be at least .* 12"):
        averages.slid_by(small, jnp.asarray(VALUES), AxisDevices(None))
