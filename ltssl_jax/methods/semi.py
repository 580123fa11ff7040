"""SeMi: mining hard examples.

Wang et al.: "SeMi: When Imbalanced Semi-Supervised Learning Meets Mining Hard Examples", ACM MM
2025, arXiv:2501.06004. Follows the authors' pywin/SeMi, commit 32e3a71, but for its faults.
Two heads, `base` (h below) and `balanced` (b), which is tested.

Decisions where paper, code and expectation part:
- `prototype_weight`, `feature_temperature`, `decay_every`: the README's; the code has 0, 0.1, 50.
- Prototypes speak in proportion to the pseudo-labels that their class got; empty slots are zeros.
- A row also counts if a second guess is confident (h uncorrected, or b), even of another class.

Differs from the official code; if `as_released`, in the last two points alone:
- Features belong to their rows. Theirs are cut from the interleaved batch, so that views mix: here
  from that of all devices, and for any `mu` in the same order; theirs runs with `mu = 1` alone.
- A bank loses its least confident entry; theirs the features of the most confident one.
- The guess that is mixed with the prototypes' is normalized again. Their weight grows with epoch /
  epochs; theirs with epoch / steps of an epoch, as many in its protocol.
- The prior comes from the exact counts, and `tau log pi` stands for `log(pi ** tau + 1e-12)`.
- Shares stay 1 while there is no pseudo-label; theirs become NaN. All memory is saved with a run.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import Head, InputError, Kept, Loss, Needs, Term
from ltssl_jax.losses import features as by_features
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import pseudo_label_by_either
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.memory import banks
from ltssl_jax.memory.averages import batch_mean, follow, histogram


@dataclasses.dataclass(frozen=True)
class SeMi:
    """Prototypes correct pseudo-labels, hard examples weigh more, rejected ones teach features.

    Attributes:
      pseudo_label_tau, labeled_tau: prior correction of the labels of `balanced`, pseudo and given.
      threshold: confidence from which a pseudo-label counts.
      prototype_weight, prototype_temperature: of their guess; the weight is reached at the end.
      hardness: share of an accepted image's weight that grows with its entropy.
      feature_weight, feature_temperature: of the term on rejected images.
      bank_size, bank_decay, decay_every: entries of a class; how, and when, they lose confidence.
      warmup_epochs: all but the bank begins after that epoch (from 0): never in a shorter run.
      as_released: the released script's step, faults included; its values (above) are to be set.
    """

    pseudo_label_tau: float = 2.0
    labeled_tau: float = 2.0
    threshold: float = 0.95
    prototype_weight: float = 0.4
    prototype_temperature: float = 0.1
    hardness: float = 0.75
    feature_weight: float = 0.15
    feature_temperature: float = 0.09
    bank_size: int = 128
    bank_decay: float = 0.99
    decay_every: int = 100
    warmup_epochs: int = 5
    as_released: bool = False

    needs = Needs(heads=(Head("base"), Head("balanced")), strong=2, total_steps=True)

    def __post_init__(self):
        for field in ("threshold", "prototype_weight", "hardness", "bank_decay"):
            value = getattr(self, field)
            InputError.check(0 <= value <= 1, f"method.{field}", value, "between 0 and 1")
        for field in ("prototype_temperature", "feature_temperature", "bank_size", "decay_every"):
            value = getattr(self, field)
            InputError.check(value > 0, f"method.{field}", value, "positive")

    def init(self, problem):
        """Returns log prior, bank, pseudo-labels of each class and their shares, and centre."""
        log_pi = log_prior(problem.labeled_counts)
        return {
            "log_prior": log_pi,
            "bank": banks.empty_bank(log_pi.size, self.bank_size, problem.num_features),
            "label_counts": jnp.zeros_like(log_pi),
            "share": jnp.ones_like(log_pi),
            "center": jnp.zeros(problem.num_features, jnp.float32),
        }

    def loss(self, state, forward, batch, ctx):
        """One pass for all views; what is remembered of it serves the next step."""
        h, b, y, log_pi = "base", "balanced", batch.labeled.label, state["log_prior"]
        out = forward.jointly(batch.labeled.image, batch.unlabeled.weak, *batch.unlabeled.strong)
        labeled, weak, *strong = by_features.mixed_up(out, ctx.devices) if self.as_released else out
        weak, on = stop_gradient(weak), jnp.float32(ctx.epoch > self.warmup_epochs)
        guess = softmax(weak.logits[h])
        probs = self.corrected(state, guess, stop_gradient(strong[0].features), on * ctx.epoch, ctx)
        labels_h, mask_h = pseudo_label_by_either(probs, guess, self.threshold)
        guess_b = softmax(weak.logits[h] - self.pseudo_label_tau * log_pi[None, :])
        labels_b, mask_b = pseudo_label_by_either(guess_b, softmax(weak.logits[b]), self.threshold)
        weight_h = mask_h * by_features.hard_example_weights(probs, share=on * self.hardness)
        t = self.feature_temperature
        target = by_features.centered_targets(weak.features, state["center"], temperature=t / 5)

        consistency_h = [weight_h * cross_entropy(s.logits[h], labels_h) for s in strong]
        consistency_b = [mask_b * cross_entropy(s.logits[b], labels_b) for s in strong]
        taught = [(1 - mask_h) * soft_cross_entropy(s.features / t, target) for s in strong]
        balanced = logit_adjusted_cross_entropy(labeled.logits[b], y, log_pi, tau=self.labeled_tau)
        terms = {
            "supervised": Term(cross_entropy(labeled.logits[h], y)),
            "consistency": Term(jnp.stack(consistency_h)),
            "supervised_balanced": Term(balanced),
            "consistency_balanced": Term(jnp.stack(consistency_b)),
            "features": Term(jnp.stack(taught), on * self.feature_weight),
        }
        center = follow(state["center"], batch_mean(target, ctx.devices), decay=1 - 0.1 * on)
        state = self.remembering(state | {"center": center}, strong, probs, labels_h, mask_h, ctx)
        monitors = {"mask/base": Kept(labels_h, mask_h), "mask/balanced": Kept(labels_b, mask_b)}
        return Loss(terms, state, monitors)

    def corrected(self, state, guess, features, epoch, ctx):
        """Mixes the guess `[U, K]` with that of the prototypes, each class in its proportion."""
        prototypes, t = banks.prototypes(state["bank"]), self.prototype_temperature
        nearest = by_features.prototype_probs(features, prototypes, temperature=t)
        length = ctx.steps_per_epoch if self.as_released else ctx.total_steps / ctx.steps_per_epoch
        weights = self.prototype_weight * epoch / length * state["share"]
        return by_features.mix_by_class(guess, nearest, weights, is_normalized=not self.as_released)

    def remembering(self, state, strong, probs, labels, mask, ctx):
        """Puts accepted features into the bank, which ages; counts labels for the shares."""
        bank, confidence = state["bank"], jnp.max(probs, axis=1)
        push = banks.pushed_as_released if self.as_released else banks.pushed
        for view in strong:  # one by one: on any devices all rows of a view come before the next
            bank = push(bank, view.features, labels, confidence, mask, ctx.devices)
        step = ctx.step % ctx.steps_per_epoch + 1
        bank = banks.aged(bank, step % self.decay_every == 0, decay=self.bank_decay)
        counts = state["label_counts"] + histogram(labels, probs.shape[1], ctx.devices, mask)
        is_due = (step == ctx.steps_per_epoch) & jnp.any(counts > 0)
        share = jnp.where(is_due, counts / jnp.maximum(jnp.sum(counts), 1.0), state["share"])
        return state | {"bank": bank, "label_counts": counts, "share": share}

    def predict(self, state, network, images, epoch):
        """Logits of `balanced`."""
        return network(images).logits["balanced"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head balanced"


METHOD = SeMi
EARLY = SeMi(threshold=0.3, bank_size=4, decay_every=2, warmup_epochs=0)
EXAMPLES = SeMi(bank_size=3), EARLY, dataclasses.replace(EARLY, as_released=True)
