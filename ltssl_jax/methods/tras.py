"""Transfer and Share (TRAS).

Wei, Liu, Shi, Tu, Guo: "Transfer and Share: Semi-Supervised Learning from Long-Tailed Data",
Machine Learning 113, 2024, arXiv:2205.13358. Follows the authors' released code, Stomach-ache/TRAS
at commit c62ec01; steps of it are our golden test.

One backbone carries two classifiers. `base` (h in the comments) learns by FixMatch with
prior-corrected pseudo-labels. What it says about an unlabeled image is *transferred*, shifted
towards the rare classes and softened, to `balanced` (b), which *shares* the backbone and is tested.

Decisions where paper, code and expectation part:
- The pseudo-labels of h are logit-adjusted, so h is not plain FixMatch.
- The teacher of b is h on the *strong* view itself; the weak view gives only mask and row strength.
- The softening by 2 hides in the code's `KL(…, T * 2)`; here it is `temperature`.
- The code's threshold option is unused (0.95 is written out twice); here one field serves both.

Differs from the official code:
- The prior comes from the exact counts of the split; theirs counts one shuffled pass of a loader
  that drops the last batch, so it varies with the seed and breaks if a class is never seen.
- `log pi` stands for `log(pi + 1e-12)`.
- Their loaders start anew, reshuffled, every 500 steps; our streams of indices run on.
- Their rotation classifier, which nothing uses, is left out, and so are two batch norms whose
  result their network drops (see `models.wide_resnet`).
"""

import dataclasses

import jax.numpy as jnp
from jax import tree
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import Head, InputError, Kept, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.losses.transfer import tempered_transfer, transfer_strength


@dataclasses.dataclass(frozen=True)
class TRAS:
    """Head `base` teaches head `balanced` a distribution shifted to the rare classes.

    Attributes:
      A: class-dependent part of the transfer strength.
      B: its floor.
      temperature: softens the transferred distribution.
      threshold: confidence from which a pseudo-label counts.
      warmup_epochs: `balanced` is trained, and tested, in the epochs after this one (from 0); in a
        run that is not longer `base` is.
    """

    A: float = 2.0
    B: float = 2.0
    temperature: float = 2.0
    threshold: float = 0.95
    warmup_epochs: int = 10

    needs = Needs(heads=(Head("base"), Head("balanced")), strong=2)

    def __post_init__(self):
        check = InputError.check
        check(self.temperature > 0, "method.temperature", self.temperature, "positive")
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")

    def init(self, problem):
        """Returns the log prior `[K]`, which is all the method remembers."""
        return log_prior(problem.labeled_counts)

    def loss(self, log_pi, forward, batch, ctx):
        """Four separate passes in the authors' order: weak, labeled, strong, strong."""
        weak = stop_gradient(forward(batch.unlabeled.weak).logits)
        labeled, *strong = forward.apart(batch.labeled.image, *batch.unlabeled.strong)
        strong = tree.map(lambda *views: jnp.concatenate(views), *[s.logits for s in strong])
        is_transferring = ctx.epoch > self.warmup_epochs
        terms, monitors = self.terms(
            log_pi, labeled.logits, weak, strong, batch.labeled.label, is_transferring
        )
        return Loss(terms, log_pi, monitors)

    def terms(self, log_pi, labeled, weak, strong, labels, is_transferring):
        """The method on arrays alone.

        Args:
          log_pi: `[K]` log class frequencies of the labeled set.
          labeled, weak, strong: logits by head, `[B, K]`, `[U, K]` and `[S * U, K]`.
          labels: `[B]` int.
          is_transferring: whether `balanced` is trained yet.

        Returns:
          The terms by name, and the monitors.
        """
        h, b = "base", "balanced"
        each_view = strong[h].shape[0] // weak[h].shape[0]

        def on_each_view(a):
            return jnp.concatenate([a] * each_view)

        # Pseudo-labels: h, corrected by the prior, labels for h; b is taken as it is.
        labels_h, mask_h = pseudo_label(softmax(weak[h] - log_pi[None, :]), self.threshold)
        labels_b, mask_b = pseudo_label(softmax(weak[b]), self.threshold)

        # Transfer: h's own answer on each strong view, shifted by T(label of b) log pi, softened.
        strength = transfer_strength(log_pi, self.A, self.B)
        target = stop_gradient(
            tempered_transfer(
                strong[h], on_each_view(labels_b), log_pi, strength, temperature=self.temperature
            )
        )

        on = jnp.asarray(is_transferring, jnp.float32)
        consistency = on_each_view(mask_h) * cross_entropy(strong[h], on_each_view(labels_h))
        transfer = on_each_view(mask_b) * soft_cross_entropy(strong[b], target)
        return {
            "supervised": Term(cross_entropy(labeled[h], labels)),
            "consistency": Term(consistency),
            "supervised_balanced": Term(
                logit_adjusted_cross_entropy(labeled[b], labels, log_pi), on
            ),
            "transfer": Term(transfer, on),
        }, {"mask/base": Kept(labels_h, mask_h), "mask/balanced": Kept(labels_b, mask_b)}

    def predict(self, log_pi, network, images, epoch):
        """Logits of `balanced` once it is trained, of `base` before."""
        logits = network(images).logits
        return jnp.where(epoch > self.warmup_epochs, logits["balanced"], logits["base"])

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head balanced" if epoch > self.warmup_epochs else "head base"


METHOD = TRAS
EXAMPLES = (TRAS(), TRAS(threshold=0.2, warmup_epochs=-1))
