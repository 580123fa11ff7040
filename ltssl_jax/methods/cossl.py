"""Co-learning of representation and classifier (CoSSL), its second phase.

Fan, Dai, Kukleva, Schiele: "CoSSL: Co-Learning of Representation and Classifier for Imbalanced
Semi-Supervised Learning", CVPR 2022, arXiv:2112.04564. Follows the authors' released code,
YUE-FAN/CoSSL at commit 9c7b840 (`train_cifar_fix_cossl.py`); steps of it are our golden test.

After a phase in which the base trains alone (`config.stages`), a second head `tfe` learns on the
features of the EMA network, class by class, the rarer a class is, the more often mixed with those
of any image (tail-class feature enhancement). It labels the pool for the base; the base moves the
network, whose average gives the features. Tested is the EMA network with the average of `tfe`.

Decisions where paper, code and expectation part:
- Guesses are those of `tfe` itself, before its update of this step, on averaged features; the EMA
  of `tfe` serves the test alone. A base without mixtures never learns on the weak view, so the
  network does not see it in training mode.
- A mixture keeps the label of its own row, whose share is between `min_share` and 1. All released
  commands set 0.6; the option's default is 0.8.
- The weight decay of `tfe` is a term: half the squared kernel times `weight_decay` has the gradient
  that PyTorch's Adam adds. Adam treats each array by itself, so one of ours makes the same updates
  as their two. (With SGD, whose recipes decay by themselves, set `weight_decay=0`.)

Differs from the official code:
- `tfe` warms up within the training: for `warmup_epochs` the base goes on and learns what its own
  prediction by the EMA network says. Theirs waits for the head to train for ten epochs on a fixed
  set of mixtures (on ImageNet-127 on mixtures drawn as here). While a network waits, its average
  would run into it, and the features with it.
- Partners are strong views of this step's pool; theirs come from a further stream of labeled and
  unlabeled images.
- The optimizer starts afresh with this phase; theirs keeps Adam's moments.
- Their weights no longer shrink in this phase; 4e-5 of the network's is in Adam's gradient instead.
  `optim.shrink` would reach `tfe`, too, beside its own decay: set it to 0 for this phase.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from ltssl_jax.core import Head, InputError, Loss, Method, Needs, Term, check_slots
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.mixing import mix


@dataclasses.dataclass(frozen=True)
class CoSSL:
    """A base method that is labeled by a balanced head on averaged features.

    Attributes:
      min_share: smallest share of the labeled features in a mixture.
      weight_decay: of the kernel of `tfe`, as PyTorch's Adam counts it.
      warmup_epochs: `tfe` labels the pool in the epochs from this one on (from 0), so never in a
        run that is not longer.
      base: a method that labels the pool itself.
    """

    min_share: float = 0.6
    weight_decay: float = 5e-4
    warmup_epochs: int = 10
    base: Method = dataclasses.field(default_factory=lambda: dict(name="fixmatch", num_strong=2))

    def __post_init__(self):
        check = InputError.check
        check(0 <= self.min_share <= 1, "method.min_share", self.min_share, "between 0 and 1")
        check(self.weight_decay >= 0, "method.weight_decay", self.weight_decay, "at least 0")
        check_slots("cossl", self.base, "guess")
        tau = getattr(self.base, "pseudo_label_tau", 0.0)
        check(tau == 0, "method.base.pseudo_label_tau", tau, "0: `tfe` guesses, and unadjusted")

    @property
    def needs(self):
        """What the base needs, one more head, and strong views of labeled images class by class."""
        ours = Needs(heads=(Head("tfe"),), labeled_strong=1, balanced=True)
        return self.base.needs.joined(ours)

    def init(self, problem):
        """Returns the base's state and how often rows of each class are mixed, `[K]`."""
        counts = jnp.asarray(problem.labeled_counts, jnp.float32)
        return {"base": self.base.init(problem), "mixed": 1.0 - counts / jnp.max(counts)}

    def loss(self, state, forward, batch, ctx):
        """The base's terms with guesses of `tfe`, and the terms of `tfe`."""
        logits = self.guess(state["base"], forward, batch, ctx)
        targets, of_base = self.base.accept(state["base"], logits, batch, ctx)
        terms = self.base.learn(of_base, forward, batch, targets, ctx)
        terms_of_head, share = self.terms(state["mixed"], forward, batch, ctx)
        monitors = {"mask/base": targets.kept, "mixed/tfe": (share < 1).astype(jnp.float32)}
        return Loss({**terms, **terms_of_head}, state | {"base": of_base}, monitors)

    def guess(self, of_base, forward, batch, ctx):
        """Logits of `tfe` on averaged features; in the warm-up the base's own, averaged, too."""
        weak = batch.unlabeled.weak
        averaged = forward.teacher(weak)
        own = self.base.predict(of_base, lambda images: averaged, weak, ctx.epoch)
        logits = forward.head("tfe", averaged.features)
        return stop_gradient(jnp.where(ctx.epoch >= self.warmup_epochs, logits, own))

    def terms(self, mixed, forward, batch, ctx):
        """The terms of `tfe` by name, and the labeled rows' shares `[B]`; `mixed` is `[K]`."""
        x, views = batch.balanced, batch.unlabeled.strong[0]
        partners = views[:: len(views) // len(x.label)]  # the same on any number of devices
        features, others = (forward.teacher(v).features for v in (x.strong[0], partners))
        share = shares(ctx, mixed[x.label], self.min_share)
        logits = forward.head("tfe", mix(features, others, share))
        decay = 0.5 * jnp.square(forward.kernel("tfe"))
        return {
            "supervised_tfe": Term(cross_entropy(logits, x.label)),
            "decay_tfe": Term(decay, self.weight_decay, count=jnp.ones(())),
        }, share

    def predict(self, state, network, images, epoch):
        """Logits of `tfe`."""
        return network(images).logits["tfe"]

    def scored_by(self, epoch):
        """Names the head that `predict` reads."""
        return "head tfe"


def shares(ctx, probs, min_share):
    """Draws each row's share `[B]`: 1, or with probability `probs` one from `min_share` to 1."""
    num_rows = len(ctx.devices.gather(probs))
    # By row and not by image: a balanced batch holds images of rare classes several times.
    rows = ctx.devices.share(jnp.arange(num_rows))

    def drawn(key, prob):
        whether, how = jax.random.split(key)
        share = jax.random.uniform(how, minval=min_share, maxval=1.0)
        return jnp.where(jax.random.bernoulli(whether, prob), share, 1.0)

    return jax.vmap(drawn)(ctx.rng.per_example("share", rows), probs)


METHOD = CoSSL
EXAMPLES = (
    {"warmup_epochs": 1, "base": {"name": "fixmatch", "threshold": 0.2, "num_strong": 2}},
    {"warmup_epochs": 0, "base": {"name": "mixmatch"}},
)
