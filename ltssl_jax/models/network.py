"""A backbone and its heads: the one module that the trainer applies."""

import flax.linen as nn
import jax.numpy as jnp

from ltssl_jax.core import Array, Head, Images, Outputs
from ltssl_jax.models import heads as heads_


class Network(nn.Module):
    """Features from `backbone`, logits from every head; features and logits are float32."""

    backbone: nn.Module
    heads: tuple[Head, ...]
    num_classes: int

    def setup(self):
        """Builds one submodule per head, named after it."""
        self.classifier = {h.name: heads_.make(h, self.num_classes) for h in self.heads}

    def __call__(self, images: Images, train: bool) -> Outputs:
        """Maps `[B, H, W, C]` to features `[B, D]` and logits `[B, size]` by head name."""
        features = self.backbone(images, train).astype(jnp.float32)
        return Outputs(features, {name: head(features) for name, head in self.classifier.items()})

    def head(self, name: str, features: Array) -> Array:
        """Applies the head `name` alone to features `[B, D]`."""
        return self.classifier[name](features)
