"""Class queues against lists, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.memory import queues
from ltssl_jax.training.forward import AxisDevices

K, LENGTH, D, B = 4, 3, 2, 8
RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((5, B, D)).astype(np.float32)
# Class 3 never comes; the third batch holds eight rows of one class, more than a queue does.
LABELS = np.stack([RNG.choice([0, 0, 1, 2], size=B) for _ in range(5)])
LABELS[2] = 0


def lists(batches):
    """What the queues hold, oldest first."""
    held = [[] for _ in range(K)]
    for labels, rows in zip(LABELS[:batches], ROWS[:batches], strict=True):
        for label, row in zip(labels, rows, strict=True):
            held[label] = (held[label] + [row])[-LENGTH:]
    return held


def in_order(memory):
    """What ours hold, oldest first: each ring begins where the next row would go."""
    held = []
    for ring, pushed in zip(memory["values"], memory["num_pushed"], strict=True):
        ring, pushed = np.asarray(ring), int(pushed)
        held.append(list(np.roll(ring, -pushed, axis=0) if pushed > LENGTH else ring[:pushed]))
    return held


def filled(batches):
    memory = queues.empty(K, LENGTH, D)
    for labels, rows in zip(LABELS[:batches], ROWS[:batches], strict=True):
        labels, rows = jnp.asarray(labels), jnp.asarray(rows)
        memory = queues.pushed(memory, labels, rows, AxisDevices(None))
    return memory


@pytest.mark.parametrize("batches", [1, 2, 3, 5])
def test_the_newest_rows_of_each_class_are_held_in_order(batches):
    memory, expected = filled(batches), lists(batches)
    for ours, theirs in zip(in_order(memory), expected, strict=True):
        np.testing.assert_array_equal(np.reshape(ours, (-1, D)), np.reshape(theirs, (-1, D)))
    means = [np.mean(rows, axis=0) if rows else np.zeros(D) for rows in expected]
    np.testing.assert_allclose(queues.class_means(memory), means, rtol=1e-5, atol=1e-7)
    counts = np.bincount(LABELS[:batches].ravel(), minlength=K)
    np.testing.assert_array_equal(memory["num_pushed"], counts)


def test_several_devices_hold_what_one_does():
    one = filled(3)

    def lane(labels, rows):
        memory = queues.empty(K, LENGTH, D)
        for n in range(3):
            memory = queues.pushed(memory, labels[n], rows[n], AxisDevices("data"))
        return memory

    shares = [jnp.asarray(x[:3]).reshape(3, 4, 2, *x.shape[2:]) for x in (LABELS, ROWS)]
    several = jax.vmap(lane, in_axes=1, axis_name="data")(*shares)
    for device in range(4):
        jax.tree.map(lambda a, b, d=device: np.testing.assert_array_equal(a[d], b), several, one)


def test_types_stay():
    before, after = queues.empty(K, LENGTH, D), filled(1)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )
