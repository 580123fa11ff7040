"""DML-PL: pseudo-labels by deep metric learning.

Yan, Hui, Li: "DML-PL: Deep metric learning based pseudo-labeling framework for class imbalanced
semi-supervised learning", Information Sciences 626, 2023, doi 10.1016/j.ins.2023.01.074. Only the
abstract is public, and there is no released code: the outline below is the paper's, **every detail
of it is ours**, and no number of the paper can be expected of it.

Three modules, again and again until the whole pool has labels: a metric network learns compact
features of labeled and unlabeled images; labeled images are clustered, and the unlabeled ones
nearest to a cluster take its label; the network is fine-tuned with them. Each module is a stage
(`stages`) of this method: `phase="metric"` or `phase="tune"`; the labels between the two are the
growth rule `nearest`. `configs/dml_pl_digits.py` is the whole loop.

Our decisions:
- Labeled images, pseudo-labeled ones among them, attract others of their class (supervised
  contrastive loss, of a weak and a strong view); unlabeled images attract their other strong view
  (the same loss, each image a class of its own). Both on a projection of the features.
- Clusters and distances are those of the backbone's features, at their directions alone.
- Fine-tuning is the logit-adjusted cross entropy of all labels, and goes on with the backbone.
"""

import dataclasses

import jax.numpy as jnp

from ltssl_jax.core import Head, InputError, Loss, Needs, Term
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.losses.metric import supervised_contrastive

PHASES = ("metric", "tune")


@dataclasses.dataclass(frozen=True)
class DMLPL:
    """One stage of the loop.

    Attributes:
      phase: `"metric"` learns distances, `"tune"` the classes.
      temperature: of the contrast.
      unlabeled_weight: of the contrast of unlabeled images.
      labeled_tau: logit-adjustment strength of the fine-tuning.
      size: of the projection.
    """

    phase: str = "metric"
    temperature: float = 0.1
    unlabeled_weight: float = 1.0
    labeled_tau: float = 1.0
    size: int = 128

    def __post_init__(self):
        if self.phase not in PHASES:
            raise InputError.unknown("method.phase", self.phase, PHASES)
        for field in ("temperature", "size"):
            value = getattr(self, field)
            InputError.check(value > 0, f"method.{field}", value, "positive")

    @property
    def needs(self):
        """A projection; a strong view of labeled and two of unlabeled images."""
        heads = (Head("base"), Head("embedding", self.size, "mlp"))
        return Needs(heads=heads, strong=2, labeled_strong=1)

    def init(self, problem):
        """Returns the log prior `[K]` of all labels, pseudo-labels among them."""
        return log_prior(problem.labeled_counts)

    def loss(self, log_pi, forward, batch, ctx):
        """Distances, or classes."""
        x, u = batch.labeled, batch.unlabeled
        if self.phase == "tune":
            logits = forward(x.image).logits["base"]
            losses = logit_adjusted_cross_entropy(logits, x.label, log_pi, tau=self.labeled_tau)
            return Loss({"supervised": Term(losses)}, log_pi, {})
        outputs = forward.apart(x.image, *x.strong, *u.strong)
        views = [out.logits["embedding"] for out in outputs]
        terms = {
            "metric": Term(self.contrast(views[:2], x.label, ctx.devices)),
            "instances": Term(
                self.contrast(views[2:], u.index, ctx.devices), self.unlabeled_weight
            ),
        }
        return Loss(terms, log_pi, {})

    def contrast(self, views, kinds, devices):
        """Contrasts this device's rows of all views `[R, D]`, of `kinds` `[R]`, with all rows."""
        own, kinds = jnp.concatenate(views), jnp.concatenate([kinds] * len(views))
        everyone = devices.gather(own, differentiable=True)
        all_kinds = devices.gather(kinds)
        number = jnp.arange(len(everyone))
        is_same = kinds[:, None] == all_kinds[None, :]
        is_other = devices.share(number)[:, None] != number[None, :]
        return supervised_contrastive(
            own, everyone, is_same, is_other, temperature=self.temperature
        )

    def predict(self, log_pi, network, images, epoch):
        """Logits of the classifier, which only fine-tuning trains."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base" if self.phase == "tune" else "head base, not trained in this phase"


METHOD = DMLPL
EXAMPLES = (DMLPL(), DMLPL("tune"))
