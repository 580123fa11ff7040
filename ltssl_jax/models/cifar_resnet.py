"""The residual networks that He et al. designed for 32 x 32 pixels: ResNet-20, -32, -44, ...

Source: He et al., arXiv:1512.03385, section 4.2, as LDAM and imbalanced-semi-self (commit b91ad29)
have it: shortcuts without parameters, which take every second pixel and pad channels with zeros.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from ltssl_jax.core import Array, Images, InputError
from ltssl_jax.models.layers import BatchNorm, Pool


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; a ReLU follows their sum."""

    filters: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, ceil(H / strides), ceil(W / strides), filters]`."""
        inner = self.conv(self.filters, (3, 3), self.strides, name="conv1")(x)
        inner = self.norm(negative_slope=0.0, name="bn1")(inner, train)
        inner = self.norm(name="bn2")(
            self.conv(self.filters, (3, 3), 1, name="conv2")(inner), train
        )
        margin = (self.filters - x.shape[-1]) // 2  # new channels, half of them on each side
        thinned = x[:, :: self.strides, :: self.strides]
        return nn.relu(inner + jnp.pad(thinned, ((0, 0),) * 3 + ((margin, margin),)))


class CifarResNet(nn.Module):
    """ResNet-`depth`: `[B, H, W, C]` images to `[B, 64]` features.

    Attributes:
      depth: 6 n + 2, n blocks in each of the three stages of 16, 32 and 64 channels.
      momentum: weight of the new batch-norm statistics.
      branches: see `layers.Pool`.
      axis_name: device axis over which batch statistics are taken, or None.
      dtype: type of the computation; parameters and statistics stay float32.
    """

    depth: int = 32
    momentum: float = 0.1
    branches: int = 1
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @property
    def num_features(self) -> int:
        """Size of the features."""
        return 64

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Array:
        """Maps `[B, H, W, C]` float to features `[B, 64]`."""
        if self.depth < 8 or (self.depth - 2) % 6:
            raise InputError(
                f"this ResNet has depth 6 n + 2, not {self.depth}; use model.depth=32 or 20"
            )
        init = nn.initializers.he_normal()
        conv = functools.partial(
            nn.Conv, padding=1, use_bias=False, kernel_init=init, dtype=self.dtype
        )
        norm = functools.partial(
            BatchNorm, momentum=self.momentum, axis_name=self.axis_name, dtype=self.dtype
        )
        x = conv(16, (3, 3), 1, name="conv1")(images.astype(self.dtype))
        x = norm(negative_slope=0.0, name="bn1")(x, train)
        for stage in (1, 2, 3):
            for i in range((self.depth - 2) // 6):
                strides = 2 if stage > 1 and i == 0 else 1
                block = Block(8 * 2**stage, strides, conv, norm, name=f"block{stage}_{i}")
                x = block(x, train)
        return Pool(self.branches, self.axis_name, name="pool")(x, train)
