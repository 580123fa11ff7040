"""Distribution aligning refinery of pseudo-labels (DARP).

Kim, Hur, Park, Yang, Hwang, Shin: "Distribution Aligning Refinery of Pseudo-label for Imbalanced
Semi-supervised Learning", NeurIPS 2020, arXiv:2007.08844. Follows the authors' released code,
bbuing9/DARP at commit 64a94b4 (`train_fix`); steps of it are our golden test.

The base's guesses on all images of the pool are stored. Every few steps they are changed as little
as possible so that their class sums are those of the pool's prior; the changed guesses, not the
newest ones, are then accepted and learned.

The pool's prior is that of the labels unless `pool_prior` says otherwise. An estimate of it is in
the report of `python -m ltssl_jax.inspect`; the authors estimate it by a confusion matrix on held
out labels, ten a class, which the rarest classes often do not have.

Decisions where paper, code and expectation part:
- Label and confidence both come from the changed guess. (A port takes the confidence of the
  unchanged one, and learns uniform rows as class 0 until its first solution.)
- The target is prior times size of the pool, also where labeled images are in the pool.
- Of a base that sharpens or aligns what it accepts, without a slot there (MixMatch, ReMixMatch),
  the finished targets are stored and refined.
- The code's default is not to refine at all, `--warm 500` of 500 epochs; its commands say 200, and
  for CIFAR-100 and STL-10 to refine every 100 steps, by 20 turns.

Differs from the official code:
- They solve within a step, after its guesses are stored; here it is done between steps. The guesses
  of one step in `refine_every` enter one solution later.
- Their root finder, secants in float64, stops within 0.1 (0.3) of a root or fails after 30 steps;
  ours are Newton steps on logarithms in float32. Solutions differ by less than 0.001.
- The entropy of a row is exact; theirs takes log(p + 1e-6) and turns negative for the surest rows.
- They count steps anew in each epoch, we go on counting; that is the same where `refine_every`
  divides the epoch.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.nn import softmax

from ltssl_jax.core import InputError, Loss, check_slots
from ltssl_jax.losses.refine import denoise, match_class_sums
from ltssl_jax.memory import pool as memory


@dataclasses.dataclass(frozen=True)
class DARP:
    """A base method whose guesses on the whole pool are made to agree with the pool's prior.

    Attributes:
      alpha: of each class, so many times the wanted sum of guesses are kept; the rest is noise.
      num_iterations: turns of the solver.
      refine_every: steps from one solution to the next.
      warmup_epochs: refined guesses are learned in the epochs after this one (from 0), if any.
      pool_prior: frequencies or counts of the classes in the pool; () for those of the labels.
      base: a method that labels the pool itself.
    """

    alpha: float = 2.0
    num_iterations: int = 10
    refine_every: int = 10
    warmup_epochs: int = 200
    pool_prior: tuple[float, ...] = ()
    base: Any = dataclasses.field(default_factory=lambda: dict(name="fixmatch", num_strong=2))

    def __post_init__(self):
        check, is_positive = InputError.check, all(value > 0 for value in self.pool_prior)
        check(self.alpha > 0, "method.alpha", self.alpha, "positive")
        check(self.num_iterations >= 1, "method.num_iterations", self.num_iterations, "at least 1")
        check(self.refine_every >= 1, "method.refine_every", self.refine_every, "at least 1")
        check(is_positive, "method.pool_prior", self.pool_prior, "positive for every class")
        check_slots("darp", self.base, "guess")

    @property
    def needs(self):
        """What the base needs."""
        return self.base.needs

    def init(self, problem):
        """Returns the base's state, the wanted prior, guesses `[N_u, K]` as made and as refined."""
        num_classes = len(problem.labeled_counts)
        given, wanted = self.pool_prior, f"() or one value for each of {num_classes} classes"
        InputError.check(len(given) in (0, num_classes), "method.pool_prior", given, wanted)
        counts = jnp.asarray(given or problem.labeled_counts, jnp.float32)
        counts = counts if given else jnp.maximum(counts, 1.0)
        uniform = jnp.full((problem.num_unlabeled, num_classes), 1 / num_classes, jnp.float32)
        return {
            "base": self.base.init(problem),
            "pool_prior": counts / jnp.sum(counts),
            "first_step": jnp.asarray(
                (self.warmup_epochs + 1) * problem.steps_per_epoch, jnp.int32
            ),
            "guessed": uniform,
            "log_refined": jnp.log(uniform),
            "is_refined": jnp.zeros((), bool),
        }

    def loss(self, state, forward, batch, ctx):
        """The base's loss, with refined guesses once there are any; remembers the new ones."""
        # The authors' passes: the weak view alone, then whatever the base forwards together.
        forward(batch.unlabeled.weak)
        logits, index = self.base.guess(state["base"], forward, batch, ctx), batch.unlabeled.index
        if is_accepted_first := "accept" not in self.base.slots:
            targets, of_base = self.base.accept(state["base"], logits, batch, ctx)
            logits = jnp.log(jnp.maximum(targets.probs, jnp.finfo(jnp.float32).tiny))

        guessed = memory.put(state["guessed"], index, softmax(logits), ctx.devices)
        refined = jnp.where(state["is_refined"], state["log_refined"][index], logits)
        if is_accepted_first:
            labels = jnp.argmax(refined, axis=-1).astype(jnp.int32)
            targets = targets._replace(probs=softmax(refined), labels=labels)
        else:
            targets, of_base = self.base.accept(state["base"], refined, batch, ctx)
        terms = self.base.learn(of_base, forward, batch, targets, ctx)
        is_changed = jnp.argmax(logits, axis=-1) != targets.labels
        monitors = {"mask/base": targets.kept, "changed/base": is_changed.astype(jnp.float32)}
        return Loss(terms, state | {"base": of_base, "guessed": guessed}, monitors)

    def refresh_every(self, problem):
        """After as many steps as the settings say."""
        return self.refine_every

    def refresh(self, state, step, pool):
        """Refines all guesses, if the warm-up is over."""
        return lax.cond(step >= state["first_step"], self.refined, lambda state: state, state)

    def refined(self, state):
        """Returns the state with its guesses refined."""
        target = len(state["guessed"]) * state["pool_prior"]
        kept = denoise(state["guessed"], target, alpha=self.alpha)
        log_refined = match_class_sums(kept, target, num_iterations=self.num_iterations)
        return state | {"log_refined": log_refined, "is_refined": jnp.ones((), bool)}

    def predict(self, state, network, images, epoch):
        """The base's logits."""
        return self.base.predict(state["base"], network, images, epoch)

    def scored_by(self, epoch):
        """Says what `predict` reads."""
        return self.base.scored_by(epoch)


METHOD = DARP
EXAMPLES = (
    {"refine_every": 1, "warmup_epochs": -1, "base": {"name": "fixmatch", "threshold": 0.2}},
    {"refine_every": 2, "warmup_epochs": 0, "base": {"name": "remixmatch", "ramp_steps": 0}},
)
