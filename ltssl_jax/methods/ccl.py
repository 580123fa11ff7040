"""Continuous Contrastive Learning (CCL).

Zhou, Fang, Zhou, Wei, Wan, Zhang: "Continuous Contrastive Learning for Long-Tailed Semi-Supervised
Recognition", NeurIPS 2024, arXiv:2410.06109. Follows the authors' released code, zhouzihao11/CCL at
commit 0410cb1 (`train.py`, `loss/semiConLoss.py`); steps of it are our golden test.

Two classifiers learn what both guess together. Class densities contrast projections, without hard
labels: with *reliable* guesses, of low energy, and with *smoothed* ones, spread among neighbours.

Decisions where paper and code part, all as in the code:
- Unlabeled terms weigh max(1.5, mu); the energy threshold is -8.75 on every data set.
- The entropy of the mean of two smoothed guesses is minimized, with gradient into both factors.

Differs from the official code:
- The prior is that of the exact counts; theirs counts one shuffled pass that drops a last batch.
- A continued run keeps its priors and counts; theirs restarts the prior of the pool.
- The gains of the projections' batch norms are not decayed.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import logsumexp, one_hot, softmax

from ltssl_jax.core import Head, InputError, Kept, Loss, Needs, Term
from ltssl_jax.losses.consistency import pseudo_label, sharpen
from ltssl_jax.losses.contrastive import contrast_with_others, smoothed_contrast, smoothed_guesses
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.memory.averages import follow


@dataclasses.dataclass(frozen=True)
class CCL:
    """Reliable and smoothed guesses of two classifiers, contrasted by class densities.

    Attributes:
      tau: power of the priors.
      threshold, energy_threshold: confidence from, and energy up to, which a guess counts.
      lambda1: share of the classifiers; the rest is that of the reliable contrast.
      lambda2: weight of the smoothed contrast.
      alpha, beta: weight of the old value in the priors of the pool and of all images.
      warmup_epochs, update_every: priors move in the epochs after this one, if there are any, every
        so many steps; 0: at the end of an epoch.
    """

    tau: float = 2.0
    threshold: float = 0.95
    energy_threshold: float = -8.75
    lambda1: float = 0.7
    lambda2: float = 1.0
    alpha: float = 0.5
    beta: float = 0.5
    warmup_epochs: int = 5
    update_every: int = 0

    _projections = tuple(Head(name, 256, "normalized_mlp") for name in ("projector", "centers"))
    needs = Needs((Head("base"), Head("balanced"), *_projections), strong=2, contrastive=2)

    def __post_init__(self):
        for field in ("threshold", "lambda1", "alpha", "beta"):
            value = getattr(self, field)
            InputError.check(0 <= value <= 1, f"method.{field}", value, "between 0 and 1")

    def init(self, problem):
        """Returns priors and counts, of the pool and of all, `[2, K]`, and what is labeled."""
        every, epoch = self.update_every, problem.steps_per_epoch
        InputError.check(0 <= every <= epoch, "method.update_every", every, f"0 to {epoch}")
        pi, known = jnp.exp(log_prior(problem.labeled_counts)), problem.is_labeled
        known = jnp.zeros(problem.num_unlabeled, bool) if known is None else jnp.asarray(known)
        priors = jnp.stack([jnp.full_like(pi, 1 / pi.size), pi])
        return {"pi": pi, "priors": priors, "counts": jnp.ones_like(priors), "is_labeled": known}

    def loss(self, state, forward, batch, ctx):
        """Forwards all views in one pass, and the weights of `balanced` as centers of classes."""
        x, u = batch.labeled, batch.unlabeled
        outputs = forward.jointly(x.image, u.weak, *u.strong, *x.contrastive)
        (labeled, weak, *others), mu = [o.logits for o in outputs], u.index.size / x.label.size
        fused = stop_gradient(self.fused(state, weak, mu))
        probs = softmax(fused)
        labels, mask = pseudo_label(probs, self.threshold)
        reliable = (-logsumexp(fused, axis=-1) <= self.energy_threshold).astype(jnp.float32)
        terms = self.classification(state, labeled, others[:2], x.label, labels, mask, mu)
        centers = forward.head("centers", forward.kernel("balanced").T)
        projections = [z["projector"] for z in (weak, *others)]
        guesses = sharpen(probs, 1 / 4) * reliable[:, None]
        terms |= self.contrast(centers, projections, x.label, guesses, ctx.devices)
        weights = jnp.stack([reliable * ~state["is_labeled"][u.index], mask])
        monitors = {"mask/confidence": Kept(labels, mask), "mask/energy": reliable}
        return Loss(terms, state | self.counted(state, probs, weights, ctx), monitors)

    def fused(self, state, weak, mu):
        """Mean of both heads; `base` first exchanges the prior it learns from for the pool's."""
        pool, everything = state["priors"]
        learned = (state["pi"] + mu * everything) / (1 + mu)
        shift = self._log(pool, 1 + self.tau / 2) - self._log(learned, 1)
        return (weak["base"] + shift[None, :] + weak["balanced"]) / 2

    def classification(self, state, labeled, strong, y, labels, mask, mu):
        """Two terms for each head; `balanced` adds the log prior of the images it is shown."""
        log_pi, log_all = (self._log(p, self.tau) for p in (state["pi"], state["priors"][1]))
        cross_entropy, terms = logit_adjusted_cross_entropy, {}
        for head, tau in (("base", 0.0), ("balanced", 1.0)):
            supervised = cross_entropy(labeled[head], y, log_pi, tau=tau)
            losses = [mask * cross_entropy(z[head], labels, log_all, tau=tau) for z in strong]
            terms[f"supervised_{head}"] = Term(supervised, self.lambda1)
            terms[f"consistency_{head}"] = Term(jnp.stack(losses), self.lambda1 * max(1.5, mu))
        return terms

    def contrast(self, centers, projections, y, guesses, devices):
        """Both contrastive terms, of the rows of all devices and the same on each of them."""
        weak, *strong, x0, x1 = devices.gather(projections, differentiable=True)
        num, ones = len(centers), jnp.ones((len(centers), len(centers)))
        y, guesses = devices.gather((one_hot(y, num), guesses))
        keys, memberships = jnp.concatenate([centers, x0, x1]), jnp.concatenate([ones, y, y])
        first, second = (smoothed_guesses(rows, keys, memberships) for rows in strong)
        target = stop_gradient(sharpen(smoothed_guesses(weak, keys, memberships), 1 / 4))
        # Centers are keys alone. Memberships of a row sum to 1, of a rejected one to 0.
        targets = jnp.concatenate([memberships, guesses, guesses])
        reliable = contrast_with_others(jnp.concatenate([keys, *strong]), targets)[num:]
        return {
            "smoothed": Term(smoothed_contrast(first, second, target), self.lambda2),
            "reliable": Term(reliable, 1 - self.lambda1, jnp.sum(targets[num:])),
        }

    def counted(self, state, probs, weights, ctx):
        """Counts by both weights `[2, U]`; priors follow the counts, which start anew at ones."""
        found = jnp.matmul(weights, probs, precision="highest")
        counts = state["counts"] + jnp.sum(ctx.devices.gather(found[None]), axis=0)
        shares = counts / jnp.sum(counts, axis=1, keepdims=True)
        moved = follow(state["priors"], shares, decay=jnp.asarray([[self.alpha], [self.beta]]))
        position, length = ctx.step % ctx.steps_per_epoch + 1, ctx.steps_per_epoch
        is_due = (position % (self.update_every or length) == 0) & (ctx.epoch > self.warmup_epochs)
        counts = jnp.where(is_due | (position == length), 1.0, counts)
        return {"priors": jnp.where(is_due, moved, state["priors"]), "counts": counts}

    def _log(self, prior, power):
        return jnp.log(prior**power + 1e-12)

    def predict(self, state, network, images, epoch):
        """Logits of `balanced`."""
        return network(images).logits["balanced"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head balanced"


METHOD = CCL
EXAMPLES = (CCL(), CCL(1.0, 0.2, energy_threshold=-1.0, warmup_epochs=-1, update_every=1))
