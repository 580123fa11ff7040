"""SoftMatch: every pseudo-label counts, the less the lower its confidence.

Chen, Tao, Fan, Wang, Wang, Schiele, Xie, Raj, Savvides: "SoftMatch: Addressing the
Quantity-Quality Trade-off in Semi-supervised Learning", ICLR 2023, arXiv:2301.10921. Follows the
authors' code: TorchSSL/TorchSSL at commit f26e1d4, which the paper's images were run with, and
microsoft/Semi-supervised-learning (USB) at 1ef4cbe; steps of both are our golden test.

Confidence is modelled by a Gaussian whose mean and variance follow the network; below the mean a
pseudo-label counts by the Gaussian's height. Before they are weighted, not before they are named,
guesses are aligned to a uniform class distribution, so that rare classes count enough.

The two releases are not the same algorithm, and neither is the paper's:

| | target of the alignment | mean and variance |
| --- | --- | --- |
| paper, and our default | `"uniform"` | `"raw"` |
| USB | `"uniform"` | `"aligned"` |
| TorchSSL | `"labeled"`: running mean of what is said of labeled images | `"raw"` |

For a long-tailed labeled set TorchSSL's target is long-tailed, too.

Decisions where paper and code part:
- The width of the Gaussian is the deviation over `num_sigmas`, 2 in both codes.
- The averages follow before the weights are made; the batch's variance is the unbiased one.
- With target `"labeled"` no wrapper can come between: labeled predictions reach `loss` alone.

Differs from the official code:
- The average guess starts uniform, as in TorchSSL; in USB it starts as that of the first batch.
- Both sides of the ratio that aligns are raised by 1e-6, as in USB, not in TorchSSL.
- Statistics by class are left out: with them USB does not start.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import align_distribution, truncated_gaussian
from ltssl_jax.memory.averages import batch_mean, follow

TARGETS, STATISTICS = ("uniform", "labeled"), ("raw", "aligned")


@dataclasses.dataclass(frozen=True)
class SoftMatch:
    """FixMatch with a truncated Gaussian in place of the threshold.

    Attributes:
      decay: of the averages.
      num_sigmas: how many times narrower than the confidences the Gaussian is.
      unlabeled_weight: weight of the consistency term.
      target: class distribution that guesses are aligned to: `"uniform"` or `"labeled"`.
      statistics: mean and variance are those of `"raw"` or of `"aligned"` guesses.
    """

    decay: float = 0.999
    num_sigmas: float = 2.0
    unlabeled_weight: float = 1.0
    target: str = "uniform"
    statistics: str = "raw"

    needs = Needs(strong=1)

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.decay < 1, "method.decay", self.decay, "at least 0 and below 1")
        check(self.num_sigmas > 0, "method.num_sigmas", self.num_sigmas, "positive")
        if self.target not in TARGETS:
            raise InputError.unknown("method.target", self.target, TARGETS)
        if self.statistics not in STATISTICS:
            raise InputError.unknown("method.statistics", self.statistics, STATISTICS)

    @property
    def slots(self):
        """All of them, where `accept` needs no labeled predictions."""
        return ("guess", "accept", "supervised") if self.target == "uniform" else ("supervised",)

    def init(self, problem):
        """Returns the Gaussian, the average guess `[K]` and what it is aligned to `[K]`."""
        K = len(problem.labeled_counts)
        uniform = jnp.full(K, 1 / K, jnp.float32)
        gaussian = {"mean": jnp.asarray(1 / K, jnp.float32), "variance": jnp.ones((), jnp.float32)}
        return gaussian | {"prior": uniform, "target": uniform}

    def loss(self, state, forward, batch, ctx):
        """Guesses on the weak view, weighs the guesses, learns them on the strong view."""
        logits = self.guess(state, forward, batch, ctx)
        if self.target == "labeled":
            labeled = softmax(forward(batch.labeled.image).logits["base"])
            state = state | {"target": self.followed(state["target"], labeled, ctx)}
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        monitors = {"mask/base": targets.kept, "confidence/mean": state["mean"]}
        return Loss(terms, state, monitors)

    def followed(self, average, values, ctx):
        """The average after this batch's rows `values`."""
        return follow(average, batch_mean(values, ctx.devices), decay=self.decay)

    def guess(self, state, forward, batch, ctx):
        """Forwards all views together; logits of the weak one."""
        views = (batch.labeled.image, *batch.unlabeled.strong)
        weak = forward.jointly(batch.unlabeled.weak, *views)[0]
        return stop_gradient(weak.logits["base"])

    def accept(self, state, logits, batch, ctx):
        """Labels are those of the raw guesses, the mask is the weight of the aligned ones."""
        probs = softmax(logits)
        labels = jnp.argmax(probs, axis=1).astype(jnp.int32)
        prior = self.followed(state["prior"], probs, ctx)
        aligned = align_distribution(probs, state["target"], prior)
        observed = aligned if self.statistics == "aligned" else probs
        observed = ctx.devices.gather(jnp.max(observed, axis=1))
        deviations = jnp.square(observed - jnp.mean(observed))
        variance = jnp.sum(deviations) / max(len(observed) - 1, 1)  # one row has none
        state = state | {
            "prior": prior,
            "mean": follow(state["mean"], jnp.mean(observed), decay=self.decay),
            "variance": follow(state["variance"], variance, decay=self.decay),
        }
        mask = truncated_gaussian(
            jnp.max(aligned, axis=1), state["mean"], state["variance"], num_sigmas=self.num_sigmas
        )
        return Targets(one_hot(labels, logits.shape[1]), labels, mask), state

    def learn(self, state, forward, batch, targets, ctx):
        """Both terms; the weights do not sum to one."""
        x, y = batch.labeled.image, batch.labeled.label
        outputs = forward.jointly(x, *batch.unlabeled.strong)
        labeled, *strong = [out.logits["base"] for out in outputs]
        consistency = [targets.mask * soft_cross_entropy(s, targets.probs) for s in strong]
        return {
            "supervised": Term(cross_entropy(labeled, y)),
            "consistency": Term(jnp.stack(consistency), self.unlabeled_weight),
        }

    def predict(self, state, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = SoftMatch
EXAMPLES = (SoftMatch(), SoftMatch(decay=0.5, target="labeled", statistics="aligned"))
