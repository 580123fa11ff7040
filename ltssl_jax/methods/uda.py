"""Unsupervised data augmentation (UDA).

Xie, Dai, Hovy, Luong, Le: "Unsupervised Data Augmentation for Consistency Training", NeurIPS 2020,
arXiv:1904.12848. Follows the authors' released code for images, google-research/uda at commit
960684e; steps of it are our golden test.

What the network says of an unlabeled image, sharpened, is the target for its strong view, where it
is confident. Labeled images may be held back while the network is surer of them than it should be
so early (training signal annealing).

Decisions where paper, code and expectation part:
- The paper's image experiments list annealing and entropy minimization; the released commands use
  neither, so both are off here.
- Confidence is that before sharpening, and must exceed the threshold, not only reach it.
- Annealing looks at the probability of the true class and averages over the rows that are kept.
  (TorchSSL and USB look at the most probable class and average over all rows; USB never applies
  the temperature.)
- The consistency term is a divergence: less than the cross entropy by the entropy of the target.

Differs from the official code: the weight decay is the optimizer's and spares biases and batch
norms; strong views are drawn anew in each step, not taken from 100 prepared ones.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import cross_entropy, entropy, soft_cross_entropy
from ltssl_jax.losses.schedules import SIGNALS, released_confidence


@dataclasses.dataclass(frozen=True)
class UDA:
    """Sharpened guesses on the weak view are targets for the strong view.

    Attributes:
      threshold: confidence above which a guess counts; 0 lets all count.
      temperature: sharpens the targets; 1 leaves them as they are.
      unlabeled_weight: weight of the consistency term.
      annealing: which labeled rows train how early: `"none"`, `"linear"`, `"exp"` or `"log"`.
      entropy_weight: weight of the entropy of the guesses.
    """

    threshold: float = 0.8
    temperature: float = 0.4
    unlabeled_weight: float = 1.0
    annealing: str = "none"
    entropy_weight: float = 0.0

    slots = ("guess", "accept", "supervised")

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check(self.temperature > 0, "method.temperature", self.temperature, "positive")
        check(self.entropy_weight >= 0, "method.entropy_weight", self.entropy_weight, "at least 0")
        if self.annealing not in ("none", *SIGNALS):
            raise InputError.unknown("method.annealing", self.annealing, ("none", *SIGNALS))

    @property
    def needs(self):
        """One head, one strong view; annealing looks at how far the run has come."""
        return Needs(strong=1, total_steps=self.annealing != "none")

    def init(self, problem):
        """Nothing is remembered."""
        return ()

    def loss(self, state, forward, batch, ctx):
        """Guesses on the weak view, accepts what is confident, learns it on the strong view."""
        logits = self.guess(state, forward, batch, ctx)
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        return Loss(terms, state, {"mask/base": targets.kept})

    def guess(self, state, forward, batch, ctx):
        """Forwards all views together; logits of the weak one."""
        views = (batch.labeled.image, batch.unlabeled.weak, *batch.unlabeled.strong)
        return stop_gradient(forward.jointly(*views)[1].logits["base"])

    def accept(self, state, logits, batch, ctx):
        """Targets are sharpened; the mask says which were confident before."""
        probs = softmax(logits)
        labels = jnp.argmax(probs, axis=-1).astype(jnp.int32)
        mask = (jnp.max(probs, axis=-1) > self.threshold).astype(jnp.float32)
        return Targets(softmax(logits / self.temperature), labels, mask), state

    def learn(self, state, forward, batch, targets, ctx):
        """The annealed labeled term, the divergence from the targets and, if asked, entropy."""
        x, u = batch.labeled.image, batch.unlabeled
        labeled, weak, *strong = [
            out.logits["base"] for out in forward.jointly(x, u.weak, *u.strong)
        ]
        spread = entropy(targets.probs)
        divergences = [soft_cross_entropy(s, targets.probs) - spread for s in strong]
        terms = {
            "supervised": self.supervised(labeled, batch.labeled.label, ctx),
            "consistency": Term(
                targets.mask[None, :] * jnp.stack(divergences), self.unlabeled_weight
            ),
        }
        if self.entropy_weight > 0:
            terms["entropy"] = Term(entropy(softmax(weak)), self.entropy_weight)
        return terms

    def supervised(self, logits, labels, ctx):
        """Cross entropy, over the rows of which the network is not too sure yet."""
        losses = cross_entropy(logits, labels)
        if self.annealing == "none":
            return Term(losses)
        highest = released_confidence(
            ctx.step, ctx.total_steps, signal=self.annealing, num_classes=logits.shape[1]
        )
        kept = stop_gradient(jnp.exp(-losses) <= highest).astype(jnp.float32)
        return Term(kept * losses, count=jnp.sum(kept))

    def predict(self, state, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = UDA
EXAMPLES = (UDA(), UDA(0.25, annealing="linear", entropy_weight=0.3))
