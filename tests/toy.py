"""Toys that several test files share: a tiny network, method, problem and batch."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax import core, parallel
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.losses.margins import log_prior, logit_adjusted_cross_entropy
from ltssl_jax.models.layers import BatchNorm
from ltssl_jax.models.network import Network
from ltssl_jax.training import optim, state
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.step import make_train_step

SHAPE = (8, 8, 1)
NUM_CLASSES = 3
PROBLEM = core.Problem(jnp.array([30, 10, 3]), 100, steps_per_epoch=2, total_steps=10)
RESIDENT = core.Resident(truth=np.arange(16, dtype=np.int32) ** 2 % 3)  # images come with batches


class Flat(nn.Module):
    """Features `[B, 4]` by one dense layer and a batch norm: compiles at once."""

    axis_name: str | None = None
    momentum: float = 0.1

    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(4, use_bias=False, name="dense")(images.reshape(len(images), -1))
        return BatchNorm(self.momentum, axis_name=self.axis_name, name="bn")(x, train)


def network(backbone):
    return Network(backbone, (core.Head("base"),), NUM_CLASSES)


@dataclasses.dataclass(frozen=True)
class Method:
    """Uses every part of the contract: a counted term, random masks, running state, monitors."""

    needs = core.Needs()

    def init(self, problem):
        prior = log_prior(problem.labeled_counts)
        return {"log_prior": prior, "probs": jnp.full((NUM_CLASSES,), 1 / 3, jnp.float32)}

    def loss(self, method_state, forward, batch, ctx):
        views = (batch.labeled.image, batch.unlabeled.weak, *batch.unlabeled.strong)
        labeled, weak, strong = [o.logits["base"] for o in forward.jointly(*views)]
        log_pi, probs = method_state["log_prior"], ctx.devices.mean(jnp.mean(nn.softmax(weak), 0))
        keys = ctx.rng.per_example("mask", batch.unlabeled.index)
        mask = (jax.random.key_data(keys)[:, 0] % 2).astype(jnp.float32)
        pseudo_labels = jnp.argmax(weak, -1)
        terms = {
            "supervised": core.Term(
                logit_adjusted_cross_entropy(labeled, batch.labeled.label, log_pi)
            ),
            "consistency": core.Term(
                mask * cross_entropy(strong, pseudo_labels), 0.5, jnp.sum(mask)
            ),
        }
        running = 0.9 * method_state["probs"] + 0.1 * probs
        monitors = {"label": batch.labeled.label, "epoch": ctx.epoch}
        monitors |= {"mask/base": core.Kept(pseudo_labels, mask)}
        return core.Loss(terms, {"log_prior": log_pi, "probs": running}, monitors)

    def predict(self, method_state, network, images, epoch):
        return network(images).logits["base"]

    def scored_by(self, epoch):
        return "head base"


class GivenViews:
    """Stands where augmentation stands: the batch already holds views."""

    def __call__(self, raw, resident, key, step):
        return raw

    def evaluation(self, images):
        return images.astype(jnp.float32) / 255


def batch(size=16, seed=0):
    """A batch of views, the same images at every step; sizes divide among eight devices."""
    rng = np.random.default_rng(seed)
    image = lambda: rng.standard_normal((size, *SHAPE)).astype(np.float32)  # noqa: E731
    index = np.arange(size, dtype=np.int32)
    labels = rng.integers(NUM_CLASSES, size=size).astype(np.int32)
    return core.Batch(
        core.Labeled(image(), labels, index), core.Unlabeled(image(), (image(),), index)
    )


def initial_state(model=None, method=None, optimizer=None):
    return state.create(
        model or network(Flat()),
        method or Method(),
        optimizer or optim.make(total_steps=10),
        PROBLEM,
        image_shape=SHAPE,
        seed=0,
    )


def train_step(*, model=None, method=None, optimizer=None, averaging=None, axis=None):
    return make_train_step(
        method or Method(),
        model or network(Flat(axis_name=axis)),
        optimizer or optim.make(total_steps=10),
        PROBLEM,
        GivenViews(),
        averaging=averaging or Averaging(0.9),
        seed=0,
        axis=axis,
    )


def trainer(*, mode="jit", num_devices=1, donate_state=False, model=None, **parts):
    """Returns the runner, the placed initial state and the compiled step.

    `model` makes a network from the name of the device axis; `parts` are those of `train_step`.
    """
    runner = parallel.make(mode, num_devices=num_devices)
    model = model or (lambda axis: network(Flat(axis_name=axis)))
    start = initial_state(model(None), parts.get("method"), parts.get("optimizer"))
    step = train_step(model=model(runner.axis), axis=runner.axis, **parts)
    return (
        runner,
        runner.replicate(start),
        runner.map(step, num_shared=1, donate_state=donate_state),
    )


def train(num_steps, **how):
    """Trains a few steps; returns all states and the metrics of each step."""
    runner, state, step = trainer(**how)
    states, metrics = [state], []
    for n in range(num_steps):
        state, m = step(state, runner.shard(batch(seed=n)), RESIDENT)
        states.append(state)
        metrics.append(m)
    return states, metrics
