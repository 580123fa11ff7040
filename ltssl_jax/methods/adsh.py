"""Adaptive thresholding (Adsh).

Guo, Li: "Class-Imbalanced Semi-Supervised Learning with Adaptive Thresholding", ICML 2022, PMLR
162. No code of the authors could be found. Our golden test is computed from the rule as we read it,
in float64, and knows what two ports make of the same numbers: microsoft/Semi-supervised-learning
(USB) at commit 1ef4cbe and ZerojumpLine/SEVAL at commit a441101.

After each epoch, of the images of the pool that the EMA network calls by the class with the most
labels, some share is confident by a fixed threshold. Every other class gets the threshold that
accepts the same share of its own images.

Decisions where the rule leaves room:
- The class with the most labels keeps its threshold. (Both ports set it to its last accepted
  confidence, which accepts the same images.)
- A class with too few images for a quota of one keeps its threshold, and so do all if the network
  calls no image by the most frequent class.
- Thresholds can rise above the fixed one, and nothing averages them over epochs.

Differs from the ports, which share these faults:
- They start with thresholds of exp(-0.95) = 0.39; ours begin where the fixed one is.
- They count one confident image too few; with none of the most frequent class, and in classes with
  a quota of 0, they accept everything.
- The most frequent class is class 0 in theirs.
- USB evaluates the pool on random training views, and forgets the thresholds when a run continues.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, check_slots


@dataclasses.dataclass(frozen=True)
class Adsh:
    """A base method that accepts the same share of every class.

    Attributes:
      threshold: of the class with the most labels, and of all in the first epoch; the base's own
        is not read.
      base: a method that labels the pool itself. Thresholds are those of the predicted classes, so
        they do not fit DebiasPL, which names other ones.
    """

    threshold: float = 0.95
    base: Any = dataclasses.field(default_factory=lambda: dict(name="fixmatch"))

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check_slots("adsh", self.base, "guess", "accept")
        tau = getattr(self.base, "pseudo_label_tau", 0.0)
        check(tau == 0, "method.base.pseudo_label_tau", tau, "0: thresholds are of predictions")

    @property
    def needs(self):
        """What the base needs, and the network's answers to the pool."""
        return self.base.needs.joined(Needs(heads=(), pool=True))

    def init(self, problem):
        """Returns the base's state, the thresholds `[K]`, and which class has the most labels."""
        counts = jnp.asarray(problem.labeled_counts)
        return {
            "base": self.base.init(problem),
            "thresholds": jnp.full(len(counts), self.threshold, jnp.float32),
            "is_largest": jnp.arange(len(counts)) == jnp.argmax(counts),
        }

    def loss(self, state, forward, batch, ctx):
        """The base's loss, where each class has its own threshold."""
        logits = self.base.guess(state["base"], forward, batch, ctx)
        targets, of_base = self.base.accept(state["base"], logits, batch, ctx)
        confidences = jnp.max(softmax(logits), axis=-1)
        mask = (confidences >= state["thresholds"][targets.labels]).astype(jnp.float32)
        targets = targets._replace(mask=mask)
        terms = self.base.learn(of_base, forward, batch, targets, ctx)
        monitors = {"mask/base": targets.kept, "threshold/lowest": jnp.min(state["thresholds"])}
        return Loss(terms, state | {"base": of_base}, monitors)

    def refresh_every(self, problem):
        """After each epoch."""
        return problem.steps_per_epoch

    def refresh(self, state, step, pool):
        """Gives every class the threshold that accepts its quota of the pool."""
        thresholds, is_largest = state["thresholds"], state["is_largest"]
        labels, confidences = jnp.argmax(pool, axis=-1), jnp.max(softmax(pool), axis=-1)
        called = one_hot(labels, len(thresholds), dtype=jnp.int32)
        sizes = jnp.sum(called, axis=0)
        accepted = jnp.sum(called * (confidences >= self.threshold)[:, None], axis=0)
        # Of the class with the most labels alone, as scalars:
        accepted, size = jnp.sum(accepted * is_largest), jnp.sum(sizes * is_largest)
        quotas = share(sizes, accepted, size)

        order = jnp.lexsort((-confidences, labels))  # class by class, the surest image first
        first = jnp.cumsum(sizes) - sizes
        last_accepted = confidences[order][first + jnp.maximum(quotas, 1) - 1]
        is_new = (quotas > 0) & ~is_largest
        return state | {"thresholds": jnp.where(is_new, last_accepted, thresholds)}

    def predict(self, state, network, images, epoch):
        """The base's logits."""
        return self.base.predict(state["base"], network, images, epoch)

    def scored_by(self, epoch):
        """Says what `predict` reads."""
        return self.base.scored_by(epoch)


def share(sizes, part, whole):
    """Returns `sizes * part // whole` `[K]` for `part <= whole`, and 0 if `whole` is.

    The product may exceed an int32, and float32 would round it, so it is divided bit by bit.
    """
    divisor = jnp.maximum(whole, 1)

    def bit(i, carried):
        quotient, rest = carried
        rest = 2 * rest + sizes * ((part >> (30 - i)) & 1)
        return 2 * quotient + rest // divisor, rest % divisor

    return jax.lax.fori_loop(0, 31, bit, (jnp.zeros_like(sizes), jnp.zeros_like(sizes)))[0]


METHOD = Adsh
EXAMPLES = ({}, {"threshold": 0.5, "base": {"name": "fixmatch", "threshold": 0.5}})
