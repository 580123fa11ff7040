"""Every image of a set exactly once, on any number of devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax.core import EvalBatch, TrainState

Batches = Callable[[], Iterable[EvalBatch]]
EvalStep = Callable[[TrainState, EvalBatch], tuple[jax.Array, jax.Array]]
Confusions = Mapping[str, np.ndarray]


def confusion_matrix(
    eval_step: EvalStep, state: TrainState, batches: Iterable[EvalBatch]
) -> np.ndarray:
    """Sums the counts of all batches.

    Args:
      eval_step: compiled; padding rows count nothing.
      state: whose EMA network is evaluated.
      batches: of the whole set, spread over the devices, the last one padded.

    Returns:
      `[K, K]` int64, rows true classes, columns predictions.
    """
    total = 0  # summed on the devices: with thousands of classes one matrix fills megabytes
    for batch in batches:  # read by the host while the devices count the one before
        # One at a time: several CPU devices that sum independent batches at once block each other.
        jax.block_until_ready(total)
        total = total + eval_step(state, batch)[0]
    return np.asarray(total).round().astype(np.int64)


def predictions(
    eval_step: EvalStep, state: TrainState, batches: Iterable[EvalBatch], number: int
) -> jax.Array:
    """Returns the logits of the first `number` rows of all batches, `[number, K]`."""
    return jnp.concatenate(list(logits(eval_step, state, batches)))[:number]


def logits(
    eval_step: EvalStep, state: TrainState, batches: Iterable[EvalBatch]
) -> Iterator[jax.Array]:
    """Yields the logits of each batch with its padding, `[B, K]`, on the devices."""
    for batch in batches:
        yield jax.block_until_ready(eval_step(state, batch)[1])  # for the reason above


def held(read: Batches) -> Batches:
    """Reads the batches at the first call and keeps them on the devices for the next ones."""
    kept: list[EvalBatch] = []

    def batches():
        kept.extend(read() if not kept else ())
        return kept

    return batches


class Exam:
    """Evaluates some sets, announces the numbers, and remembers the last ones.

    Args:
      eval_step: compiled.
      sets: batches by name of the set; the first one decides which checkpoint is the best.
      announce: `(step, confusions) -> summaries by set`; records and prints them.
    """

    def __init__(
        self,
        eval_step: EvalStep,
        sets: Mapping[str, Batches],
        announce: Callable[[int, Confusions], Mapping[str, Mapping[str, float]]],
    ):
        self._eval_step, self._sets, self._announce = eval_step, sets, announce
        self._step, self._confusions, self._summaries = -1, {}, {}

    def __call__(self, step: int, state: TrainState) -> None:
        """Evaluates after `step`; a hook of the loop."""
        self._confusions, self._step = self._measure(state), step
        self._summaries = self._announce(step, self._confusions)

    def score(self, step: int) -> Mapping[str, float] | None:
        """Returns the summary of the deciding set, or None if `step` was not evaluated."""
        return self._summaries[next(iter(self._sets))] if step == self._step else None

    def confusions(self, state: TrainState) -> Confusions:
        """Returns the matrices of `state`, those of the last evaluation if it was of `state`."""
        return self._confusions if int(state.step) == self._step else self._measure(state)

    def _measure(self, state: TrainState) -> dict[str, Any]:
        return {
            name: confusion_matrix(self._eval_step, state, batches())
            for name, batches in self._sets.items()
        }
