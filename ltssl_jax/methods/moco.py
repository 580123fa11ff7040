"""Momentum contrast (MoCo v2): the first stage of self-supervised pre-training.

He, Fan, Wu, Xie, Girshick: "Momentum Contrast for Unsupervised Visual Representation Learning",
CVPR 2020, arXiv:1911.05722, with the projection and the views of arXiv:2003.04297; before any
long-tailed loss in Yang, Xu: "Rethinking the Value of Labels", NeurIPS 2020, arXiv:2006.07529.
Follows `pretrain_moco.py` of YyzHarry/imbalanced-semi-self at commit b91ad29; steps of it are our
golden test.

Two views of an image are to be told as one among a queue of keys of earlier images, which a slowly
moving copy of the network makes: the EMA of the run, so `ema.decay` is the momentum (0.999). A
later stage takes the backbone (`defaults.stage(begin="backbone")`); the head `base`, which tables
evaluate, stays untrained here. The projection's hidden layer is as wide as the features, as theirs
is. The queue fills `queue_size * size * 4` bytes: 32 MiB by default.

Differs from the official code:
- Images are those of the pool, which may hold the labeled ones (`data.split.overlap`); theirs are
  the labeled set alone.
- Keys of one batch are not shuffled over devices: batch statistics are those of the whole batch. So
  not with `parallel.per_device_statistics`, whose statistics would tell which key belongs where.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltssl_jax.core import Head, InputError, Loss, Needs, Term
from ltssl_jax.losses.directions import unit
from ltssl_jax.losses.metric import info_nce
from ltssl_jax.memory.averages import slid_by, window_of


@dataclasses.dataclass(frozen=True)
class MoCo:
    """Tells the other view of an image among the keys of many others.

    Attributes:
      size: of the projection.
      queue_size: number of keys; at least a batch.
      temperature: of the contrast.
    """

    size: int = 128
    queue_size: int = 65_536
    temperature: float = 0.2

    def __post_init__(self):
        for field in ("size", "queue_size", "temperature"):
            value = getattr(self, field)
            InputError.check(value > 0, f"method.{field}", value, "positive")

    @property
    def needs(self):
        """A projection; two views of the recipe of contrastive learning."""
        heads = (Head("base"), Head("projection", self.size, "mlp"))
        return Needs(heads=heads, strong=0, contrastive=2)

    def init(self, problem):
        """Returns a queue of random directions."""
        noise = jax.random.normal(jax.random.key(0), (self.queue_size, self.size), jnp.float32)
        return window_of(unit(noise))

    def loss(self, queue, forward, batch, ctx):
        """The network makes queries, its slow copy keys, which join the queue afterwards."""
        one, other = batch.unlabeled.contrastive
        queries = forward(one).logits["projection"]
        keys = unit(forward.teacher(other, by_batch=True).logits["projection"])
        losses = info_nce(queries, keys, queue["values"], temperature=self.temperature)
        return Loss({"contrast": Term(losses)}, slid_by(queue, keys, ctx.devices), {})

    def predict(self, queue, network, images, epoch):
        """Logits of the head for classes, which is not trained."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Says that the tables mean nothing here."""
        return "head base, untrained: MoCo is a first stage"


METHOD = MoCo
EXAMPLES = (MoCo(size=8, queue_size=80),)
