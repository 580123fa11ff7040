"""Debiased pseudo-labeling (DebiasPL).

Wang, Wu, Lian, Yu: "Debiased Learning from Naturally Imbalanced Pseudo-Labels", CVPR 2022,
arXiv:2201.01490. Follows the authors' released code, frank-xwang/debiased-pseudo-labeling at commit
3d68ccb (`main_DebiasPL.py`, one view of each kind); steps of it are our golden test.

The average of what the network says of the pool is its bias. Pseudo-labels are freed of it, and on
the strong view a class has the larger a margin to keep, the rarer it is among the guesses.

Decisions where paper, code and expectation part:
- The average is that of plain probabilities; the paper's algorithm takes the debiased ones, which
  its authors call a misprint. All rows count, confident or not; labeled ones do not.
- Pseudo-labels are debiased by the average before this step, the margin is by that after it.
- `tau` is 0.4 in all released commands, where the option's default is 1. `momentum` is the option's
  default and that of one command; the four others have 0.99. Threshold and weight are those of
  FixMatch on small images; the authors' commands, all for ImageNet, have 0.7 or 0.8 and 10. They
  released no code for long-tailed data.

Differs from the official code:
- Their commands add two weak and two strong views and a contrast between clusters of classes, and
  guess by the EMA network; long-tailed comparisons take none of it, nor does this file.
- The average is one of all devices, and is saved; theirs is one per GPU, and starts anew when a run
  is continued.
- A class that is never guessed keeps a finite logarithm.
- Theirs tests the network itself, not its average.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label
from ltssl_jax.memory.averages import batch_mean, follow


@dataclasses.dataclass(frozen=True)
class DebiasPL:
    """FixMatch that subtracts its own bias from guesses and learns against it.

    Attributes:
      tau: how much of the bias is subtracted, and how large the margins are.
      momentum: of the average guess.
      threshold: confidence, after debiasing, from which a pseudo-label counts.
      unlabeled_weight: weight of the consistency term.
    """

    tau: float = 0.4
    momentum: float = 0.999
    threshold: float = 0.95
    unlabeled_weight: float = 1.0

    needs = Needs(strong=1)
    slots = ("guess", "accept", "supervised")

    def __post_init__(self):
        check = InputError.check
        check(self.tau >= 0, "method.tau", self.tau, "at least 0")
        check(0 <= self.momentum < 1, "method.momentum", self.momentum, "at least 0 and below 1")
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")

    def init(self, problem):
        """Returns the average guess `[K]`, uniform so far."""
        num_classes = len(problem.labeled_counts)
        return jnp.full(num_classes, 1.0 / num_classes, jnp.float32)

    def loss(self, average, forward, batch, ctx):
        """Guesses on the weak view, debiases, learns on the strong one with margins."""
        logits = self.guess(average, forward, batch, ctx)
        targets, average = self.accept(average, logits, batch, ctx)
        terms = self.learn(average, forward, batch, targets, ctx)
        monitors = {"mask/base": targets.kept, "guesses/most": jnp.max(average)}
        return Loss(terms, average, monitors)

    def guess(self, average, forward, batch, ctx):
        """Forwards all views together; logits of the weak one, bias included."""
        views = (batch.unlabeled.weak, batch.labeled.image, *batch.unlabeled.strong)
        return stop_gradient(forward.jointly(*views)[0].logits["base"])

    def accept(self, average, logits, batch, ctx):
        """Targets are debiased by the average so far, which then follows the guesses as made."""
        labels, mask = pseudo_label(softmax(logits - self.bias(average)[None, :]), self.threshold)
        guessed = batch_mean(softmax(logits), ctx.devices)
        average = follow(average, guessed, decay=self.momentum)
        return Targets(one_hot(labels, logits.shape[1]), labels, mask), average

    def learn(self, average, forward, batch, targets, ctx):
        """Both terms; on the strong view the bias is added, so that learning has to beat it."""
        x, y = batch.labeled.image, batch.labeled.label
        outputs = forward.jointly(x, *batch.unlabeled.strong)
        labeled, *strong = [out.logits["base"] for out in outputs]
        margin = self.bias(average)[None, :]
        consistency = [targets.mask * soft_cross_entropy(s + margin, targets.probs) for s in strong]
        return {
            "supervised": Term(cross_entropy(labeled, y)),
            "consistency": Term(jnp.stack(consistency), self.unlabeled_weight),
        }

    def bias(self, average):
        """Returns `tau log p` of the average guess `p`, `[K]`."""
        return self.tau * jnp.log(jnp.maximum(average, jnp.finfo(jnp.float32).tiny))

    def predict(self, average, network, images, epoch):
        """Logits of the one head, as they are."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = DebiasPL
EXAMPLES = (DebiasPL(), DebiasPL(tau=1.0, momentum=0.5, threshold=0.2))
