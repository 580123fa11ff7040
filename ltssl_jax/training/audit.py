"""Counts of pseudo-labels by class, beside the training: nothing of it flows back."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Kept


def audited(
    monitors: Mapping[str, Array | Kept], truth: Array | None, num_classes: int
) -> dict[str, Array]:
    """Counts the pseudo-labels that a step kept, and the right ones among them.

    Args:
      monitors: of the method; those that are no pseudo-labels are left out.
      truth: `[U]` int, true classes of the same images, or None where they are not known.
      num_classes: `K`.

    Returns:
      Sums over these rows, float32; nothing where the method keeps no pseudo-labels.
      `pseudo/seen`: images. `pseudo/true` `[K]`: images of each true class. For the pseudo-labels
      `mask/NAME`: `pseudo/NAME/kept` `[K]`, the masks by pseudo-label, and `pseudo/NAME/correct`
      `[K]`, of these the ones that are right. What needs the truth is left out without it.
    """
    every = {name: kept for name, kept in monitors.items() if isinstance(kept, Kept)}
    counts = {}
    for name, kept in every.items():
        name = f"pseudo/{name.removeprefix('mask/')}"
        by_label = kept.mask[:, None] * jax.nn.one_hot(kept.labels, num_classes)
        counts["pseudo/seen"] = jnp.float32(kept.labels.shape[0])
        counts[f"{name}/kept"] = jnp.sum(by_label, axis=0)
        if truth is not None:
            is_right = kept.labels == truth
            counts[f"{name}/correct"] = jnp.sum(is_right[:, None] * by_label, axis=0)
            counts["pseudo/true"] = jnp.sum(jax.nn.one_hot(truth, num_classes), axis=0)
    return counts
