"""Complementary Experts (CPE).

Ma, Elezi, Deng, Dong, Xu: "Three Heads Are Better than One: Complementary Experts for Long-Tailed
Semi-supervised Learning", AAAI 2024, arXiv:2312.15702. Follows the authors' code,
machengcheng2016/CPE-LTSSL at dedd598; steps of it are our golden test.

Three classifiers (experts) learn the labeled batch under three strengths of logit adjustment, each
for another distribution of the pool, and label the pool each for itself. Before them stand three
batch norms side by side (classwise batch norm): an expert answers by the mean over these branches,
and learns its pseudo-labels of all classes by the first branch, of all but the most frequent ones
by the second, of the rare ones by the third.

Decisions where paper, code and expectation part:
- All rows pass all three batch norms; their statistics are equal, their weights part by the losses.
- The consistency is a mean over accepted terms of a head: a rare class counts three times.
- Tested is the head of the middle strength, without a correction.
- The learning rate is constant: USB gives algorithms for imbalance no schedule.

Differs from the official code:
- `cut1` and `cut2` are ranks of the labeled counts, which theirs takes to be the class numbers.
- A class without labeled images has the prior of one; theirs has log 0.
- The last batch norm of their backbone has an epsilon of 1e-3, and their first convolution a bias.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import Head, InputError, Kept, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.consistency import pseudo_label
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy

EXPERTS = ("expert1", "expert2", "expert3")


@dataclasses.dataclass(frozen=True)
class CPE:
    """Three experts under three logit adjustments, three branches for three groups of classes.

    Attributes:
      tau1, tau2, tau3: logit-adjustment strengths of the experts' labeled losses.
      cut1: how many classes, the most frequent ones, only the first branch learns from the pool;
        35 on CIFAR-100.
      cut2: how many the third branch does not learn; 70 on CIFAR-100.
      threshold: confidence from which a pseudo-label counts.
      unlabeled_weight: weight of each expert's consistency.
    """

    tau1: float = 0.0
    tau2: float = 2.0
    tau3: float = 4.0
    cut1: int = 2
    cut2: int = 4
    threshold: float = 0.95
    unlabeled_weight: float = 1.0

    needs = Needs(heads=tuple(Head(name) for name in EXPERTS), branches=3)

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check(self.cut1 >= 0, "method.cut1", self.cut1, "0 or positive")
        wanted = f"at least method.cut1 ({self.cut1})"
        check(self.cut2 >= self.cut1, "method.cut2", self.cut2, wanted)

    def init(self, problem):
        """Returns the log prior `[K]` and which branch learns which class, `[3, K]`."""
        counts = jnp.asarray(problem.labeled_counts)
        rank = jnp.argsort(jnp.argsort(-counts))  # 0: the most frequent class
        first_ranks = jnp.asarray([0, self.cut1, self.cut2])
        learns = (rank[None, :] >= first_ranks[:, None]).astype(jnp.float32)
        return {"log_prior": log_prior(counts), "learns": learns}

    def loss(self, state, forward, batch, ctx):
        """One pass of all views; the terms of each expert, from its logits alone."""
        views = (batch.labeled.image, batch.unlabeled.weak, batch.unlabeled.strong[0])
        labeled, weak, strong = (out.logits for out in forward.jointly(*views))
        terms, monitors = {}, {}
        for name, tau in zip(EXPERTS, (self.tau1, self.tau2, self.tau3), strict=True):
            supervised = logit_adjusted_cross_entropy(
                jnp.mean(labeled[name], axis=1), batch.labeled.label, state["log_prior"], tau=tau
            )
            consistency, kept = self.consistency(state["learns"], weak[name], strong[name])
            terms |= {f"supervised_{name}": Term(supervised), f"consistency_{name}": consistency}
            monitors[f"mask/{name}"] = kept
        return Loss(terms, state, monitors)

    def consistency(self, learns, weak, strong):
        """One expert on the pool.

        Args:
          learns: `[3, K]`, 1 where a branch learns a class.
          weak, strong: logits `[U, 3, K]`.

        Returns:
          The term, a mean over what is accepted, and what was accepted.
        """
        probs = softmax(stop_gradient(jnp.mean(weak, axis=1)))
        labels, mask = pseudo_label(probs, self.threshold)
        accepted = mask[None, :] * learns[:, labels]
        losses = [cross_entropy(strong[:, b], labels) for b in range(self.needs.branches)]
        count = jnp.sum(accepted)
        return Term(accepted * jnp.stack(losses), self.unlabeled_weight, count), Kept(labels, mask)

    def predict(self, state, network, images, epoch):
        """Logits of the second expert, the mean over its branches."""
        return jnp.mean(network(images).logits["expert2"], axis=1)

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head expert2"


METHOD = CPE
EXAMPLES = (CPE(), CPE(cut2=3, threshold=0.2))
