"""Distribution-Aware Semantics-Oriented pseudo-labels (DASO), around a base that labels the pool.

Oh, Kim, Kweon: "DASO: Distribution-Aware Semantics-Oriented Pseudo-label for Imbalanced
Semi-Supervised Learning", CVPR 2022, arXiv:2106.05682. Follows the authors' code, ytaek-oh/daso at
3541a6c; steps of it are our golden test.

What the classifier says of a weak view (linear) is biased to frequent classes, what the nearest
class prototype says of its features (semantic) to rare ones. They are blended, with the more of the
semantic one the more often the class was guessed of late; strong features learn the semantic one.

Decisions where paper and code part, or a port does:
- The mask is of the blended distribution; prototypes hold the labeled rows of this very step.
- Blending and alignment begin in one step; prototypes and counts go on from the first.
- All rows are counted, without a threshold; a window's counts replace the last ones.

Differs from the official code:
- Their EMA network sees the labeled batch in training mode, which moves the statistics that it is
  tested with; ours normalizes by the batch, too, but those stay averages of the student's.
- All strong views of a base are aligned (theirs has one); queues and counts are saved. What a base
  like MixMatch sharpens is the blend.
- The constant blend (an ablation) and the blended targets of ABC's head are left out.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import InputError, Loss, Method, Needs, Term, check_slots
from ltssl_jax.losses.classification import soft_cross_entropy
from ltssl_jax.losses.directions import cosines
from ltssl_jax.losses.features import blend
from ltssl_jax.memory import averages, queues


@dataclasses.dataclass(frozen=True)
class DASO:
    """Pseudo-labels of a base, blended with those of the nearest prototype.

    Attributes:
      base: method whose guesses are changed; FixMatch with `labeled_tau=1` for LA with DASO.
      dist_temperature: the smaller, the more the blend is for frequent classes alone; 1.5 on
        CIFAR-10 with equal imbalance of labels and pool, 0.3 elsewhere.
      proto_temperature: of the softmax over cosines.
      align_weight: weight of the alignment of strong features.
      warmup_steps: of the base alone, as are all steps of a shorter run.
      update_every: steps of whose pseudo-labels the frequencies are those.
      queue_length: labeled rows per class whose mean is the prototype.
    """

    base: Method = dataclasses.field(default_factory=lambda: dict(name="fixmatch"))
    dist_temperature: float = 1.5
    proto_temperature: float = 0.05
    align_weight: float = 1.0
    warmup_steps: int = 5000
    update_every: int = 100
    queue_length: int = 256

    def __post_init__(self):
        check_slots("daso", self.base, "guess")
        check = InputError.check
        for field in ("dist_temperature", "proto_temperature", "update_every", "queue_length"):
            value = getattr(self, field)
            check(value > 0, f"method.{field}", value, "positive")
        is_counted, field = self.warmup_steps >= self.update_every, "method.warmup_steps"
        check(is_counted, field, self.warmup_steps, f"at least update_every, {self.update_every}")

    @property
    def needs(self):
        """What the base needs, and at least one strong view."""
        return self.base.needs.joined(Needs(heads=()))

    def init(self, problem):
        """No rows and no counts yet, beside the base's state."""
        num_classes = len(problem.labeled_counts)
        return {
            "base": self.base.init(problem),
            "queues": queues.empty(num_classes, self.queue_length, problem.num_features),
            "window": jnp.zeros(num_classes, jnp.float32),
            "histogram": jnp.zeros(num_classes, jnp.float32),
        }

    def loss(self, state, forward, batch, ctx):
        """The base's guess, blended with that of the prototypes; the base goes on with it."""
        queue, prototypes = self.remembered(state["queues"], forward, batch.labeled, ctx)
        linear = self.base.guess(state["base"], forward, batch, ctx)
        semantic, alignment = self.compared(prototypes, forward, batch.unlabeled)
        is_on = ctx.step >= self.warmup_steps
        strength = is_on * self.strength(state["histogram"])[jnp.argmax(linear, axis=1)]
        logits = jnp.where(is_on, blend(linear, semantic, strength), linear)
        targets, base = self.base.accept(state["base"], logits, batch, ctx)
        terms = self.base.learn(base, forward, batch, targets, ctx)
        terms |= {"alignment": Term(alignment, self.align_weight * is_on)}
        next_state = dict(base=base, queues=queue, **self.counted(state, targets.labels, ctx))
        return Loss(terms, next_state, {"mask/base": targets.kept, "blend": strength})

    def remembered(self, queue, forward, labeled, ctx):
        """Queues with the EMA network's features of this step's labeled rows, and prototypes."""
        seen = forward.teacher(labeled.image, by_batch=True).features
        queue = queues.pushed(queue, labeled.label, seen, ctx.devices)
        return queue, queues.class_means(queue)

    def compared(self, prototypes, forward, unlabeled):
        """Semantic pseudo-labels of the weak view, and the losses of all strong ones on them."""

        def similarity(images):
            return cosines(forward(images).features, prototypes) / self.proto_temperature

        semantic = stop_gradient(softmax(similarity(unlabeled.weak)))
        losses = [soft_cross_entropy(similarity(view), semantic) for view in unlabeled.strong]
        return semantic, jnp.stack(losses)

    def strength(self, histogram):
        """Share `[K]` of the semantic answer: 1 for the class most often guessed of late."""
        share = histogram / jnp.maximum(jnp.max(histogram), 1.0)
        return share ** (1.0 / self.dist_temperature)

    def counted(self, state, labels, ctx):
        """Adds to the counts of this window; at its end they are the new histogram."""
        every = jnp.ones(len(labels), jnp.float32)
        counts = averages.histogram(labels, len(state["window"]), ctx.devices, every)
        window, is_over = state["window"] + counts, (ctx.step + 1) % self.update_every == 0
        histogram = jnp.where(is_over, window, state["histogram"])
        return {"window": jnp.where(is_over, 0.0, window), "histogram": histogram}

    def predict(self, state, network, images, epoch):
        """As the base does."""
        return self.base.predict(state["base"], network, images, epoch)

    def scored_by(self, epoch):
        """As the base says."""
        return self.base.scored_by(epoch)


METHOD = DASO
EXAMPLES = (
    {},
    dict(base=dict(name="fixmatch", threshold=0.2), warmup_steps=1, update_every=1, queue_length=3),
    dict(base=dict(name="mixmatch"), warmup_steps=1, update_every=1, queue_length=3),
)
