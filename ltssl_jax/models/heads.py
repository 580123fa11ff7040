"""Classifiers and projections on top of the backbone's features; methods ask for them by name."""

import flax.linen as nn
import jax.numpy as jnp

from ltssl_jax.core import Array, Head, InputError
from ltssl_jax.models.layers import BatchNorm

# Xavier-normal weights and zero bias, as the TRAS and ABC authors initialize their classifiers.
XAVIER_NORMAL = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


class LinearHead(nn.Module):
    """`features @ W + b`."""

    size: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Array, train: bool) -> Array:
        """Maps `[..., D]` to `[..., size]` float32."""
        return nn.Dense(self.size, kernel_init=XAVIER_NORMAL, name="dense")(features)


class CosineHead(nn.Module):
    """Cosine similarity of features and class weights, in [-1, 1] (LDAM, arXiv:1906.07413)."""

    size: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Array, train: bool) -> Array:
        """Maps `[..., D]` to `[..., size]` float32."""
        kernel = self.param("kernel", XAVIER_NORMAL, (features.shape[-1], self.size))
        return _unit(features, -1) @ _unit(kernel, 0)


class MlpHead(nn.Module):
    """One hidden layer of the features' width: the usual projection for contrastive losses."""

    size: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Array, train: bool) -> Array:
        """Maps `[..., D]` to `[..., size]` float32."""
        hidden = nn.Dense(features.shape[-1], kernel_init=XAVIER_NORMAL, name="hidden")(features)
        return nn.Dense(self.size, kernel_init=XAVIER_NORMAL, name="output")(nn.relu(hidden))


class NormalizedMlpHead(nn.Module):
    """As `MlpHead`, with a batch norm after the hidden layer (of momentum 0.1)."""

    size: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Array, train: bool) -> Array:
        """Maps `[B, D]` to `[B, size]` float32."""
        hidden = nn.Dense(features.shape[-1], kernel_init=XAVIER_NORMAL, name="hidden")(features)
        # A slope of 0 is the ReLU.
        norm = BatchNorm(0.1, axis_name=self.axis_name, negative_slope=0.0, name="bn")
        output = nn.Dense(self.size, kernel_init=XAVIER_NORMAL, name="output")
        return output(norm(hidden, train))


KINDS = {
    "linear": LinearHead,
    "cosine": CosineHead,
    "mlp": MlpHead,
    "normalized_mlp": NormalizedMlpHead,
}


def make(head: Head, num_classes: int, axis_name: str | None = None) -> nn.Module:
    """Builds the module that a method's `Head` describes.

    Raises:
      InputError: `head.kind` is unknown.
    """
    if head.kind not in KINDS:
        raise InputError.unknown(f"kind of head {head.name!r}:", head.kind, KINDS)
    return KINDS[head.kind](num_classes if head.size is None else head.size, axis_name)


def _unit(x: Array, axis: int) -> Array:
    # The floor is inside the root: the gradient stays finite at zero.
    norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), axis, keepdims=True), 1e-24))
    return x / norm
