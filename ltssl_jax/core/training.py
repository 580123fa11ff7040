"""What the trainer is made of: views, and the state that it remembers."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from flax import struct

from ltssl_jax.core.batches import Batch, RawBatch, Resident
from ltssl_jax.core.types import Array, PyTree


class Views(Protocol):
    """A recipe of augmentations: uint8 images to float32 views, inside the compiled step."""

    def __call__(self, raw: RawBatch, resident: Resident, key: Array, step: Array) -> Batch:
        """Looks up and augments the images of one step; one key per example."""

    def evaluation(self, images: Array) -> Array:
        """Normalizes `[..., H, W, C]` uint8 images."""


# --- what is remembered ---------------------------------------------------------------------------


@struct.dataclass
class Ema:
    """Averaged parameters and batch statistics; never an alias of the online ones."""

    params: PyTree
    batch_stats: PyTree


class Log(NamedTuple):
    """Metrics averaged over the steps since the last log.

    Attributes:
      step: the last of these steps.
      metrics: their averages; lists of what is counted by class.
      num_steps: how many of them were timed: all but those of dispatches that compile.
      seconds: what the timed ones took.
      waited: for how many of these seconds the devices had nothing to do but wait for input.
      refreshed: seconds, not among these, of the method's work between steps.
    """

    step: int
    metrics: Mapping[str, float | list[float]]
    num_steps: int
    seconds: float
    waited: float = 0.0
    refreshed: float = 0.0


@struct.dataclass
class TrainState:
    """Everything a resumed run needs, as plain arrays without a device axis."""

    step: Array
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: Ema
    method_state: PyTree
