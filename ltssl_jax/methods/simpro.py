"""SimPro.

Du, Han, Huang: "SimPro: A Simple Probabilistic Framework Towards Realistic Long-Tailed
Semi-Supervised Learning", ICML 2024, arXiv:2402.13505. Follows the authors' released code,
LeapLabTHU/SimPro at commit aa2425d (`SimPro/train.py`); steps of it are our golden test.

The network answers as if all classes were equally frequent; how frequent they are is counted.
Expectation: a guess is its answer times the prior of the pool. Maximization: its answer times the
prior of all images seen fits labels and confident guesses; priors follow the counts of each epoch.

Decisions where paper, code and expectation part:
- The paper weighs the labeled loss by mu N / M (N labeled images, M of the pool). The code takes
  the lengths of loaders that drop the last partial batch, floor(N / B) / floor(M / mu B); as here.
- Priors stand still within an epoch. That of the pool follows S / (sum S + 1) and is not normalized
  again: an epoch that accepts nothing shrinks it by a tenth, which the guesses hardly notice.

Differs from the official code:
- A run that is continued goes on with its priors; theirs start anew.
- Fewer images than one batch count as one batch; theirs divides by zero.
"""

import dataclasses

import jax.numpy as jnp
from jax import tree
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.memory.averages import follow, histogram


@dataclasses.dataclass(frozen=True)
class SimPro:
    """Soft guesses by the counted prior of the pool, fitted by that of all images.

    Attributes:
      tau: power of the priors; 1 on CIFAR-100 and ImageNet-127.
      threshold: confidence from which a guess counts; 0.2 on CIFAR-100 and ImageNet-127.
      prior_decay: weight of a prior's old value at the end of an epoch.
    """

    tau: float = 2.0
    threshold: float = 0.95
    prior_decay: float = 0.9

    slots = ("accept",)  # its guesses are the expectation: changed, they would be no SimPro
    needs = Needs(strong=2, labeled_strong=1)

    def __post_init__(self):
        check = InputError.check
        check(self.tau >= 0, "method.tau", self.tau, "at least 0")
        check(0 <= self.threshold <= 1, "method.threshold", self.threshold, "between 0 and 1")
        check(0 <= self.prior_decay <= 1, "method.prior_decay", self.prior_decay, "from 0 to 1")

    def init(self, problem):
        """Returns both priors and this epoch's counts, `[K]`, and how many images there are."""
        labeled = jnp.exp(log_prior(problem.labeled_counts))
        zeros = jnp.zeros_like(labeled)
        return {
            "prior_unlabeled": jnp.full_like(labeled, 1 / labeled.size),
            "prior_all": labeled,
            "count_unlabeled": zeros,
            "count_labeled": zeros,
            "num_unlabeled": jnp.int32(problem.num_unlabeled),
            "num_labeled": jnp.sum(jnp.asarray(problem.labeled_counts, jnp.int32)),
        }

    def loss(self, state, forward, batch, ctx):
        """Guesses by the prior of the pool, learns by that of all images."""
        logits = self.guess(state, forward, batch, ctx)
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        pi = state["prior_unlabeled"][None, :]
        monitors = {"mask/base": targets.kept, "prior/entropy": entropy(pi / jnp.sum(pi))}
        return Loss(terms, state, monitors)

    def guess(self, state, forward, batch, ctx):
        """Logits of the weak view, plus the log prior of the pool."""
        weak = self._logits(forward, batch)[2]
        prior = self.in_this_epoch(state, ctx)["prior_unlabeled"]
        return stop_gradient(weak) + self._log(prior)[None, :]

    def accept(self, state, logits, batch, ctx):
        """Targets are soft; the confident ones are counted, and so are the labels."""
        probs, y = softmax(logits), batch.labeled.label
        labels, mask = pseudo_label(probs, self.threshold)
        state = self.in_this_epoch(state, ctx)
        accepted = jnp.sum(ctx.devices.gather(probs * mask[:, None]), axis=0)
        seen = histogram(y, logits.shape[1], ctx.devices, jnp.ones(y.shape))
        return Targets(probs, labels, mask), state | {
            "count_unlabeled": state["count_unlabeled"] + accepted,
            "count_labeled": state["count_labeled"] + seen,
        }

    def learn(self, state, forward, batch, targets, ctx):
        """Both terms, with the log prior of all images added to every logit."""
        *labeled, _, strong0, strong1 = self._logits(forward, batch)
        log_phi, y = self._log(state["prior_all"]), batch.labeled.label
        supervised = [logit_adjusted_cross_entropy(z, y, log_phi) for z in labeled]
        consistency = [
            targets.mask * soft_cross_entropy(z + log_phi[None, :], targets.probs)
            for z in (strong0, strong1)
        ]
        # Batches in one pass over the images, without the last partial one.
        labeled_batches, unlabeled_batches = (
            jnp.maximum(state[number] // len(ctx.devices.gather(rows)), 1)
            for number, rows in (("num_labeled", y), ("num_unlabeled", targets.mask))
        )
        return {
            "supervised": Term(jnp.stack(supervised), labeled_batches / unlabeled_batches),
            "consistency": Term(jnp.stack(consistency)),
        }

    def in_this_epoch(self, state, ctx):
        """Returns the state; at an epoch's first step the priors follow the last one's counts."""
        accepted, seen = state["count_unlabeled"], state["count_unlabeled"] + state["count_labeled"]
        of_pool = accepted / (jnp.sum(accepted) + 1.0)
        of_all = seen / jnp.maximum(jnp.sum(seen), 1.0)
        opened = state | {
            "prior_unlabeled": follow(state["prior_unlabeled"], of_pool, decay=self.prior_decay),
            "prior_all": follow(state["prior_all"], of_all, decay=self.prior_decay),
            "count_unlabeled": jnp.zeros_like(accepted),
            "count_labeled": jnp.zeros_like(seen),
        }
        is_first = (ctx.step % ctx.steps_per_epoch == 0) & (ctx.step > 0)
        return tree.map(lambda new, old: jnp.where(is_first, new, old), opened, state)

    def _log(self, prior):
        return jnp.log(prior**self.tau + 1e-12)

    def _logits(self, forward, batch):
        x, u = batch.labeled, batch.unlabeled
        outputs = forward.jointly(x.image, *x.strong, u.weak, *u.strong)
        return [output.logits["base"] for output in outputs]

    def predict(self, state, network, images, epoch):
        """Logits of the one head, which answers as if classes were equally frequent."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = SimPro
EXAMPLES = (SimPro(), SimPro(tau=1.0, threshold=0.2, prior_decay=0.5))
