"""Batch normalization as the field's reference implementations define it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array


class BatchNorm(nn.Module):
    """Normalizes over all axes but the last, in float32, with PyTorch's running statistics.

    flax's own layer keeps the biased batch variance; the published numbers of this field rest on
    networks that keep the unbiased one (`n / (n - 1)`), and their `momentum` is the weight of the
    new value. With `axis_name` the statistics are those of the global batch.
    """

    momentum: float = 0.001
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `[..., C]` to the same shape in `dtype`; updates `batch_stats` if `train`."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var, count = self._moments(x)
            if not self.is_initializing():
                keep = 1.0 - self.momentum
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = keep * running_mean.value + self.momentum * mean
                running_var.value = keep * running_var.value + self.momentum * unbiased
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        shape = (1,) * (x.ndim - 1) + channels
        y = (x.astype(jnp.float32) - mean.reshape(shape)) * factor.reshape(shape)
        return (y + bias.reshape(shape)).astype(self.dtype)

    def _moments(self, x: Array) -> tuple[Array, Array, int]:
        """Mean, biased variance and number of values per channel, over all devices."""
        axes = tuple(range(x.ndim - 1))
        x = x.astype(jnp.float32)
        mean, square = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
        count = x.size // x.shape[-1]
        if self.axis_name is not None and not self.is_initializing():
            mean, square = jax.lax.pmean((mean, square), self.axis_name)
            count *= jax.lax.axis_size(self.axis_name)
        # One pass over the activations; cancellation may leave a tiny negative number.
        return mean, jnp.maximum(square - jnp.square(mean), 0.0), count
