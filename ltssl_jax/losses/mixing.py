"""Mix-up across the blocks of a batch: labeled images and views of unlabeled ones.

Where a row's partner may be any row of the batch, that is the batch of all devices: how it is
spread changes neither partners nor shares.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Context, Images


class Block(NamedTuple):
    """Rows that are mixed as one: a stream, or one view of it.

    Attributes:
      images: `[n, H, W, C]`.
      targets: `[n, K]`, each row on the simplex.
      index: `[n]` int, which with the place of the block names a row's randomness.
    """

    images: Images
    targets: Array
    index: Array


def mix(rows: Array, partners: Array, share: Array) -> Array:
    """Computes `share * rows + (1 - share) * partners`.

    Args:
      rows, partners: `[n, ...]` float.
      share: `[n]` float, of a row in its mixture.

    Returns:
      `[n, ...]` float.

    Source: Zhang et al., "mixup: Beyond empirical risk minimization", arXiv:1710.09412.
    """
    chex.assert_equal_shape([rows, partners])
    chex.assert_shape(share, rows.shape[:1])
    share = share.reshape(-1, *[1] * (rows.ndim - 1))
    return share * rows + (1.0 - share) * partners


def mixed(blocks: Sequence[Block], ctx: Context, *, concentration: float) -> list[Block]:
    """Mixes each row with a row of any block of any device; its own share is the larger one.

    Each row has a share of its own, and is the partner of exactly one row.

    Args:
      blocks: this device's rows.
      ctx: of the step; its randomness and its devices are used.
      concentration: of the symmetric Beta distribution of the shares.

    Returns:
      The blocks in the same order, images and targets mixed; no gradient reaches the partners.

    Source: Berthelot et al., "MixMatch", arXiv:1905.02249.
    """
    content = [(block.images, block.targets) for block in blocks]
    everywhere = [ctx.devices.gather(rows) for rows in content]
    pool = jax.tree.map(lambda *x: jnp.concatenate(x), *everywhere)
    partners = order(ctx.rng.shared("partners"), len(pool[0]))
    results = []
    for place, (block, rows, others) in enumerate(zip(blocks, content, everywhere, strict=True)):
        own, partners = jnp.split(partners, [len(others[0])])
        own = ctx.devices.share(own)
        share = shares(ctx.rng.per_example(f"share{place}", block.index), concentration)
        images, targets = (mix(x, p[own], share) for x, p in zip(rows, pool, strict=True))
        results.append(Block(images, targets, block.index))
    return results


def order(key: Array, size: int) -> Array:
    """Draws the partner of each row: a permutation of all rows."""
    return jax.random.permutation(key, size)


def shares(keys: Array, concentration: float) -> Array:
    """Draws each row's share in its mixture, between a half and 1."""
    drawn = jax.vmap(lambda key: jax.random.beta(key, concentration, concentration))(keys)
    return jnp.maximum(drawn, 1.0 - drawn)
