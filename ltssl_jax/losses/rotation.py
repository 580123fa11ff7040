"""Quarter turns, which a network can learn to recognize without any label."""

import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Images, InputError


def turned(images: Images, quarter_turns: Array) -> Images:
    """Turns each image counterclockwise.

    Args:
      images: `[B, H, H, C]`.
      quarter_turns: `[B]` int in `[0, 4)`, how far.

    Returns:
      `[B, H, H, C]`.

    Raises:
      InputError: images are not square.

    Source: Gidaris et al., "Unsupervised representation learning by predicting image rotations",
    arXiv:1803.07728.
    """
    height, width = images.shape[1:3]
    wanted = "square: quarter turns are learned (data.image_size makes them so)"
    InputError.check(height == width, "image height and width", (height, width), wanted)
    each = jnp.stack([jnp.rot90(images, k, (1, 2)) for k in range(4)])
    return each[quarter_turns, jnp.arange(len(quarter_turns))]


def draw_quarter_turns(keys: Array) -> Array:
    """Draws how far each image is turned, `[B]` int32 in `[0, 4)`, from a key each."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, 4, jnp.int32))(keys)
