"""Mean Teacher.

Tarvainen, Valpola: "Mean teachers are better role models: Weight-averaged consistency targets
improve semi-supervised deep learning results", NeurIPS 2017, arXiv:1703.01780. Written from the
paper and from the facts of the authors' code, CuriousAI/mean-teacher at commit 546348f; steps of
it, and of the version in google-research/mixmatch at commit 1011a1d, are our golden test.

The average of the network over its past steps says of one weak view what the network shall say of
another.

Decisions where paper, code and expectation part:
- The teacher runs in training mode, with the batch statistics of its own view, as in both codes.
- The consistency is the mean over unlabeled rows and classes, the labeled term that over labeled
  rows, as in google-research/mixmatch, whence the weight. The authors divide both by the number of
  all rows, and let labeled rows take part in the consistency; here they do where the pool holds
  them (`overlap`).
- The ramp is the paper's sigmoid of 40,000 steps, 80 epochs of 500; it is constant in an epoch. The
  authors' PyTorch code takes 5 epochs of its own.
- The share of a step in the average is `ema`'s; `ema.warmup` is the one of the PyTorch code, one
  step behind: 0, 1/2, 2/3 where theirs is 1/2, 2/3, 3/4.

Differs from the official code:
- The teacher begins as the network, as in the authors' TensorFlow code; in PyTorch they are drawn
  one by one.
- The running statistics of the tested average are averages of the network's (or copies, by
  `ema.statistics`); theirs are moved by the teacher's own passes.
- No second head for the consistency, which their PyTorch experiments have; no divergence in place
  of the squares, which is for ImageNet; no noise on inputs beyond the views.
"""

import dataclasses

import jax.numpy as jnp
from jax.nn import softmax

from ltssl_jax.core import InputError, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.schedules import sigmoid_ramp


@dataclasses.dataclass(frozen=True)
class MeanTeacher:
    """The EMA network teaches the network what to say of another weak view.

    Attributes:
      unlabeled_weight: weight of the consistency term after its ramp.
      ramp_epochs: over so many the weight rises; 0: it is there from the beginning.
    """

    unlabeled_weight: float = 50.0
    ramp_epochs: int = 80

    needs = Needs(weak=2, strong=0)

    def __post_init__(self):
        check = InputError.check
        check(self.ramp_epochs >= 0, "method.ramp_epochs", self.ramp_epochs, "at least 0")

    def init(self, problem):
        """Nothing is remembered: the teacher is the EMA network of the run."""
        return ()

    def loss(self, state, forward, batch, ctx):
        """One pass for labeled and unlabeled images; the teacher sees the other view."""
        outputs = forward.jointly(batch.unlabeled.weak, batch.labeled.image)
        unlabeled, labeled = (out.logits["base"] for out in outputs)
        taught = forward.teacher(batch.unlabeled.more_weak[0], by_batch=True).logits["base"]
        errors = softmax(unlabeled) - softmax(taught)
        ramp = sigmoid_ramp(ctx.epoch, self.ramp_epochs)
        agreement = jnp.argmax(unlabeled, axis=-1) == jnp.argmax(taught, axis=-1)
        return Loss(
            {
                "supervised": Term(cross_entropy(labeled, batch.labeled.label)),
                "consistency": Term(jnp.square(errors), self.unlabeled_weight * ramp),
            },
            state,
            {"agreement/base": agreement.astype(jnp.float32)},
        )

    def predict(self, state, network, images, epoch):
        """Logits of the one head; the network that is tested is the teacher."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = MeanTeacher
EXAMPLES = (MeanTeacher(), MeanTeacher(5.0, ramp_epochs=1))
