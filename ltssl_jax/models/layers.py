"""Batch normalization as the field's reference implementations define it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltssl_jax.core import Array


class BatchNorm(nn.Module):
    """Normalizes over all axes but the last, in float32, with PyTorch's running statistics.

    flax's own layer keeps the biased batch variance; the published numbers of this field rest on
    networks that keep the unbiased one (`n / (n - 1)`), and their `momentum` is the weight of the
    new value. With `axis_name` the statistics are those of the global batch.

    A leaky ReLU of slope `negative_slope` follows; the default of 1 is none.
    """

    momentum: float = 0.001
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    negative_slope: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `[..., C]` to the same shape in `dtype`; updates `batch_stats` if `train`."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if not train:
            factor = lax.rsqrt(running_var.value + self.epsilon)
            y = _activated(x, scale, bias, running_mean.value, factor, self.negative_slope)
            return y.astype(self.dtype)
        axis = None if self.is_initializing() else self.axis_name
        y, mean, var = _batch_normalized(
            x, scale, bias, axis, self.epsilon, self.negative_slope, self.dtype
        )
        if not self.is_initializing():
            count = x.size // x.shape[-1] * (lax.axis_size(axis) if axis else 1)
            unbiased = var * (count / max(count - 1, 1))
            keep = 1.0 - self.momentum
            running_mean.value = keep * running_mean.value + self.momentum * mean
            running_var.value = keep * running_var.value + self.momentum * unbiased
        return y


class Pool(nn.Module):
    """Averages over the pixels, after each of several further batch norms if there are branches.

    With branches every row passes through all of them; what tells them apart is which rows a loss
    reads from which (classwise batch norm, Ma et al., arXiv:2312.15702, with momentum 0.1).
    """

    branches: int = 1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, C]` float32, or `[B, branches, C]`."""
        x = x.astype(jnp.float32)
        if self.branches == 1:
            return jnp.mean(x, axis=(1, 2))
        norms = [
            BatchNorm(0.1, axis_name=self.axis_name, name=f"branch{i}")
            for i in range(self.branches)
        ]
        return jnp.stack([jnp.mean(norm(x, train), axis=(1, 2)) for norm in norms], axis=1)


# The gradient is written out: all it needs is the layer's input, read twice. Differentiated
# automatically it also keeps, and moves, the intermediate results, which on memory-bound hardware
# is most of what a step does; see docs/performance.md.
@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def _batch_normalized(x, scale, bias, axis_name, epsilon, negative_slope, dtype):
    """Normalizes by the batch; also returns mean and biased variance, which have no gradient."""
    return _forward(x, scale, bias, axis_name, epsilon, negative_slope, dtype)[0]


def _forward(x, scale, bias, axis_name, epsilon, negative_slope, dtype):
    wide = x.astype(jnp.float32)
    mean, square = _means((wide, jnp.square(wide)), axis_name)
    # One pass over the activations; cancellation may leave a tiny negative number.
    var = jnp.maximum(square - jnp.square(mean), 0.0)
    factor = lax.rsqrt(var + epsilon)
    y = _activated(x, scale, bias, mean, factor, negative_slope).astype(dtype)
    return (y, mean, var), (x, scale, bias, mean, factor)


def _backward(axis_name, epsilon, negative_slope, dtype, saved, gradients):
    x, scale, bias, mean, factor = saved
    normalized = _normalized(x, mean, factor)
    is_negative = _affine(normalized, scale, bias) < 0
    dy = gradients[0].astype(jnp.float32)
    dy = jnp.where(is_negative, negative_slope * dy, dy)
    local = _means((dy, dy * normalized), None)
    count = x.size // x.shape[-1]
    d_bias, d_scale = (count * m for m in local)
    mean_dy, mean_dy_normalized = lax.pmean(local, axis_name) if axis_name else local
    dx = dy - _wide(mean_dy, x) - normalized * _wide(mean_dy_normalized, x)
    return (dx * _wide(scale * factor, x)).astype(x.dtype), d_scale, d_bias


_batch_normalized.defvjp(_forward, _backward)


def _activated(x, scale, bias, mean, factor, negative_slope):
    y = _affine(_normalized(x, mean, factor), scale, bias)
    return nn.leaky_relu(y, negative_slope)


def _normalized(x, mean, factor):
    return (x.astype(jnp.float32) - _wide(mean, x)) * _wide(factor, x)


def _affine(x, scale, bias):
    return x * _wide(scale, x) + _wide(bias, x)


def _wide(channels, like):
    """Turns `[C]` into `[1, ..., 1, C]`."""
    return channels.reshape((1,) * (like.ndim - 1) + channels.shape)


def _means(arrays, axis_name):
    """Mean of each array per channel, over all devices of the axis."""
    means = tuple(jnp.mean(x, tuple(range(x.ndim - 1))) for x in arrays)
    return lax.pmean(means, axis_name) if axis_name else means
