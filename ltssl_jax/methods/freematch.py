"""FreeMatch: thresholds and class balance that follow the network's own confidence.

Wang, Chen, Heng, Hou, Fan, Wu, Wang, Savvides, Shinozaki, Raj, Schiele, Xie: "FreeMatch:
Self-adaptive Thresholding for Semi-supervised Learning", ICLR 2023, arXiv:2205.07246. Follows the
authors' code, microsoft/Semi-supervised-learning (USB) at commit 1ef4cbe and TorchSSL/TorchSSL at
f26e1d4; steps of both are our golden test.

The threshold is the running mean of the confidence, scaled by what the network expects of each
class. Self-adaptive fairness keeps what it says of the strong views as diverse as what it says of
the weak ones: both averages are divided by the histograms of their answers and compared.

Decisions where paper and code part:
- The averages follow before the mask is made, and follow all rows, not those of the mask.
- The fairness is `+ sum r log q`, a negative cross entropy that is added, as in paper and code.
- The paper divides sums over accepted rows by the size of the batch, the code by their number;
  normalized it is the same.
- `fairness_weight` is that of TorchSSL's settings, which the paper's numbers are from; USB: 0.001.
- `max_threshold` caps what is remembered, as USB does at 0.95 for SVHN alone.

Differs from the official code:
- The fairness is that of the batch over all devices; theirs is the mean over their shares.
- Without any accepted row it is 0, as in USB; in TorchSSL it is NaN.
- For SVHN TorchSSL keeps thresholds within 0.9 and 0.95, and begins with 2,049 steps on labels.
- USB's other choice of the confidence, the 80 % quantile, is left out: no setting uses it.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label, self_adaptive_fairness
from ltssl_jax.memory.averages import batch_mean, follow, histogram


@dataclasses.dataclass(frozen=True)
class FreeMatch:
    """FixMatch with self-adaptive thresholds and fairness.

    Attributes:
      decay: of the averages.
      unlabeled_weight: weight of the consistency term.
      fairness_weight: weight of the fairness term; 0 is thresholding alone.
      max_threshold: no average confidence above it; 1 leaves it as it is.
    """

    decay: float = 0.999
    unlabeled_weight: float = 1.0
    fairness_weight: float = 0.01
    max_threshold: float = 1.0

    needs = Needs(strong=1)
    slots = ("guess", "accept", "supervised")

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.decay < 1, "method.decay", self.decay, "at least 0 and below 1")
        is_right = 0 <= self.max_threshold <= 1
        check(is_right, "method.max_threshold", self.max_threshold, "between 0 and 1")

    def init(self, problem):
        """Returns the averages: confidence, probabilities `[K]` and shares of answers `[K]`."""
        K = len(problem.labeled_counts)
        uniform = jnp.full(K, 1 / K, jnp.float32)
        return {
            "confidence": jnp.asarray(1 / K, jnp.float32),
            "probs": uniform,
            "histogram": uniform,
        }

    def loss(self, state, forward, batch, ctx):
        """Guesses on the weak view, accepts by class, learns it on the strong view, fairly."""
        logits = self.guess(state, forward, batch, ctx)
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        monitors = {"mask/base": targets.kept, "threshold/highest": state["confidence"]}
        lowest = jnp.min(self.thresholds(state))
        return Loss(terms, state, monitors | {"threshold/lowest": lowest})

    def guess(self, state, forward, batch, ctx):
        """Forwards all views together; logits of the weak one."""
        views = (batch.labeled.image, *batch.unlabeled.strong)
        weak = forward.jointly(batch.unlabeled.weak, *views)[0]
        return stop_gradient(weak.logits["base"])

    def accept(self, state, logits, batch, ctx):
        """The averages follow; the mask says which rows reach the threshold of their class."""
        probs = softmax(logits)
        answers = one_hot(jnp.argmax(probs, axis=1), probs.shape[1])
        now = {"confidence": jnp.max(probs, axis=1), "probs": probs, "histogram": answers}
        now = {name: batch_mean(values, ctx.devices) for name, values in now.items()}
        state = jax.tree.map(functools.partial(follow, decay=self.decay), state, now)
        state["confidence"] = jnp.minimum(state["confidence"], self.max_threshold)
        labels, mask = pseudo_label(probs, self.thresholds(state))
        return Targets(one_hot(labels, logits.shape[1]), labels, mask), state

    def thresholds(self, state):
        """The threshold of each class, `[K]`."""
        return state["confidence"] * state["probs"] / jnp.max(state["probs"])

    def learn(self, state, forward, batch, targets, ctx):
        """Three terms; rejected rows are zeros of the consistency's mean."""
        x, y = batch.labeled.image, batch.labeled.label
        outputs = forward.jointly(x, *batch.unlabeled.strong)
        labeled, *strong = [out.logits["base"] for out in outputs]
        consistency = [targets.mask * soft_cross_entropy(s, targets.probs) for s in strong]
        mask = jnp.concatenate([targets.mask] * len(strong))
        return {
            "supervised": Term(cross_entropy(labeled, y)),
            "consistency": Term(jnp.stack(consistency), self.unlabeled_weight),
            "fairness": self.fairness(state, softmax(jnp.concatenate(strong)), mask, ctx.devices),
        }

    def fairness(self, state, probs, mask, devices):
        """The fairness of accepted rows `probs`, a function of their mean over all devices.

        Its rows are its linear expansion there: they add up to its value and to its gradient.
        """
        mean = batch_mean(probs, devices, weights=mask)
        answers = histogram(jnp.argmax(probs, axis=1), probs.shape[1], devices, mask)
        value, slope = jax.value_and_grad(self_adaptive_fairness)(
            mean, answers, state["probs"], state["histogram"]
        )
        rows = value + jnp.sum((probs - mean[None, :]) * slope[None, :], axis=1)
        return Term(mask * rows, self.fairness_weight, jnp.sum(mask))

    def predict(self, state, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = FreeMatch
EXAMPLES = (FreeMatch(), FreeMatch(decay=0.5, fairness_weight=0.5, max_threshold=0.4))
