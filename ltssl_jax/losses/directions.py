"""Rows taken at their directions alone."""

import jax.numpy as jnp

from ltssl_jax.core import Array


def unit(rows: Array) -> Array:
    """Returns rows `[N, D]` of length 1; one of zeros stays, and gets no gradient.

    It has no direction (a projection whose hidden units are all off); with a floor under its
    length its gradient would be of the size of 1 / floor.
    """
    squared = jnp.sum(rows**2, axis=-1, keepdims=True)
    has_direction = squared > 1e-24
    return jnp.where(has_direction, rows, 0.0) / jnp.sqrt(jnp.where(has_direction, squared, 1.0))


def cosines(rows: Array, keys: Array) -> Array:
    """Returns the cosine `[N, M]` of each of `rows` `[N, D]` and each of `keys` `[M, D]`."""
    # Divided by small temperatures and exponentiated: reduced precision would show.
    return jnp.matmul(unit(rows), unit(keys).T, precision="highest")
