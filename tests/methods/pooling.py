"""A method that remembers what it was told about the pool, and how often."""

import dataclasses

import jax.numpy as jnp

from ltssl_jax.core import Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy


@dataclasses.dataclass(frozen=True)
class Pooling:
    """Learns from labels; every three steps it writes down the answers to the whole pool."""

    needs = Needs(strong=0, pool=True)

    def init(self, problem):
        """Returns no answers yet."""
        shape = (problem.num_unlabeled, len(problem.labeled_counts))
        return {"answers": jnp.zeros(shape, jnp.float32), "steps": jnp.zeros(4, jnp.int32)}

    def loss(self, state, forward, batch, ctx):
        """Cross entropy."""
        logits = forward(batch.labeled.image).logits["base"]
        return Loss({"supervised": Term(cross_entropy(logits, batch.labeled.label))}, state, {})

    def refresh_every(self, problem):
        """Three."""
        return 3

    def refresh(self, state, step, pool):
        """Keeps the answers, and after which steps it was asked."""
        return {"answers": pool, "steps": state["steps"].at[step // 3 - 1].set(step)}

    def predict(self, state, network, images, epoch):
        """Logits of the one head."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = Pooling
