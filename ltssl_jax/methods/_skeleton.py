"""Copy me to `methods/foo.py`. First line: what the method is called.

Authors: "Title", venue, arXiv:number. Follows which official code, at which commit. Two sentences
on the idea, in the paper's words for its heads and symbols.

Differs from the official code: list every deliberate difference, or "nothing known".
"""

import dataclasses

from jax.lax import stop_gradient
from jax.nn import softmax

from ltssl_jax.core import Kept, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.consistency import pseudo_label


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """The idea in one line.

    Attributes:
      threshold: the paper's hyper-parameters, with the paper's defaults.
    """

    threshold: float = 0.95

    needs = Needs(strong=1)  # heads, and how many strong views

    def init(self, problem):
        """Returns what the method remembers between steps, with explicit dtypes; () if nothing."""
        return ()

    def loss(self, state, forward, batch, ctx):
        """Says which views to forward, in which order, and returns the named terms."""
        weak = stop_gradient(forward(batch.unlabeled.weak).logits["base"])
        views = forward.apart(batch.labeled.image, batch.unlabeled.strong[0])
        labeled, strong = (view.logits["base"] for view in views)
        pseudo_labels, mask = pseudo_label(softmax(weak), self.threshold)
        terms = {
            "supervised": Term(cross_entropy(labeled, batch.labeled.label)),
            "consistency": Term(mask * cross_entropy(strong, pseudo_labels)),
        }
        return Loss(terms, state, {"mask/base": Kept(pseudo_labels, mask)})

    def predict(self, state, network, images, epoch):
        """Returns logits `[B, K]`."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head base"


METHOD = Skeleton
