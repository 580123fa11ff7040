"""Adaptive Consistency Regularizer (ACR).

Wei, Gan: "Towards Realistic Long-Tailed Semi-Supervised Learning: Consistency Is All You Need",
CVPR 2023. Follows the authors' released code, Gank0078/ACR at commit 9a8f421; steps of it are our
golden test.

FixMatch on two heads, `base` (h in the comments) and `balanced` (b), which is tested. How strongly
the pseudo-labels of h are corrected by the prior adapts to the pool: it grows with the distance
between what b says of the pool and the labeled prior, as compared with the distances to a uniform
and to a reversed prior.

Decisions where paper, code and expectation part:
- The estimate of the pool's prior counts accepted images. The code's `mask[labels] += accepted` is
  an assignment: duplicates do not add up, and the last row of a class decides, accepted or not.
  `is_presence` counts a class once if any row is accepted, the part of that which is determined.
- A row also counts if a second guess is confident (h uncorrected, or b), even of another class.
- `prior_decay` is that of every command of the README; the code's default is 0.9.

Differs from the official code:
- The prior comes from the exact counts; theirs from a shuffled pass that drops the last batch.
- The reversed prior is by rank; theirs takes for granted that classes are sorted.
- `tau log pi` stands for `log(pi ** tau + 1e-12)`.
- A class that the estimate has lost is floored in its logarithm; theirs makes tau NaN, and the one
  before is kept.
- An interrupted run goes on as if it were not; theirs loses the distances of its last epoch.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import Head, InputError, Kept, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.consistency import pseudo_label, pseudo_label_by_either
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.losses.priors import anchor_log_priors, symmetric_divergences
from ltssl_jax.memory.averages import follow, histogram


@dataclasses.dataclass(frozen=True)
class ACR:
    """The correction of the pseudo-labels of `base` follows the estimated prior of the pool.

    Attributes:
      base_tau: correction of the pseudo-labels of `base`, and the largest that it can become.
      balanced_tau: correction of those of `balanced`.
      labeled_tau: logit-adjustment strength of the labeled loss of `balanced`.
      threshold: confidence from which a pseudo-label counts.
      prior_decay: of the running estimate of the pool's prior.
      warmup_epochs: `base_tau` adapts in the epochs after this one (from 0), if there are any.
      is_presence: an accepted class counts once a batch, not once a row.
    """

    base_tau: float = 2.0
    balanced_tau: float = 2.0
    labeled_tau: float = 2.0
    threshold: float = 0.95
    prior_decay: float = 0.99
    warmup_epochs: int = 5
    is_presence: bool = False

    needs = Needs(heads=(Head("base"), Head("balanced")), strong=2)

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check(0 <= self.prior_decay < 1, "method.prior_decay", self.prior_decay, "in [0, 1)")

    def init(self, problem):
        """Returns anchors, estimate, this epoch's summed distances to the anchors, and tau."""
        log_anchors = anchor_log_priors(log_prior(problem.labeled_counts))
        nowhere, is_labeled = jnp.zeros(problem.num_unlabeled, bool), problem.is_labeled
        return {
            "log_anchors": log_anchors,
            "is_labeled": nowhere if is_labeled is None else jnp.asarray(is_labeled),
            "pool_prior": jnp.exp(log_anchors[1]),
            "distances": jnp.zeros(3, jnp.float32),
            "tau": jnp.asarray(self.base_tau, jnp.float32),
        }

    def loss(self, state, forward, batch, ctx):
        """One pass for all views; what b says of the pool is counted for the next epoch's tau."""
        state = self.adapted(state, ctx)
        views = forward.jointly(batch.labeled.image, batch.unlabeled.weak, *batch.unlabeled.strong)
        labeled, weak, *strong = (view.logits for view in views)
        weak = stop_gradient(weak)
        terms, monitors = self.terms(state, labeled, weak, strong, batch.labeled.label)
        state = self.observed(state, weak["balanced"], batch.unlabeled.index, ctx)
        return Loss(terms, state, monitors)

    def adapted(self, state, ctx):
        """At the start of an epoch: the next tau, from the mean distances of the last one."""
        is_start = ctx.step % ctx.steps_per_epoch == 0
        tau = self.base_tau * softmax(state["distances"] / ctx.steps_per_epoch)[0]
        is_due = is_start & (ctx.epoch > self.warmup_epochs)
        return state | {
            "tau": jnp.where(is_due, tau, state["tau"]),
            "distances": jnp.where(is_start, 0.0, state["distances"]),
        }

    def terms(self, state, labeled, weak, strong, labels):
        """Terms and monitors; logits by head `[B, K]`, `[U, K]` and, for each strong view, too."""
        h, b, log_pi = "base", "balanced", state["log_anchors"][0]

        def guessed(tau, other):
            adjusted = softmax(weak[h] - tau * log_pi[None, :])
            return pseudo_label_by_either(adjusted, softmax(other), self.threshold)

        labels_h, mask_h = guessed(state["tau"], weak[h])
        labels_b, mask_b = guessed(self.balanced_tau, weak[b])
        consistency_h = [mask_h * cross_entropy(view[h], labels_h) for view in strong]
        consistency_b = [mask_b * cross_entropy(view[b], labels_b) for view in strong]
        adjusted = logit_adjusted_cross_entropy(labeled[b], labels, log_pi, tau=self.labeled_tau)
        kept = {"mask/base": Kept(labels_h, mask_h), "mask/balanced": Kept(labels_b, mask_b)}
        return {
            "supervised": Term(cross_entropy(labeled[h], labels)),
            "consistency": Term(jnp.stack(consistency_h)),
            "supervised_balanced": Term(adjusted),
            "consistency_balanced": Term(jnp.stack(consistency_b)),
        }, kept | {"tau": state["tau"]}

    def observed(self, state, logits, index, ctx):
        """Follows the accepted pseudo-labels of b, those of labeled images left out."""
        labels, mask = pseudo_label(softmax(logits), self.threshold)
        counts = histogram(labels, logits.shape[1], ctx.devices, mask * ~state["is_labeled"][index])
        if self.is_presence:
            counts = (counts > 0).astype(jnp.float32)
        total, old = jnp.sum(counts), state["pool_prior"]
        is_new = (ctx.epoch > self.warmup_epochs) & (total > 0)
        prior = follow(old, counts / jnp.maximum(total, 1.0), decay=self.prior_decay)
        farther = state["distances"] + symmetric_divergences(prior, state["log_anchors"])
        return state | {
            "pool_prior": jnp.where(is_new, prior, old),
            "distances": jnp.where(is_new, farther, state["distances"]),
        }

    def predict(self, state, network, images, epoch):
        """Logits of `balanced`."""
        return network(images).logits["balanced"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head balanced"


METHOD = ACR
EXAMPLES = (ACR(warmup_epochs=-1), ACR(threshold=0.3, warmup_epochs=-1, is_presence=True))
