"""Auxiliary balanced classifier (ABC).

Lee, Shin, Kim: "ABC: Auxiliary Balanced Classifier for Class-Imbalanced Semi-Supervised Learning",
NeurIPS 2021, arXiv:2110.10368. Follows the authors' released code, LeeHyuck/ABC at commit f70e926
(`ABCfix.py`); steps of it are our golden test.

Beside any method, which trains the head `base`, a second head `balanced` learns on the same
features, with rows of frequent classes dropped at random so that all classes weigh alike. Only that
head is tested; both train the backbone.

Decisions where paper, code and expectation part:
- `balanced` makes its own pseudo-labels; nothing that `base` says enters its terms. They are soft.
- Its terms of the strong views are summed, so each weighs as much as the labeled term. (The base
  averages its own over the views: half as much at two views.)
- Both strong views share one draw per image.
- Labeled rows are kept as the ramp ends, from the first step on. (`ABCremix.py` lets them follow
  the ramp, for step imbalance alone.)
- The ramp is constant within an epoch, and its length is the literal 500 in the code.

Differs from the official code:
- The rarest class is the one with the fewest labels, but at least one; theirs is the last one.
- Logarithms of softmaxes, which underflow to NaN in theirs, are taken at once.
- A draw belongs to an image and a step, not to a row, so the number of devices changes nothing.
- Their rotation classifier, which nothing uses, is left out.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import Head, InputError, Kept, Loss, Method, Needs, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label


@dataclasses.dataclass(frozen=True)
class ABC:
    """A base method, and head `balanced` on a sample of the rows that is balanced on average.

    Attributes:
      threshold: confidence from which a pseudo-label of `balanced` counts.
      ramp_epochs: over so many, unlabeled rows go from all kept to as labeled ones are.
      base: any method without a head named `balanced` of its own, without branches, and without
        answers to the pool, which would be those of `balanced` (Adsh).
    """

    threshold: float = 0.95
    ramp_epochs: int = 500
    base: Method = dataclasses.field(
        default_factory=lambda: dict(name="fixmatch", num_strong=2, forward_mode="separate")
    )

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check(self.ramp_epochs >= 1, "method.ramp_epochs", self.ramp_epochs, "at least 1")
        check(hasattr(self.base, "loss"), "method.base", self.base, "built by methods.make")
        heads = [head.name for head in self.base.needs.heads]
        check("balanced" not in heads, "method.base", self.base, "without a head named 'balanced'")
        answers = "one whose refresh does not need the network's answers to the pool"
        check(not self.base.needs.pool, "method.base", self.base, answers)
        check(self.base.needs.branches == 1, "method.base", self.base, "without branches")

    @property
    def needs(self):
        """What the base needs, one more head and at least one strong view."""
        return self.base.needs.joined(Needs(heads=(Head("balanced"),)))

    def init(self, problem):
        """Returns the base's state and the probabilities `[K]` of keeping a labeled row."""
        counts = jnp.asarray(problem.labeled_counts, jnp.float32)
        rarest = jnp.min(jnp.where(counts > 0, counts, jnp.inf))
        kept = jnp.minimum(rarest / jnp.maximum(counts, 1.0), 1.0)
        return {"base": self.base.init(problem), "kept": kept}

    def loss(self, state, forward, batch, ctx):
        """The base's loss and the two terms of `balanced`, on the views that the base forwarded."""
        of_base = self.base.loss(state["base"], forward, batch, ctx)
        terms, monitors = self.terms(state["kept"], forward, batch, ctx)
        return Loss(
            {**of_base.terms, **terms},
            {"base": of_base.state, "kept": state["kept"]},
            {**of_base.monitors, **monitors},
        )

    def terms(self, kept, forward, batch, ctx):
        """The terms of `balanced` by name, and the monitors; `kept` is `N_min / N_c`, `[K]`."""
        x, y = batch.labeled.image, batch.labeled.label
        weak = stop_gradient(forward(batch.unlabeled.weak).logits["balanced"])
        labeled, *strong = [
            out.logits["balanced"] for out in forward.apart(x, *batch.unlabeled.strong)
        ]

        target = softmax(weak)
        pseudo_labels, mask = pseudo_label(target, self.threshold)
        ramp = jnp.minimum(ctx.epoch / self.ramp_epochs, 1.0)
        kept_unlabeled = 1.0 - ramp * (1.0 - kept)
        keep = drawn(ctx.rng, "keep_labeled", batch.labeled.index, kept[y])
        keep_unlabeled = drawn(
            ctx.rng, "keep_unlabeled", batch.unlabeled.index, kept_unlabeled[pseudo_labels]
        )
        consistency = sum(soft_cross_entropy(s, target) for s in strong)
        return {
            "supervised_balanced": Term(keep * cross_entropy(labeled, y)),
            "consistency_balanced": Term(mask * keep_unlabeled * consistency),
        }, {"mask/balanced": Kept(pseudo_labels, mask)}

    def refresh_every(self, problem):
        """As often as the base has work on the pool; 0 if it never has."""
        has_work = hasattr(self.base, "refresh_every")
        return self.base.refresh_every(problem) if has_work else 0

    def refresh(self, state, step, pool):
        """The base's work."""
        return state | {"base": self.base.refresh(state["base"], step, pool)}

    def predict(self, state, network, images, epoch):
        """Logits of `balanced`."""
        return network(images).logits["balanced"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head balanced"


def drawn(rng, stream, index, probs):
    """Returns 1 with probability `probs` and 0 otherwise, for each row `[B]`, float32."""
    keys = rng.per_example(stream, index)
    return jax.vmap(jax.random.bernoulli)(keys, probs).astype(jnp.float32)


METHOD = ABC
EXAMPLES = (
    {"threshold": 0.2, "ramp_epochs": 2},
    {"threshold": 0.2, "base": {"name": "saw", "base": {"name": "fixmatch", "threshold": 0.2}}},
)
