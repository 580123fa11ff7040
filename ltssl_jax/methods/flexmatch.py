"""FlexMatch: thresholds that follow how much of each class is learned.

Zhang, Wang, Hou, Wu, Wang, Okumura, Shinozaki: "FlexMatch: Boosting Semi-Supervised Learning with
Curriculum Pseudo Labeling", NeurIPS 2021, arXiv:2110.08263. Follows the authors' code,
TorchSSL/TorchSSL at commit f26e1d4, and the same algorithm in microsoft/Semi-supervised-learning
(USB) at 1ef4cbe; steps of both are our golden test.

A class is learned as far as images of the pool are confidently taken for it, compared with the
class that has most of them. The less it is learned, the lower is the threshold from which its
pseudo-labels count.

Decisions where paper and code part, or ports went wrong:
- An image is remembered where it passes the *fixed* threshold, not the one of its class.
- What a step learns from is judged by the selections of the steps before it.
- An image once remembered is never forgotten; it changes its class when it is confident again.
- The warm-up divides by the larger of the unused images and the largest class. It has no schedule:
  it is over when the unused images are few.
- Of the mapping functions the convex one alone is used by either code.

Differs from the official code:
- On several devices each of theirs remembers only the images that it has seen itself; here all of
  them share one memory, so the warm-up does not grow with their number.
- Distribution alignment, off in all their settings, is left out.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label
from ltssl_jax.memory.pool import put


@dataclasses.dataclass(frozen=True)
class FlexMatch:
    """FixMatch whose thresholds are lower for classes that are hardly learned yet.

    Attributes:
      threshold: confidence from which an image is remembered, and counts if its class is learned.
      unlabeled_weight: weight of the consistency term.
      threshold_warmup: while most images are unused, thresholds are low for all classes.
    """

    threshold: float = 0.95
    unlabeled_weight: float = 1.0
    threshold_warmup: bool = True

    needs = Needs(strong=1)
    slots = ("guess", "accept", "supervised")

    def __post_init__(self):
        is_right = 0 <= self.threshold <= 1
        InputError.check(is_right, "method.threshold", self.threshold, "between 0 and 1")

    def init(self, problem):
        """Returns the class of each image `[N_u]`, -1 for none yet, and the classes' status."""
        return {
            "pseudo_labels": jnp.full(problem.num_unlabeled, -1, jnp.int32),
            "status": jnp.zeros(len(problem.labeled_counts), jnp.float32),
        }

    def loss(self, state, forward, batch, ctx):
        """Guesses on the weak view, accepts by class, learns it on the strong view."""
        logits = self.guess(state, forward, batch, ctx)
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        monitors = {"mask/base": targets.kept, "status/mean": state["status"]}
        return Loss(terms, state, monitors | {"status/lowest": jnp.min(state["status"])})

    def guess(self, state, forward, batch, ctx):
        """Forwards all views together; logits of the weak one."""
        views = (batch.labeled.image, *batch.unlabeled.strong)
        weak = forward.jointly(batch.unlabeled.weak, *views)[0]
        return stop_gradient(weak.logits["base"])

    def accept(self, state, logits, batch, ctx):
        """The mask says which reach the threshold of their class; the sure ones are remembered."""
        probs = softmax(logits)
        status = state["status"]
        labels, mask = pseudo_label(probs, self.threshold * status / (2.0 - status))
        _, is_sure = pseudo_label(probs, self.threshold)
        remembered = state["pseudo_labels"]
        # What lies beyond the end is not written: an unsure row undoes no sure one of its image.
        index = jnp.where(is_sure > 0, batch.unlabeled.index, len(remembered))
        remembered = put(remembered, index, labels, ctx.devices)
        state = {"pseudo_labels": remembered, "status": self.status(remembered, status)}
        return Targets(one_hot(labels, logits.shape[1]), labels, mask), state

    def status(self, remembered, before):
        """How far each class is learned, `[K]` in `[0, 1]`.

        Args:
          remembered: `[N_u]` int, the class of each image of the pool, -1 for none.
          before: `[K]`, the answer while all images are unused or of one class.
        """
        unused, *_ = counts = jnp.bincount(remembered + 1, length=len(before) + 1)
        largest = jnp.max(counts[1:])
        most = jnp.maximum(largest, unused)
        divisor = most if self.threshold_warmup else jnp.maximum(largest, 1)
        return jnp.where(most < len(remembered), counts[1:] / divisor, before)

    def learn(self, state, forward, batch, targets, ctx):
        """Both terms; rejected rows are zeros of the mean."""
        x, y = batch.labeled.image, batch.labeled.label
        outputs = forward.jointly(x, *batch.unlabeled.strong)
        labeled, *strong = [out.logits["base"] for out in outputs]
        consistency = [targets.mask * soft_cross_entropy(s, targets.probs) for s in strong]
        return {
            "supervised": Term(cross_entropy(labeled, y)),
            "consistency": Term(jnp.stack(consistency), self.unlabeled_weight),
        }

    def predict(self, state, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = FlexMatch
EXAMPLES = (FlexMatch(), FlexMatch(0.3), FlexMatch(0.3, threshold_warmup=False))
