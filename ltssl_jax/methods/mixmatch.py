"""MixMatch.

Berthelot, Carlini, Goodfellow, Papernot, Oliver, Raffel: "MixMatch: A Holistic Approach to
Semi-Supervised Learning", NeurIPS 2019, arXiv:1905.02249. Follows the authors' released code,
google-research/mixmatch at commit 1011a1d; steps of it are our golden test.

The average answer to several weak views, sharpened, is the target of each of them. All rows, those
of labeled images too, are then mixed with each other, images and targets alike.

Decisions where paper, code and expectation part:
- Each row has a share of its own in its mixture. (Most ports draw one for the whole batch.)
- The consistency term is the mean over rows and classes of squared differences of probabilities.
- The weight rises over the first 16,384 steps. Long-tailed codes (DARP, CoSSL) let it rise over the
  whole run: set `ramp_steps` to `train.steps`. DASO takes a concentration of 0.5 and a weight of
  100, which are also the defaults of the authors' code, but not their published settings.
- The defaults are those of CIFAR-10; for SVHN the published weight is 250, for STL-10 50.

Rows are mixed, so a wrapper can change what is guessed, but not which rows count: `accept` masks
nothing, and values of the labeled term are those of mixtures.

Differs from the official code:
- Mixed rows share one batch-norm pass. Theirs swaps rows between blocks (interleaving) so that each
  of its passes sees a like mixture of all; in one pass there is nothing to swap.
- Every pass moves the running statistics, that of the guesses first, that of the mixtures last;
  theirs moves them in the first of the mixed ones alone.
- Labeled and unlabeled batches may differ in size.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import soft_cross_entropy
from ltssl_jax.losses.consistency import sharpen
from ltssl_jax.losses.mixing import Block, mixed
from ltssl_jax.losses.schedules import linear_ramp


@dataclasses.dataclass(frozen=True)
class MixMatch:
    """Sharpened average guesses, mixed with everything else.

    Attributes:
      temperature: sharpens the targets; 1 leaves them as they are.
      concentration: of the Beta distribution of the shares in a mixture.
      unlabeled_weight: weight of the consistency term after its ramp.
      ramp_steps: over so many the weight rises from 0; 0: it is there from the beginning.
      num_weak: weak views per unlabeled image.
    """

    temperature: float = 0.5
    concentration: float = 0.75
    unlabeled_weight: float = 75.0
    ramp_steps: int = 16_384
    num_weak: int = 2

    slots = ("guess",)

    def __post_init__(self):
        check = InputError.check
        check(self.temperature > 0, "method.temperature", self.temperature, "positive")
        check(self.concentration > 0, "method.concentration", self.concentration, "positive")
        check(self.ramp_steps >= 0, "method.ramp_steps", self.ramp_steps, "at least 0")
        check(self.num_weak >= 1, "method.num_weak", self.num_weak, "at least 1")

    @property
    def needs(self):
        """One head, `num_weak` weak views and no strong one."""
        return Needs(weak=self.num_weak, strong=0)

    def init(self, problem):
        """Nothing is remembered."""
        return ()

    def loss(self, state, forward, batch, ctx):
        """Guesses on the weak views, sharpens, mixes and learns the mixtures."""
        logits = self.guess(state, forward, batch, ctx)
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        return Loss(terms, state, {"confidence/base": jnp.max(targets.probs, axis=-1)})

    def guess(self, state, forward, batch, ctx):
        """Forwards each weak view by itself; logs of their average probabilities."""
        views = forward.apart(batch.unlabeled.weak, *batch.unlabeled.more_weak)
        probs = jnp.stack([softmax(stop_gradient(view.logits["base"])) for view in views])
        return jnp.log(jnp.maximum(jnp.mean(probs, axis=0), jnp.finfo(probs.dtype).tiny))

    def accept(self, state, logits, batch, ctx):
        """Targets are sharpened; every row counts."""
        probs = sharpen(softmax(logits), self.temperature)
        labels = jnp.argmax(probs, axis=-1).astype(jnp.int32)
        return Targets(probs, labels, jnp.ones(len(labels), jnp.float32)), state

    def learn(self, state, forward, batch, targets, ctx):
        """Both terms, on mixtures that share one pass."""
        x, u = batch.labeled, batch.unlabeled
        known = one_hot(x.label, targets.probs.shape[1])
        views = (u.weak, *u.more_weak)
        blocks = [
            Block(x.image, known, x.index),
            *(Block(v, targets.probs, u.index) for v in views),
        ]
        blocks = mixed(blocks, ctx, concentration=self.concentration)
        outputs = forward.jointly(*[block.images for block in blocks])
        labeled, *unlabeled = [out.logits["base"] for out in outputs]
        probs = softmax(jnp.stack(unlabeled))
        errors = probs - jnp.stack([block.targets for block in blocks[1:]])
        weight = self.unlabeled_weight * linear_ramp(ctx.step, self.ramp_steps)
        return {
            "supervised": Term(soft_cross_entropy(labeled, blocks[0].targets)),
            "consistency": Term(jnp.square(errors), weight),
        }

    def predict(self, state, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = MixMatch
EXAMPLES = (MixMatch(), MixMatch(ramp_steps=2, num_weak=3))
