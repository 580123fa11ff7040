"""What is remembered of each image of the pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.memory import pool
from ltssl_jax.training.forward import AxisDevices

INDEX = np.array([5, 0, 7, 2])


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_rows_of_all_devices_go_where_their_images_are(num_devices, shape):
    store = jnp.full((9, *shape), -1, jnp.int32)
    rows = np.arange(4 * int(np.prod(shape))).reshape(4, *shape).astype(np.int32)
    expected = np.array(store)
    expected[INDEX] = rows
    devices = AxisDevices("d" if num_devices > 1 else None)
    ours = jax.vmap(lambda i, r: pool.put(store, i, r, devices), axis_name="d")(
        INDEX.reshape(num_devices, -1), rows.reshape(num_devices, -1, *shape)
    )
    for on_device in ours:
        np.testing.assert_array_equal(on_device, expected)
    assert ours.dtype == store.dtype


def test_an_image_twice_in_a_batch_keeps_one_of_its_rows():
    rows = jnp.array([[1.0, 1.0], [2.0, 2.0]])
    store = pool.put(jnp.zeros((3, 2)), jnp.array([1, 1]), rows, AxisDevices(None))
    assert store[1].tolist() in rows.tolist() and not np.any(store[np.array([0, 2])])
