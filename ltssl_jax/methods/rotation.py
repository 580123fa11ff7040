"""Rotation: the first stage of self-supervised pre-training.

Gidaris, Singh, Komodakis: "Unsupervised Representation Learning by Predicting Image Rotations",
ICLR 2018, arXiv:1803.07728; before any long-tailed loss in Yang, Xu: "Rethinking the Value of
Labels for Improving Class-Imbalanced Learning", NeurIPS 2020, arXiv:2006.07529. Follows
`pretrain_rot.py` of YyzHarry/imbalanced-semi-self at commit b91ad29; steps of it are our golden
test.

Each image is turned by 0 to 3 quarters, and the network says by how many; no label is used. A
later stage takes the backbone (`defaults.stage(begin="backbone")`, its statistics included); the
head `base`, which tables evaluate, stays untrained here.

Differs from the official code:
- `images="labeled"` is theirs; by default the pool is used as well.
- Every image draws its turn; theirs are a nearly balanced permutation over the batch.
- Their loader ignores missing keys, so that a wrong file trains from scratch without a word; here
  stages hand over arrays, and a backbone of another shape is an error.
"""

import dataclasses

import jax.numpy as jnp

from ltssl_jax.core import Head, InputError, Loss, Needs, Term
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.rotation import draw_quarter_turns, turned

IMAGES = ("both", "labeled", "unlabeled")


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Recognizes quarter turns.

    Attributes:
      images: `"labeled"`, `"unlabeled"` or `"both"`.
    """

    images: str = "both"

    needs = Needs(heads=(Head("base"), Head("rotation", 4)), strong=0)

    def __post_init__(self):
        if self.images not in IMAGES:
            raise InputError.unknown("method.images", self.images, IMAGES)

    def init(self, problem):
        """Nothing is remembered."""
        return ()

    def loss(self, state, forward, batch, ctx):
        """Turns the weak views; each stream has batch statistics of its own."""
        streams = dict(labeled=(batch.labeled.image, batch.labeled.index))
        streams["unlabeled"] = (batch.unlabeled.weak, batch.unlabeled.index)
        terms, monitors = {}, {}
        for name, (images, index) in streams.items():
            if self.images in ("both", name):
                turns = draw_quarter_turns(ctx.rng.per_example(f"turns/{name}", index))
                logits = forward(turned(images, turns)).logits["rotation"]
                terms[f"rotation_{name}"] = Term(cross_entropy(logits, turns))
                monitors[f"recognized/{name}"] = jnp.argmax(logits, axis=-1) == turns
        return Loss(terms, state, monitors)

    def predict(self, state, network, images, epoch):
        """Logits of the head for classes, which is not trained."""
        return network(images).logits["base"]

    def scored_by(self, epoch):
        """Says that the tables mean nothing here."""
        return "head base, untrained: rotation is a first stage"


METHOD = Rotation
EXAMPLES = (Rotation(), Rotation("labeled"))
