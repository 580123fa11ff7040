"""Learning from the labeled images alone: cross entropy, logit adjustment, LDAM-DRW.

- `"cross_entropy"`: the baseline that every semi-supervised number should be compared with.
- `"logit_adjusted"`: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021,
  arXiv:2007.07314; with `tau=1` the same as balanced softmax (Ren et al., arXiv:2007.10740).
- `"ldam"`: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
  NeurIPS 2019, arXiv:1906.07413, with deferred re-weighting (DRW); a cosine head. Follows
  kaidic/LDAM-DRW: the weighted loss is divided by the sum of the weights in the batch.

Differs from the official codes: DRW starts at the epoch of a field, not at a hard-coded 160. Values
and gradients of LDAM-DRW in YyzHarry/imbalanced-semi-self at commit b91ad29 are our golden test;
the other terms are tested against the equations. The unlabeled stream is read and ignored, so that
batches and schedules are those of the semi-supervised methods.
"""

import dataclasses

import jax.numpy as jnp

from ltssl_jax.core import Head, InputError, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.margins import (
    effective_number_weights,
    ldam_cross_entropy,
    ldam_margins,
    log_prior,
    logit_adjusted_cross_entropy,
)

OBJECTIVES = ("cross_entropy", "logit_adjusted", "ldam")


@dataclasses.dataclass(frozen=True)
class Supervised:
    """One labeled term; which one is `objective`.

    Attributes:
      objective: `"cross_entropy"`, `"logit_adjusted"` or `"ldam"`.
      tau: strength of the logit adjustment.
      max_margin: LDAM margin of the rarest class.
      scale: factor on LDAM's cosines.
      beta: effective-number parameter of the deferred class weights.
      reweight_from: epoch (from 0) in which DRW starts to weigh the classes, if the run gets there.
    """

    objective: str = "cross_entropy"
    tau: float = 1.0
    max_margin: float = 0.5
    scale: float = 30.0
    beta: float = 0.9999
    reweight_from: int = 160

    def __post_init__(self):
        if self.objective not in OBJECTIVES:
            raise InputError.unknown("method.objective", self.objective, OBJECTIVES)
        check = InputError.check
        check(0 <= self.beta < 1, "method.beta", self.beta, "at least 0 and below 1")

    @property
    def needs(self):
        """One head, cosine for LDAM; no strong view."""
        kind = "cosine" if self.objective == "ldam" else "linear"
        return Needs(heads=(Head("base", kind=kind),), strong=0)

    def init(self, problem):
        """Returns log prior, margins and deferred class weights, each `[K]` float32."""
        counts = problem.labeled_counts
        return {
            "log_prior": log_prior(counts),
            "margins": ldam_margins(counts, max_margin=self.max_margin),
            "class_weights": effective_number_weights(counts, beta=self.beta),
        }

    def loss(self, state, forward, batch, ctx):
        """Forwards the labeled view."""
        logits = forward(batch.labeled.image).logits["base"]
        term = self.term(state, logits, batch.labeled.label, ctx.epoch)
        return Loss({"supervised": term}, state, {})

    def term(self, state, logits, labels, epoch):
        """The method on arrays: logits (cosines for LDAM) `[B, K]`, labels `[B]`."""
        if self.objective == "cross_entropy":
            return Term(cross_entropy(logits, labels))
        if self.objective == "logit_adjusted":
            log_pi = state["log_prior"]
            return Term(logit_adjusted_cross_entropy(logits, labels, log_pi, tau=self.tau))
        weights = jnp.where(epoch >= self.reweight_from, state["class_weights"], 1.0)[labels]
        losses = ldam_cross_entropy(logits, labels, state["margins"], scale=self.scale)
        return Term(weights * losses, count=jnp.sum(weights))

    def predict(self, state, network, images, epoch):
        """Logits of the one head, for LDAM at the scale of its training loss."""
        logits = network(images).logits["base"]
        return self.scale * logits if self.objective == "ldam" else logits

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = Supervised
EXAMPLES = (
    Supervised(),
    Supervised("logit_adjusted"),
    Supervised("ldam", reweight_from=0),
)
