"""Replays golden steps of methods that mix images: the network is the small one of the file.

Its features are `tanh(image @ backbone)` and its heads linear, so that it can be asked about
mixtures, which no file could hold before they are made.
"""

import itertools

import jax
import jax.numpy as jnp

from ltssl_jax import core
from ltssl_jax.losses import mixing
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.training.forward import AxisDevices, ExampleKeys


class TanhForward:
    """A `Forward` that notes which images it met, under which name, and who went together.

    Args:
      network: the file's kernels and biases of one step.
      views: the batch's images by name.
      new: names of all other images, in the order in which they are first asked about.
      nudges: added to the logits of `name/head`: the gradient with respect to them.
    """

    def __init__(self, network, views, new, nudges):
        self.images, self.groups = {}, []
        self._network, self._nudges, self._new = network, nudges, iter(new)
        self._names = {id(images): name for name, images in views.items()}

    def __call__(self, images):
        return self.jointly(images)[0]

    def apart(self, *views):
        return tuple(map(self, views))

    def jointly(self, *views):
        outputs = tuple(map(self._outputs, views))
        self.groups.append([self._names[id(images)] for images in views])
        return outputs

    def _outputs(self, images):
        if id(images) not in self._names:
            self._names[id(images)] = next(self._new)
        name, kernels = self._names[id(images)], self._network
        self.images[name] = images  # kept: no id is reused
        features = jnp.tanh(images.reshape(len(images), -1) @ kernels["backbone/kernel"])
        heads = {key.split("/")[1] for key in kernels if key.startswith("head/")}
        logits = {
            head: features @ kernels[f"head/{head}/kernel"]
            + kernels[f"head/{head}/bias"][None, :]
            + self._nudges.get(f"{name}/{head}", 0.0)
            for head in heads
        }
        return core.Outputs(features, logits)


def batch(golden, n):
    """The step's batch, and its images by name."""
    views = {name: jnp.asarray(x) for name, x in golden.below(f"step{n}/image").items()}
    views = {name: x for name, x in views.items() if "mixed" not in name and name != "rotated"}
    index = jnp.asarray(golden[f"step{n}/index"], jnp.int32)
    labels = jnp.asarray(golden[f"step{n}/labels"], jnp.int32)
    labeled = core.Labeled(views["labeled"], labels, jnp.arange(len(labels)))
    strong = tuple(x for name, x in sorted(views.items()) if name.startswith("strong"))
    more_weak = (views["weak1"],) if "weak1" in views else ()
    return core.Batch(labeled, core.Unlabeled(views["weak"], strong, index, more_weak)), views


def given_draws(monkeypatch, golden, n):
    """The file's partners and shares in place of ours."""
    shares = jnp.asarray(golden[f"step{n}/random/lambda"])
    blocks = itertools.cycle(jnp.split(shares, len(shares) // len(golden[f"step{n}/labels"])))
    monkeypatch.setattr(mixing, "shares", lambda keys, concentration: next(blocks))
    permutation = jnp.asarray(golden[f"step{n}/random/permutation"])
    monkeypatch.setattr(mixing, "order", lambda key, size: permutation)


def context(golden, n):
    facts = golden.problem()
    devices, rng = AxisDevices(None), ExampleKeys(jax.random.key(n))
    steps = facts.steps_per_epoch, facts.total_steps
    return core.Context(jnp.int32(n), jnp.int32(n // steps[0]), rng, devices, *steps)


def replay(golden, method, n, state, new, network=None):
    """Lets our method make step `n`.

    Returns:
      The `Loss`, the contributions by term, their sum's gradient by `name/head`, the forward.
    """
    step = {k: jnp.asarray(v) for k, v in golden.below(f"step{n}").items()}
    (given, views), ctx, network = batch(golden, n), context(golden, n), network or step
    names = [f"{name}/base" for name in (*views, *new)] + ["rotated/rotation"]
    rows, num_classes = len(given.labeled.label), len(golden["labeled_counts"])
    nudges = {name: jnp.zeros((rows, 4 if "rotation" in name else num_classes)) for name in names}
    forwards = []

    def objective(nudges):
        forward = TanhForward(network, views, new, nudges)
        forwards.append(forward)
        loss = method.loss(state, forward, given, ctx)
        total, contributions = reduce_terms(loss.terms, ctx.devices)
        return total, (loss, contributions, forward.images)

    gradient, (loss, contributions, images) = jax.grad(objective, has_aux=True)(nudges)
    forwards[0].images = images
    return loss, contributions, gradient, forwards[0]
