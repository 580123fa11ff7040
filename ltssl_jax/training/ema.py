"""Averaging parameters and batch statistics; evaluation reads the averages."""

import dataclasses

import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Ema, InputError, PyTree

STATISTICS = ("average", "copy")


@dataclasses.dataclass(frozen=True)
class Averaging:
    """How the averages follow the online network.

    Attributes:
      decay: weight of the old value.
      warmup: limits the decay to `1 - 1 / (t + 1)` at update t (from 0), as DASO does.
      statistics: `"average"` the batch statistics too (the Adam line: TRAS, ABC, CoSSL) or
        `"copy"` them from the online network (ACR, USB).
    """

    decay: float = 0.999
    warmup: bool = False
    statistics: str = "average"

    def __post_init__(self):
        if not 0.0 <= self.decay < 1.0:
            raise InputError(f"ema.decay is {self.decay}; it must be at least 0 and below 1")
        if self.statistics not in STATISTICS:
            raise InputError.unknown("ema.statistics", self.statistics, STATISTICS)

    def update(self, ema: Ema, params: PyTree, batch_stats: PyTree, step: Array) -> Ema:
        """Returns the next averages; `step` counts the updates finished before this one."""
        decay = self.decay
        if self.warmup:
            decay = jnp.minimum(decay, 1.0 - 1.0 / (step.astype(jnp.float32) + 1.0))

        def follow(old, new):
            return old * decay + new * (1.0 - decay)

        statistics = batch_stats
        if self.statistics == "average":
            statistics = jax.tree.map(follow, ema.batch_stats, batch_stats)
        return Ema(jax.tree.map(follow, ema.params, params), statistics)
