"""Wide residual networks in the form that long-tailed semi-supervised learning uses.

Source: Zagoruyko & Komodakis, arXiv:1605.07146, with the changes of the semi-supervised line of
work: leaky ReLU of slope 0.1, batch-norm momentum 0.001, one dense classifier per method head.

The networks that TRAS, ABC, ACR and others release share a peculiarity, kept here because their
numbers rest on it: where a block changes the number of channels, the first stage normalizes and
activates its input for both branches, and stages two and three do not normalize or activate it at
all (their code computes that layer and drops the result). `activate_entry=True` gives the textbook
pre-activation instead.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from ltssl_jax.core import Array, Images, InputError
from ltssl_jax.models.layers import BatchNorm, Pool

# Normal with variance 2 / (k * k * channels_out), as the authors initialize.
CONV_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; `entry` says who sees the normalized input."""

    filters: int
    strides: int
    entry: str  # "branch": residual branch only; "both": shortcut too; "none": nobody
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]  # normalizes and activates

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H / strides, W / strides, filters]`."""

        def activated(y, name):
            return self.norm(name=name)(y, train)

        inner = x if self.entry == "none" else activated(x, "bn1")
        shortcut = inner if self.entry == "both" else x
        if x.shape[-1] != self.filters:
            shortcut = self.conv(
                self.filters, (1, 1), self.strides, padding="VALID", name="shortcut"
            )(shortcut)
        inner = self.conv(self.filters, (3, 3), self.strides, padding=1, name="conv1")(inner)
        inner = self.conv(self.filters, (3, 3), 1, padding=1, name="conv2")(activated(inner, "bn2"))
        return shortcut + inner


class WideResNet(nn.Module):
    """WRN-`depth`-`width`: `[B, H, W, C]` images to `[B, 64 * width]` features.

    Attributes:
      depth: 6 n + 4 convolutions, n blocks per stage.
      width: multiplies the channels 16, 32, 64 of the three stages.
      momentum: weight of the new batch-norm statistics.
      activate_entry: textbook pre-activation in stages two and three; see the module docstring.
      branches: see `layers.Pool`.
      axis_name: device axis over which batch statistics are taken, or None.
      dtype: type of the computation; parameters and statistics stay float32.
    """

    depth: int = 28
    width: int = 2
    momentum: float = 0.001
    activate_entry: bool = False
    branches: int = 1
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @property
    def num_features(self) -> int:
        """Size of the features."""
        return 64 * self.width

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Array:
        """Maps `[B, H, W, C]` float to features `[B, 64 * width]`."""
        if self.depth < 10 or (self.depth - 4) % 6:
            raise InputError(
                f"a wide ResNet has depth 6 n + 4, not {self.depth}; use model.depth=28 or 10"
            )
        conv = functools.partial(nn.Conv, use_bias=False, kernel_init=CONV_INIT, dtype=self.dtype)
        norm = functools.partial(
            BatchNorm,
            momentum=self.momentum,
            axis_name=self.axis_name,
            dtype=self.dtype,
            negative_slope=0.1,
        )
        x = conv(16, (3, 3), 1, padding=1, name="conv1")(images.astype(self.dtype))
        for stage in (1, 2, 3):
            filters = 8 * 2**stage * self.width
            for i in range((self.depth - 4) // 6):
                strides = 2 if stage > 1 and i == 0 else 1
                entry = self._entry(stage, x.shape[-1] != filters)
                name = f"block{stage}_{i}"
                x = Block(filters, strides, entry, conv, norm, name=name)(x, train)
        x = norm(name="bn1")(x, train)
        return Pool(self.branches, self.axis_name, name="pool")(x, train)

    def _entry(self, stage: int, is_widening: bool) -> str:
        if not is_widening:
            return "branch"
        if stage == 1:
            return "both"
        return "branch" if self.activate_entry else "none"
