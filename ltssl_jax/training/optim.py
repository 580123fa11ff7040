"""Named optimizer recipes of the field, as optax chains."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltssl_jax.core import Array, InputError, PyTree
from ltssl_jax.training.adam import scale_by_awakening_adam

# The families O1-O4 in which long-tailed semi-supervised methods are published. Batch sizes and
# numbers of steps belong to the protocol; see `defaults`.
RECIPES = {
    # TRAS, ABC, DARP, SAW, CoSSL: constant Adam; weights (and statistics) shrink after the EMA.
    "O1": dict(name="adam", learning_rate=0.002, shrink=0.02, shrink_statistics=True),
    # ACR, SeMi, BOAT, CCL: cosine over 7/16 of a period.
    "O2": dict(name="sgd", learning_rate=0.03, schedule="cosine_7_16", weight_decay=5e-4),
    # DASO, SEVAL: the same, constant.
    "O3": dict(name="sgd", learning_rate=0.03, schedule="constant", weight_decay=5e-4),
    # USB and what is built on it: as O2, over 2**18 steps.
    "O4": dict(name="sgd", learning_rate=0.03, schedule="cosine_7_16", weight_decay=5e-4),
}
NAMES = ("adam", "sgd")
SCHEDULES = ("constant", "cosine_7_16", "ldam")


class Optimizer(NamedTuple):
    """What a step needs of an optimizer.

    Attributes:
      tx: gradients to updates.
      learning_rate: step (updates finished) to learning rate, for the log.
      shrink: after the EMA has read them, weights are multiplied by `1 - shrink * learning_rate`;
        the decoupled decay of the Adam line (`WeightEMA` in its released codes).
      shrink_statistics: the same for the online batch statistics, as those codes do.
      is_frozen: the backbone stays as it is, its running statistics included.
    """

    tx: optax.GradientTransformation
    learning_rate: Callable[[Array], Array]
    shrink: float = 0.0
    shrink_statistics: bool = False
    is_frozen: bool = False

    def trainable(self, params: PyTree) -> PyTree:
        """Stops the gradient of what is frozen."""
        return self.kept(params, jax.lax.stop_gradient(params))

    def kept(self, new: PyTree, old: PyTree) -> PyTree:
        """Returns the new parameters or statistics, of what is frozen the old ones."""
        is_there = self.is_frozen and "backbone" in old
        return new | {"backbone": old["backbone"]} if is_there else new

    def shrunk(self, params: PyTree, batch_stats: PyTree, step: Array) -> tuple[PyTree, PyTree]:
        """Applies the shrink of update `step` (from 0) to weights and, if asked, statistics."""
        if not self.shrink:
            return params, batch_stats
        factor = 1.0 - self.shrink * self.learning_rate(step)

        def smaller(tree):
            return self.kept(jax.tree.map(lambda x: x * factor, tree), tree)

        return smaller(params), smaller(batch_stats) if self.shrink_statistics else batch_stats


def make(
    *,
    total_steps: int,
    name: str = "adam",
    learning_rate: float = 0.002,
    schedule: str = "constant",
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    shrink: float = 0.0,
    shrink_statistics: bool = False,
    is_frozen: bool = False,
) -> Optimizer:
    """Builds an optimizer with PyTorch's semantics.

    Args:
      total_steps: length of the run, for schedules.
      name: `"adam"` (PyTorch's defaults) or `"sgd"` (Nesterov).
      learning_rate: the highest; all but `"ldam"` begin with it.
      schedule: `"constant"`, `"cosine_7_16"`: `lr * cos(7 pi t / (16 T))`, never below 0, or
        `"ldam"`, see there.
      weight_decay: added to the gradient of SGD, except for biases and batch norm.
      momentum: of SGD.
      shrink: see `Optimizer`.
      shrink_statistics: see `Optimizer`.
      is_frozen: see `Optimizer`.

    Raises:
      InputError: an unknown name or schedule, or a number out of range.
    """
    _check(name, learning_rate, schedule, weight_decay, momentum, shrink)
    rate = optax.constant_schedule(learning_rate)
    if schedule != "constant":
        rate = dict(cosine_7_16=cosine_7_16, ldam=ldam)[schedule](learning_rate, total_steps)
    if name == "adam":
        tx = optax.chain(scale_by_awakening_adam(), optax.scale_by_learning_rate(rate))
    else:
        decay = optax.add_decayed_weights(weight_decay, mask=_is_kernel)
        tx = optax.chain(decay, optax.sgd(rate, momentum, nesterov=True))
    return Optimizer(tx, rate, shrink, shrink_statistics, is_frozen)


def _check(name, learning_rate, schedule, weight_decay, momentum, shrink) -> None:
    if name not in NAMES:
        raise InputError.unknown("optim.name", name, NAMES)
    if schedule not in SCHEDULES:
        raise InputError.unknown("optim.schedule", schedule, SCHEDULES)
    if not learning_rate > 0:
        raise InputError(f"optim.learning_rate is {learning_rate}; it must be positive")
    for field, value in dict(weight_decay=weight_decay, momentum=momentum, shrink=shrink).items():
        if not value >= 0:
            raise InputError(f"optim.{field} is {value}; it must be 0 or positive")
    if momentum >= 1 or shrink * learning_rate >= 1:
        raise InputError(
            f"optim.momentum is {momentum} and optim.shrink times the learning rate"
            f" {shrink * learning_rate}; both must be below 1"
        )
    if name == "adam" and weight_decay:
        raise InputError(
            f"optim.weight_decay is {weight_decay} with Adam, whose recipes decay by optim.shrink;"
            " set optim.shrink instead"
        )


def cosine_7_16(learning_rate: float, total_steps: int) -> Callable[[Array], Array]:
    """FixMatch's schedule: seven sixteenths of a cosine period over the run."""

    def schedule(step):
        angle = 7.0 * math.pi * jnp.asarray(step, jnp.float32) / (16.0 * total_steps)
        return learning_rate * jnp.maximum(jnp.cos(angle), 0.0)

    return schedule


def ldam(learning_rate: float, total_steps: int) -> Callable[[Array], Array]:
    """LDAM's schedule: up over a 40th of the run, a 100th from 4/5 of it, of that from 9/10.

    Source: arXiv:1906.07413, whose 200 epochs have a linear warm-up of 5 and steps at 160 and 180.
    """

    def schedule(step):
        done = jnp.asarray(step, jnp.float32) / total_steps
        warm = jnp.minimum(40.0 * (done + 1.0 / total_steps), 1.0)
        fallen = jnp.where(done < 0.8, 1.0, jnp.where(done < 0.9, 0.01, 0.0001))
        return learning_rate * warm * fallen

    return schedule


def _is_kernel(params: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
