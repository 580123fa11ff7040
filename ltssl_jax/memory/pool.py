"""One value per unlabeled image, brought up to date by every batch that shows it."""

from ltssl_jax.core import Array, Devices


def put(store: Array, index: Array, rows: Array, devices: Devices) -> Array:
    """Replaces the rows of the images that this step has seen.

    Args:
      store: `[N_u, ...]`.
      index: `[U]` int, positions in the pool, this device's.
      rows: `[U, ...]`, in the dtype of the store.
      devices: whose rows are all written.

    Returns:
      `[N_u, ...]`. Of an image that a batch holds twice, either row is kept; a row whose index lies
      beyond the store is not written.
    """
    index, rows = devices.gather((index, rows))
    return store.at[index].set(rows)
