"""Class-distribution-mismatch-aware debiasing (CDMAD).

Lee, Kim: "CDMAD: Class-Distribution-Mismatch-Aware Debiasing for Class-Imbalanced Semi-Supervised
Learning", CVPR 2024, arXiv:2403.10391. Follows the authors' released code, LeeHyuck/CDMAD at commit
7cd732b (`fixmatchcdmad.py`); steps of it are our golden test.

What the network answers to an image without pattern is its bias towards classes, whatever the
classes of labeled and unlabeled images are. It is subtracted from the logits that make
pseudo-labels, and from those that are tested. No class counts are needed.

Decisions where paper, code and expectation part:
- The image is one solid colour in the paper; in the code its values are 1 *after* normalization.
- In training it goes through batch norm as a batch of one, before all other views and in every
  step, also while nothing is subtracted yet; so it moves the running statistics. The zero padding
  of the convolutions keeps its variance from being 0.
- Training subtracts in the epochs after `debias_after` (from 0), prediction always.
- FixMatch's threshold is 0 and its targets are soft: no row is rejected.

Differs from the official code:
- Theirs takes log(p + 1e-8), which bounds the loss of a row by 18.4 and stops the gradient of rows
  that are certain and wrong; the cross entropies of the base are exact.
- Their rotation classifier, which nothing uses here, is left out.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient

from ltssl_jax.core import Loss, Method, check_slots


@dataclasses.dataclass(frozen=True)
class CDMAD:
    """A base method whose guesses and predictions are freed of the bias of the network.

    Attributes:
      debias_after: pseudo-labels are de-biased in the epochs after this one (from 0), so never in a
        run that is not longer.
      base: a method that labels the pool itself.
    """

    debias_after: int = 100
    base: Method = dataclasses.field(
        default_factory=lambda: dict(
            name="fixmatch", threshold=0.0, is_soft=True, num_strong=2, forward_mode="separate"
        )
    )

    def __post_init__(self):
        check_slots("cdmad", self.base, "guess")

    @property
    def needs(self):
        """What the base needs."""
        return self.base.needs

    def init(self, problem):
        """Returns the base's state; the method itself remembers nothing."""
        return {"base": self.base.init(problem)}

    def loss(self, state, forward, batch, ctx):
        """Forwards the reference first; then the base learns from de-biased guesses."""
        image = reference(batch.unlabeled.weak)
        bias = stop_gradient(forward.replicated(image).logits["base"])
        logits = self.base.guess(state["base"], forward, batch, ctx)
        logits = jnp.where(ctx.epoch > self.debias_after, logits - bias, logits)
        targets, of_base = self.base.accept(state["base"], logits, batch, ctx)
        terms = self.base.learn(of_base, forward, batch, targets, ctx)
        monitors = {"mask/base": targets.kept, "bias/range": jnp.max(bias) - jnp.min(bias)}
        return Loss(terms, {"base": of_base}, monitors)

    def predict(self, state, network, images, epoch):
        """The base's logits, less those of the reference."""
        logits, bias = (
            self.base.predict(state["base"], network, x, epoch) for x in (images, reference(images))
        )
        return logits - bias

    def scored_by(self, epoch):
        """Says what `predict` reads."""
        return f"{self.base.scored_by(epoch)}, de-biased"


def reference(images):
    """Returns the image without pattern `[1, H, W, C]`: ones where images are normalized."""
    return jnp.ones((1, *images.shape[1:]), images.dtype)


METHOD = CDMAD
EXAMPLES = ({}, {"debias_after": 0, "base": {"name": "fixmatch", "threshold": 0.2}})
