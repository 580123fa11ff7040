"""Running averages and windows of what the network says of the pool."""

import jax.numpy as jnp

from ltssl_jax.core import Array, Devices, InputError


def follow(average: Array, value: Array, *, decay: float) -> Array:
    """Returns `decay * average + (1 - decay) * value`."""
    return decay * average + (1.0 - decay) * value


def batch_mean(values: Array, devices: Devices, *, weights: Array | None = None) -> Array:
    """Computes the mean over the rows of the global batch.

    Args:
      values: `[U, ...]`, this device's rows.
      devices: over which the batch is spread.
      weights: `[U]`, at least 0; without any positive one the mean is 0.

    Returns:
      `[...]`, without gradient.
    """
    if weights is None:
        return devices.mean(jnp.mean(values, axis=0))
    weighted = jnp.tensordot(weights, values, axes=1, precision="highest")
    total, count = devices.mean((weighted, jnp.sum(weights)))
    return total / jnp.where(count > 0, count, 1.0)


def histogram(labels: Array, num_classes: int, devices: Devices, weights: Array) -> Array:
    """Counts classes over the global batch.

    Args:
      labels: `[U]` int in `[0, num_classes)`, this device's rows.
      num_classes: `K`.
      devices: over which the batch is spread.
      weights: `[U]` float, 1 for a row that counts and 0 for one that does not.

    Returns:
      `[K]` float32, without gradient.
    """
    labels, weights = devices.gather((labels, weights))
    return jnp.zeros(num_classes, jnp.float32).at[labels].add(weights)


def empty_window(length: int, first: Array) -> dict[str, Array]:
    """Returns a window of the last `length` values `[K]`, all of them `first` in the beginning."""
    return window_of(jnp.tile(jnp.asarray(first, jnp.float32)[None, :], (length, 1)))


def window_of(values: Array) -> dict[str, Array]:
    """Returns a window that holds the rows of `values` `[N, D]`, the first of them the oldest."""
    return {"values": values, "position": jnp.zeros((), jnp.int32)}


def slid(window: dict[str, Array], value: Array) -> dict[str, Array]:
    """Returns the window with its oldest value replaced."""
    values, position = window["values"], window["position"]
    position_after = (position + 1) % values.shape[0]
    return {"values": values.at[position].set(value), "position": position_after}


def slid_by(window: dict[str, Array], rows: Array, devices: Devices) -> dict[str, Array]:
    """Returns the window with its oldest rows replaced by those of the global batch.

    Args:
      window: of at least as many rows `[N, D]` as there are in the batch.
      rows: `[U, D]`, this device's.
      devices: whose rows all come in.

    Raises:
      InputError: the batch has more rows than the window.
    """
    rows, (length, _) = devices.gather(rows), window["values"].shape
    wanted = f"at least the {len(rows)} rows of a batch"
    InputError.check(len(rows) <= length, "method.queue_size", length, wanted)
    places = (window["position"] + jnp.arange(len(rows))) % length
    position = (window["position"] + len(rows)) % length
    return {"values": window["values"].at[places].set(rows), "position": position}
