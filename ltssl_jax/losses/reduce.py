"""Named per-example terms to one scalar, exact on any number of devices."""

from collections.abc import Mapping

import chex
import jax.numpy as jnp

from ltssl_jax.core import Array, Devices, Term


def reduce_terms(terms: Mapping[str, Term], devices: Devices) -> tuple[Array, dict[str, Array]]:
    """Sums each term over its denominator, and the terms to the objective of this device.

    A denominator counted from the data is averaged over the devices first. Averaging values and
    gradients over devices afterwards then gives the ratio over the global batch, however unevenly
    the examples lie: `mean(sum_d) / mean(count_d)` is `sum / count`.

    Args:
      terms: by name. Weight and count are scalars; the count carries no gradient.
      devices: averages the counts.

    Returns:
      The objective, a float32 scalar, and the contributions by name that sum to it.
    """
    contributions = {name: _contribution(term, devices) for name, term in terms.items()}
    return sum(contributions.values()), contributions


def _contribution(term: Term, devices: Devices) -> Array:
    chex.assert_rank(term.weight, 0)
    values = jnp.asarray(term.values, jnp.float32)
    if term.count is None:
        return term.weight * jnp.mean(values)
    chex.assert_rank(term.count, 0)
    count = devices.mean(jnp.asarray(term.count, jnp.float32))
    # Nothing accepted anywhere: the values are zeros, and 0 / 1 has a gradient, 0 / 0 has none.
    return term.weight * jnp.sum(values) / jnp.where(count > 0, count, 1.0)
