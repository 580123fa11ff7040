"""The newest rows of each class: one first-in-first-out queue per class."""

import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Devices


def empty(num_classes: int, length: int, num_features: int) -> dict[str, Array]:
    """Returns the memory of up to `length` rows of each class, without any.

    Returns:
      `values` `[K, length, num_features]` float32, a ring of rows per class, zeros where there are
      none yet; `num_pushed` `[K]` int32, how many rows each class ever had.
    """
    return {
        "values": jnp.zeros((num_classes, length, num_features), jnp.float32),
        "num_pushed": jnp.zeros(num_classes, jnp.int32),
    }


def pushed(
    queues: dict[str, Array], labels: Array, rows: Array, devices: Devices
) -> dict[str, Array]:
    """Appends rows to the queues of their classes, in the order of the global batch.

    Args:
      queues: from `empty`.
      labels: `[B]` int in `[0, K)`, this device's.
      rows: `[B, num_features]`.
      devices: whose rows are all appended.

    Returns:
      The queues, in which the newest rows have replaced the oldest.

    Source: Oh et al., "DASO", arXiv:2106.05682.
    """
    labels, rows = devices.gather((labels, rows))
    num_classes, length, _ = queues["values"].shape
    is_of_class = jax.nn.one_hot(labels, num_classes, dtype=jnp.int32)
    place = jnp.sum(is_of_class * (jnp.cumsum(is_of_class, axis=0) - 1), axis=1)
    count = jnp.sum(is_of_class, axis=0)
    slot = (queues["num_pushed"][labels] + place) % length
    # Of more rows than a queue holds the last ones stay; the others are sent to a class beyond.
    target = jnp.where(place >= count[labels] - length, labels, num_classes)
    values = queues["values"].at[target, slot].set(rows, mode="drop")
    return {"values": values, "num_pushed": queues["num_pushed"] + count}


def class_means(queues: dict[str, Array]) -> Array:
    """Returns the prototypes `[K, num_features]`: means over what each queue holds, or zeros."""
    held = jnp.clip(queues["num_pushed"], 1, queues["values"].shape[1])
    return jnp.sum(queues["values"], axis=1) / held[:, None]
