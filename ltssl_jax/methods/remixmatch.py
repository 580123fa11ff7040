"""ReMixMatch.

Berthelot, Carlini, Cubuk, Kurakin, Sohn, Zhang, Raffel: "ReMixMatch: Semi-Supervised Learning with
Distribution Matching and Augmentation Anchoring", ICLR 2020, arXiv:1911.09785. Follows the authors'
released code, google-research/remixmatch at commit f7061eb; steps of it are our golden test.

MixMatch whose guess is made on the weak view alone, aligned with the classes of the labeled images,
and is the target of strong views, too. Beside the mixtures, a strong view is learned as it is, and
rotated: a second head recognizes the quarter turns.

Decisions where paper, code and expectation part:
- The alignment is to the exact labeled prior, as in DARP, ABC and CDMAD. The authors follow the
  labels of the batches (`alignment="followed"`); CDMAD aligns to nothing (`"none"`) where labeled
  and unlabeled classes are known to differ.
- The average of the last `window` guesses, uniform ones before the first, is the one before this
  step; the long-tailed codes count the step's own guess, too.
- Two strong views, as in the long-tailed codes; eight in the paper. These codes let the weights
  rise over the whole run: set `ramp_steps` to `train.steps`. CDMAD does not sharpen.
- Rows are mixed: a wrapper can change the guess, but not which rows count (see `mixmatch`).

Differs from the official code:
- Each image has a random rotation, as in the paper; theirs is one for each quarter of a batch.
- No CTAugment: strong views are those of the recipe, and labeled images have their weak view.
- Batch norm: mixtures share one pass instead of interleaving (see `mixmatch`); every pass moves the
  running statistics, in the order weak, strong, rotated, mixed. Theirs: the last mixed block alone.
"""

import dataclasses

import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import one_hot, softmax

from ltssl_jax.core import Head, InputError, Loss, Needs, Targets, Term
from ltssl_jax.losses.classification import cross_entropy, soft_cross_entropy
from ltssl_jax.losses.consistency import align_distribution, sharpen
from ltssl_jax.losses.margins import log_prior
from ltssl_jax.losses.mixing import Block, mixed
from ltssl_jax.losses.rotation import draw_quarter_turns, turned
from ltssl_jax.losses.schedules import linear_ramp
from ltssl_jax.memory.averages import batch_mean, empty_window, follow, slid

ALIGNMENTS = ("labeled", "followed", "none")


@dataclasses.dataclass(frozen=True)
class ReMixMatch:
    """Aligned and sharpened guesses for weak and strong views, mixed with everything else.

    Attributes:
      temperature: sharpens the targets; 1 leaves them as they are.
      concentration: of the Beta distribution of the shares in a mixture.
      unlabeled_weight, unmixed_weight: of mixtures and of the strong view, after the ramp.
      rotation_weight: of the quarter turns.
      ramp_steps: over so many these two weights rise from 0; 0: from the beginning.
      num_strong: strong views per unlabeled image.
      alignment: of the guesses to the `"labeled"` prior, the labels `"followed"`, or `"none"`.
      window: steps over which guesses are averaged.
    """

    temperature: float = 0.5
    concentration: float = 0.75
    unlabeled_weight: float = 1.5
    unmixed_weight: float = 0.5
    rotation_weight: float = 0.5
    ramp_steps: int = 16_384
    num_strong: int = 2
    alignment: str = "labeled"
    window: int = 128

    slots = ("guess",)

    def __post_init__(self):
        for field in ("temperature", "concentration", "num_strong", "window"):
            value = getattr(self, field)
            InputError.check(value > 0, f"method.{field}", value, "positive")
        InputError.check(self.ramp_steps >= 0, "method.ramp_steps", self.ramp_steps, "at least 0")
        if self.alignment not in ALIGNMENTS:
            raise InputError.unknown("method.alignment", self.alignment, ALIGNMENTS)

    @property
    def needs(self):
        """A head for classes, one for quarter turns; `num_strong` strong views."""
        return Needs(heads=(Head("base"), Head("rotation", 4)), strong=self.num_strong)

    def init(self, problem):
        """Returns the window of guesses and the prior `[K]` with which they are aligned."""
        labeled = jnp.exp(log_prior(problem.labeled_counts))
        uniform = jnp.full_like(labeled, 1.0 / len(labeled))
        prior = labeled if self.alignment == "labeled" else uniform
        return {"guesses": empty_window(self.window, uniform), "prior": prior}

    def loss(self, state, forward, batch, ctx):
        """Guesses on the weak view, aligns and sharpens, mixes and learns."""
        logits = self.guess(state, forward, batch, ctx)
        targets, state = self.accept(state, logits, batch, ctx)
        terms = self.learn(state, forward, batch, targets, ctx)
        return Loss(terms, state, {"confidence/base": jnp.max(targets.probs, axis=-1)})

    def guess(self, state, forward, batch, ctx):
        """Logits of the weak view."""
        return stop_gradient(forward(batch.unlabeled.weak).logits["base"])

    def accept(self, state, logits, batch, ctx):
        """Targets are aligned by what was known before this step, and sharpened."""
        probs, prior, window = softmax(logits), state["prior"], state["guesses"]
        guessed = jnp.mean(window["values"], axis=0)
        aligned = align_distribution(probs, prior, guessed) if self.alignment != "none" else probs
        if self.alignment == "followed":
            seen = batch_mean(one_hot(batch.labeled.label, len(prior)), ctx.devices)
            prior = follow(prior, seen, decay=0.999)
        state = {"guesses": slid(window, batch_mean(probs, ctx.devices)), "prior": prior}
        targets = sharpen(aligned, self.temperature)
        labels = jnp.argmax(targets, axis=-1).astype(jnp.int32)
        return Targets(targets, labels, jnp.ones(len(labels), jnp.float32)), state

    def learn(self, state, forward, batch, targets, ctx):
        """A strong view as it is, the same one turned, and all mixtures in one pass."""
        x, u, q = batch.labeled, batch.unlabeled, targets.probs
        turns = draw_quarter_turns(ctx.rng.per_example("rotation", u.index))
        strong, rotated = forward.apart(u.strong[0], turned(u.strong[0], turns))
        labeled = Block(x.image, one_hot(x.label, q.shape[1]), x.index)
        unlabeled = [Block(view, q, u.index) for view in (u.weak, *u.strong)]
        blocks = mixed([labeled, *unlabeled], ctx, concentration=self.concentration)
        outputs = forward.jointly(*[block.images for block in blocks])
        mixtures = zip(outputs, blocks, strict=True)
        losses = [soft_cross_entropy(out.logits["base"], block.targets) for out, block in mixtures]
        ramp = linear_ramp(ctx.step, self.ramp_steps)
        rotation = cross_entropy(rotated.logits["rotation"], turns)
        return {
            "supervised": Term(losses[0]),
            "consistency": Term(jnp.stack(losses[1:]), self.unlabeled_weight * ramp),
            "unmixed": Term(
                soft_cross_entropy(strong.logits["base"], q), self.unmixed_weight * ramp
            ),
            "rotation": Term(rotation, self.rotation_weight),
        }

    def predict(self, state, network, images, epoch):
        """Logits of the head for classes."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = ReMixMatch
EXAMPLES = (ReMixMatch(), ReMixMatch(ramp_steps=2, num_strong=1, alignment="followed", window=2))
