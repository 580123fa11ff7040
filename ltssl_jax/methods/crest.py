"""Class-rebalancing self-training (CReST), with distribution alignment (CReST+).

Wei, Sohn, Mellina, Yuille, Yang: "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced
Semi-Supervised Learning", CVPR 2021, arXiv:2102.09559. Follows the authors' released code,
google-research/crest at commit e270139; steps of it are our golden test.

A network is trained from scratch several times. After each generation it labels part of the pool
for the next: of images that it calls by a rare class most, by a frequent class few. That is the
rule `by_rarity` of `data.growth`, and the generations are `config.stages`. This file is the step:
guesses on the pool are scaled from what the network says on average to the prior of the labels,
which is flattened more from generation to generation.

Decisions where paper, code and expectation part:
- The average is taken over guesses before they are scaled, and enters after the step. (Ports
  update first.)
- All of the long-tailed set is the pool of every generation, labeled images included; labels are
  chosen anew from all its images without true label.
- The defaults are the options of `run.sh`; those of the code itself align nothing, and have 15
  generations.

Differs from the official code:
- The prior is that of the true labels; theirs is that of the long-tailed set before labels are
  removed, known because it was made. Both agree up to rounding.
- The weight decay is the optimizer's, and spares biases.
- Their second evaluation, with logits adjusted by a running prior, is left out.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.nn import softmax

from ltssl_jax.core import InputError, Loss, check_slots
from ltssl_jax.losses.margins import log_prior
from ltssl_jax.memory.averages import batch_mean, empty_window, slid


@dataclasses.dataclass(frozen=True)
class CReST:
    """A base method whose guesses follow the prior of the labels, in one generation of several.

    Attributes:
      generation: which one this is, from 0; set by `config.stages`.
      num_generations: how many there will be.
      min_exponent: of the prior in the last generation; in the first it is 1.
      is_aligned: CReST+; otherwise the base is left as it is, which is CReST.
      window: over so many steps the network's guesses are averaged.
      base: a method that labels the pool itself; with `is_aligned` one that does not align, too
        (ReMixMatch with `alignment="none"`).
    """

    generation: int = 0
    num_generations: int = 6
    min_exponent: float = 0.5
    is_aligned: bool = True
    window: int = 128
    base: Any = dataclasses.field(default_factory=lambda: dict(name="fixmatch"))

    def __post_init__(self):
        check, last = InputError.check, self.num_generations - 1
        check(last >= 0, "method.num_generations", self.num_generations, "at least 1")
        check(0 <= self.generation <= last, "method.generation", self.generation, f"in [0, {last}]")
        check(self.min_exponent >= 0, "method.min_exponent", self.min_exponent, "0 or positive")
        check(self.window >= 1, "method.window", self.window, "at least 1")
        check_slots("crest", self.base, "guess")
        alignment = getattr(self.base, "alignment", "none") if self.is_aligned else "none"
        check(alignment == "none", "method.base.alignment", alignment, "'none': CReST+ aligns")

    @property
    def needs(self):
        """What the base needs."""
        return self.base.needs

    def init(self, problem):
        """Returns the base's state, the prior to align to `[K]` and a window of mean guesses."""
        given = problem.given_counts
        log_pi = log_prior(problem.labeled_counts if given is None else given)
        progress = self.generation / max(self.num_generations - 1, 1)
        exponent = 1.0 - progress * (1.0 - self.min_exponent)
        uniform = jnp.full(log_pi.shape, 1.0 / log_pi.size, jnp.float32)
        return {
            "base": self.base.init(problem),
            "target_prior": softmax(exponent * log_pi),
            "guessed": empty_window(self.window, uniform),
        }

    def loss(self, state, forward, batch, ctx):
        """The base's loss with aligned guesses; remembers what was guessed before aligning."""
        logits = self.base.guess(state["base"], forward, batch, ctx)
        aligned = self.aligned(state, logits) if self.is_aligned else logits
        targets, of_base = self.base.accept(state["base"], aligned, batch, ctx)
        terms = self.base.learn(of_base, forward, batch, targets, ctx)
        guessed = slid(state["guessed"], batch_mean(softmax(logits), ctx.devices))
        distance = 0.5 * jnp.sum(jnp.abs(model_prior(state) - state["target_prior"]))
        monitors = {"mask/base": targets.kept, "prior/distance": distance}
        return Loss(terms, state | {"base": of_base, "guessed": guessed}, monitors)

    def aligned(self, state, logits):
        """Returns logits `[U, K]` whose softmax is scaled from the network's prior to the other."""
        priors = state["target_prior"], model_prior(state)
        log_target, log_model = (jnp.log(prior + 1e-6) for prior in priors)
        return logits + (log_target - log_model)[None, :]

    def predict(self, state, network, images, epoch):
        """The base's logits."""
        return self.base.predict(state["base"], network, images, epoch)

    def scored_by(self, epoch):
        """Says what `predict` reads."""
        return self.base.scored_by(epoch)


def model_prior(state):
    """Returns what the network said on average in the last steps, `[K]`."""
    mean = jnp.mean(state["guessed"]["values"], axis=0)
    return mean / jnp.sum(mean)


METHOD = CReST
EASY = {"name": "fixmatch", "threshold": 0.2}
EXAMPLES = (
    {"window": 2, "base": EASY},
    {"generation": 2, "num_generations": 3, "window": 2, "base": EASY},
    {"is_aligned": False, "base": EASY},
)
