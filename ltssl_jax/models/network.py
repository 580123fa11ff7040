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
    is_frozen: bool = False  # the backbone keeps to its running statistics in training, too

    def setup(self):
        """Builds one submodule per head, named after it."""
        axis_name = getattr(self.backbone, "axis_name", None)
        self.classifier = {h.name: heads_.make(h, self.num_classes, axis_name) for h in self.heads}

    def __call__(self, images: Images, train: bool) -> Outputs:
        """Maps `[B, H, W, C]` to features `[B, D]` and logits `[B, size]` by head name.

        Where the backbone has several branches, both have an axis for them after the first.
        """
        features = self.backbone(images, train and not self.is_frozen).astype(jnp.float32)
        logits = {name: head(features, train) for name, head in self.classifier.items()}
        return Outputs(features, logits)

    def head(self, name: str, features: Array, train: bool) -> Array:
        """Applies the head `name` alone to features `[..., D]`."""
        return self.classifier[name](features, train)
