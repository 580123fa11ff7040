"""Smoothed adaptive weighting (SAW).

Lai, Wang, Gunawan, Cheung, Chuah: "Smoothed Adaptive Weighting for Imbalanced Semi-Supervised
Learning: Improve Reliability Against Unknown Distribution Data", ICML 2022. Follows the authors'
released code, ZJUJeffLai/SAW_SSL at commit 44157ca (`train_fix_cifar10.py`, `train_fix_stl10.py`);
steps of both are our golden test.

Losses of the base are weighted by class: labeled ones by the labels' counts, unlabeled ones by how
often each class was guessed in the pool so far. The weights are inverse effective numbers of
samples, smoother than inverse counts, whose parameter adapts to the size of the set.

Decisions where paper, code and expectation part:
- `beta` is (N - 1) / N of N images per class on average; the released command for FixMatch on
  CIFAR-10 gives 0.99 instead, which for 4,500 to 45 images spans weights of 0.76 to 2.1, not of
  0.15 to 3.8.
- The STL-10 script lets the weights act on the pseudo-labels and their confidence, too, and after
  that on the loss (`is_label_weighted`); the other scripts do not.
- Guesses are those of training, weak views in training mode; no pass over the pool is made.
- Unlabeled weights are 1 in the first epoch, renewed after each, and not averaged over epochs.

Differs from the official code:
- Images of the pool not seen yet are not counted. Theirs count as class 0, the most frequent one:
  on STL-10 that adds 75,000 images to it after the first epoch.
- On STL-10 their pool holds four copies of each labeled image.
- Only the most probable class of each image is remembered, which is all that theirs uses.
"""

import dataclasses

import jax.numpy as jnp
from jax.nn import one_hot

from ltssl_jax.core import InputError, Loss, Method, check_slots
from ltssl_jax.losses.margins import adaptive_number_weights, effective_number_weights
from ltssl_jax.memory import pool as memory


@dataclasses.dataclass(frozen=True)
class SAW:
    """A base method whose losses are weighted by class.

    Attributes:
      beta: of the effective number of samples; 0 adapts it to the set.
      is_label_weighted: the weights act on pseudo-labels and confidences, too (STL-10).
      base: a method that labels the pool itself and names its labeled term `supervised`.
    """

    beta: float = 0.0
    is_label_weighted: bool = False
    base: Method = dataclasses.field(default_factory=lambda: dict(name="fixmatch", num_strong=2))

    def __post_init__(self):
        InputError.check(0 <= self.beta < 1, "method.beta", self.beta, "at least 0 and below 1")
        check_slots("saw", self.base, "guess", "accept", "supervised")

    @property
    def needs(self):
        """What the base needs."""
        return self.base.needs

    def init(self, problem):
        """Returns the base's state, both class weights `[K]` and the guesses `[N_u]`, -1: none."""
        return {
            "base": self.base.init(problem),
            "labeled_weights": self.weights(problem.labeled_counts),
            "unlabeled_weights": jnp.ones(len(problem.labeled_counts), jnp.float32),
            "pseudo_labels": jnp.full(problem.num_unlabeled, -1, jnp.int32),
        }

    def weights(self, class_counts):
        """Returns the weights `[K]` of classes with so many images each; their mean is 1."""
        if self.beta == 0:
            return adaptive_number_weights(class_counts)
        return effective_number_weights(class_counts, beta=self.beta)

    def loss(self, state, forward, batch, ctx):
        """The base's two terms, weighted by class; remembers what was guessed."""
        # The authors' passes: the weak view alone, then whatever the base forwards together.
        forward(batch.unlabeled.weak)
        logits = self.base.guess(state["base"], forward, batch, ctx)
        guessed = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        if self.is_label_weighted:
            logits = logits + jnp.log(state["unlabeled_weights"])[None, :]
        targets, of_base = self.base.accept(state["base"], logits, batch, ctx)
        monitors = {
            "mask/base": targets.kept,
            "weight/largest": jnp.max(state["unlabeled_weights"]),
        }

        weights = state["unlabeled_weights"][targets.labels]
        targets = targets._replace(mask=weights * targets.mask)
        terms = self.base.learn(of_base, forward, batch, targets, ctx)
        supervised = terms["supervised"]
        weights = state["labeled_weights"][batch.labeled.label]
        terms |= {"supervised": supervised._replace(values=weights * supervised.values)}

        store = memory.put(state["pseudo_labels"], batch.unlabeled.index, guessed, ctx.devices)
        return Loss(terms, state | {"base": of_base, "pseudo_labels": store}, monitors)

    def refresh_every(self, problem):
        """After each epoch."""
        return problem.steps_per_epoch

    def refresh(self, state, step, pool):
        """Weighs the classes by how often each was guessed last."""
        num_classes = len(state["unlabeled_weights"])
        counts = jnp.sum(one_hot(state["pseudo_labels"], num_classes), axis=0)  # -1: no class
        return state | {"unlabeled_weights": self.weights(counts)}

    def predict(self, state, network, images, epoch):
        """The base's logits."""
        return self.base.predict(state["base"], network, images, epoch)

    def scored_by(self, epoch):
        """Says what `predict` reads."""
        return self.base.scored_by(epoch)


METHOD = SAW
EXAMPLES = (
    {"base": {"name": "fixmatch", "threshold": 0.2, "num_strong": 2}},
    {
        "beta": 0.9,
        "is_label_weighted": True,
        "base": {"name": "fixmatch", "threshold": 0.2, "forward_mode": "separate"},
    },
)
