"""FixMatch, plain or aware of the class prior.

Sohn et al.: "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
NeurIPS 2020, arXiv:2001.07685. Confident guesses on the weak view are labels for the strong view.

Long-tailed variants of the literature are settings:
- `labeled_tau=1` is what tables call FixMatch+LA: logit-adjusted loss on the labeled batch, plain
  pseudo-labels (Menon et al., arXiv:2007.07314, as DASO's authors combine them).
- `pseudo_label_tau=1` corrects the pseudo-labels by the prior, `softmax(z - tau log pi)`, as the
  first head of TRAS and of ACR does.

Follows google-research/fixmatch in what is computed, and kekmodel/FixMatch-pytorch, from which the
long-tailed codes descend, in how: all views share one batch-norm pass (`forward_mode="joint"`). The
TRAS and ABC line runs one pass per view (`"separate"`) and two strong views (`num_strong=2`).

Differs from the official code: the weight decay is the optimizer's, not a term of the loss. Steps
of kekmodel's code (commit 040be3b) are our golden test.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy


@dataclasses.dataclass(frozen=True)
class FixMatch:
    """Pseudo-labels from the weak view, learned on the strong views.

    Attributes:
      threshold: confidence from which a pseudo-label counts.
      unlabeled_weight: weight of the consistency term.
      labeled_tau: logit-adjustment strength of the labeled loss; 0 is plain cross entropy.
      pseudo_label_tau: prior correction of the pseudo-labels; 0 leaves them as they are.
      is_soft: the whole distribution is the target, not its most probable class (CDMAD).
      num_strong: strong views per unlabeled image.
      forward_mode: `"joint"` or `"separate"` batch-norm passes (weak, labeled, strong views).
    """

    threshold: float = 0.95
    unlabeled_weight: float = 1.0
    labeled_tau: float = 0.0
    pseudo_label_tau: float = 0.0
    is_soft: bool = False
    num_strong: int = 1
    forward_mode: str = "joint"

    slots = ("guess", "accept", "supervised")

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check(self.num_strong >= 1, "method.num_strong", self.num_strong, "at least 1")
        if self.forward_mode not in ("joint", "separate"):
            raise InputError.unknown(
                "method.forward_mode", self.forward_mode, ("joint", "separate")
            )

    @property
    def needs(self):
        """One head, `num_strong` strong views."""
        return Needs(strong=self.num_strong)

    def init(self, problem):
        """Returns the log prior `[K]`."""
        return log_prior(problem.labeled_counts)

    def loss(self, log_pi, forward, batch, ctx):
        """Guesses on the weak view, accepts what is confident, learns it on the strong views."""
        logits = self.guess(log_pi, forward, batch, ctx)
        targets, log_pi = self.accept(log_pi, logits, batch, ctx)
        terms = self.learn(log_pi, forward, batch, targets, ctx)
        return Loss(terms, log_pi, {"mask/base": targets.kept})

    def guess(self, log_pi, forward, batch, ctx):
        """Forwards all views, together or one by one; logits of the weak one, corrected."""
        views = (batch.labeled.image, *batch.unlabeled.strong)
        if self.forward_mode == "joint":
            weak = forward.jointly(batch.unlabeled.weak, *views)[0]
        else:
            weak = forward(batch.unlabeled.weak)
            forward.apart(*views)
        return stop_gradient(weak.logits["base"]) - self.pseudo_label_tau * log_pi[None, :]

    def accept(self, log_pi, logits, batch, ctx):
        """Targets are one-hot, or soft; the mask says which are confident."""
        probs = softmax(logits)
        labels, mask = pseudo_label(probs, self.threshold)
        return Targets(
            probs if self.is_soft else one_hot(labels, logits.shape[1]), labels, mask
        ), log_pi

    def learn(self, log_pi, forward, batch, targets, ctx):
        """Both terms; the consistency of all strong views has one mean."""
        x, y = batch.labeled.image, batch.labeled.label
        # After another guess than ours the views are still to be forwarded.
        forwarded = forward.jointly if self.forward_mode == "joint" else forward.apart
        labeled, *strong = [out.logits["base"] for out in forwarded(x, *batch.unlabeled.strong)]
        consistency = [targets.mask * soft_cross_entropy(s, targets.probs) for s in strong]
        return {
            "supervised": Term(
                logit_adjusted_cross_entropy(labeled, y, log_pi, tau=self.labeled_tau)
            ),
            "consistency": Term(jnp.stack(consistency), self.unlabeled_weight),
        }

    def predict(self, log_pi, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = FixMatch
EXAMPLES = (
    FixMatch(),
    FixMatch(
        0.2,
        labeled_tau=1.0,
        pseudo_label_tau=1.0,
        is_soft=True,
        num_strong=2,
        forward_mode="separate",
    ),
)
