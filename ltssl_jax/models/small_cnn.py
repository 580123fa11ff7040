"""A small convolutional network for tiny images: four 3x3 convolutions, one pooling."""

import flax.linen as nn
import jax.numpy as jnp

from ltssl_jax.core import Array, Images
from ltssl_jax.models.layers import BatchNorm, Pool


class SmallCNN(nn.Module):
    """`[B, H, W, C]` images to `[B, 4 * width]` features.

    Attributes:
      width: channels of the first convolution; the others have 2, 2 and 4 times as many.
      momentum: weight of the new batch-norm statistics; large, for runs of few steps.
      branches: see `layers.Pool`.
      axis_name: device axis over which batch statistics are taken, or None.
      dtype: type of the computation; parameters and statistics stay float32.
    """

    width: int = 16
    momentum: float = 0.1
    branches: int = 1
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @property
    def num_features(self) -> int:
        """Size of the features."""
        return 4 * self.width

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Array:
        """Maps `[B, H, W, C]` float to features `[B, 4 * width]`."""
        x = images.astype(self.dtype)
        for i, (multiple, strides) in enumerate([(1, 1), (2, 2), (2, 1), (4, 1)]):
            conv = nn.Conv(
                multiple * self.width,
                (3, 3),
                strides,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"conv{i}",
            )
            norm = BatchNorm(
                self.momentum,
                axis_name=self.axis_name,
                dtype=self.dtype,
                negative_slope=0.1,
                name=f"bn{i}",
            )
            x = norm(conv(x), train)
        return Pool(self.branches, self.axis_name, name="pool")(x, train)
