"""The nouns that every room of the library shares.

Shape letters: `B` labeled batch, `U` unlabeled batch, `S` strong views, `K` classes, `D` features,
`N` size of a set, `H W C` image. Inside a step the batch letters mean one device's share.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
from flax import struct

Array = jax.Array
PyTree = Any
Images = Array  # [..., H, W, C]
Network = Callable[[Images], "Outputs"]


class InputError(ValueError):
    """Something the user gave (a config value, a file, a split) cannot work.

    The message names the thing, the value found and the remedy. Commands print it without a
    traceback; every other exception is a bug.
    """

    @classmethod
    def check(cls, is_right: bool, what: str, value: Any, wanted: str) -> None:
        """Raises one that says what `what` is and should be, unless `is_right`."""
        if not is_right:
            raise cls(f"{what} is {value!r}; it must be {wanted}")

    @classmethod
    def unknown(cls, what: str, word: str, known: Iterable[str]) -> "InputError":
        """Says that `what` has no `word`, which known word is nearest, and lists them all."""
        known = sorted(known)
        close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        return cls(f"{what} {word!r} is unknown{hint} known: {', '.join(known)}")


# --- what a feed hands to a step: indices, and images unless they already live on the device -----


@struct.dataclass
class Stream:
    """One stream (labeled or unlabeled) of one step, before augmentation.

    Attributes:
      index: `[B]` int32, position of each example in its subset of the split.
      slot: `[B]` int32, place of each example in the global batch; with the step it names the
        example's randomness, whatever the number of devices.
      label: `[B]` int32; -1 throughout the unlabeled stream, whose classes no step may see.
      image: `[B, H, W, C]` uint8, or None where the images are resident on the device.
    """

    index: Array
    slot: Array
    label: Array
    image: Array | None = None


@struct.dataclass
class RawBatch:
    """What one training step receives from a feed."""

    labeled: Stream
    unlabeled: Stream


@struct.dataclass
class Resident:
    """uint8 images `[N, H, W, C]` kept on the device, or None where the feed sends images."""

    labeled: Array | None = None
    unlabeled: Array | None = None


@struct.dataclass
class EvalBatch:
    """One batch of an evaluation, all rows `[B, ...]`.

    Attributes:
      index: int32, position within the evaluated set.
      label: int32.
      mask: float32, 0 on padding rows.
      image: `[B, H, W, C]` uint8.
    """

    index: Array
    label: Array
    mask: Array
    image: Array


# --- what a method sees ---------------------------------------------------------------------------


@struct.dataclass
class Labeled:
    """Labeled examples: one weak view `[B, H, W, C]` float32, label and index `[B]` int32."""

    image: Array
    label: Array
    index: Array  # position in the labeled split


@struct.dataclass
class Unlabeled:
    """Unlabeled examples: one `weak` view and `S` `strong` views, each `[U, H, W, C]` float32."""

    weak: Array
    strong: tuple[Array, ...]
    index: Array  # [U] int32, position in the unlabeled split


@struct.dataclass
class Batch:
    """One step's views."""

    labeled: Labeled
    unlabeled: Unlabeled


@struct.dataclass
class Outputs:
    """What a network says: `features` `[B, D]`, and `logits` `[B, K]` by head name."""

    features: Array
    logits: Mapping[str, Array]


class Head(NamedTuple):
    """A classifier or projection that a method asks for on top of the backbone."""

    name: str
    size: int | None = None  # outputs; None = number of classes
    kind: str = "linear"  # "linear" | "cosine" | "mlp"


class Needs(NamedTuple):
    """Everything a method asks of the outside."""

    heads: tuple[Head, ...] = (Head("base"),)
    strong: int = 1  # strong views per unlabeled image


class Term(NamedTuple):
    """One summand of the objective.

    Attributes:
      values: per-example losses, any shape.
      weight: constant, or a schedule already evaluated at this step.
      count: denominator on this device; None = number of values (the mean over the batch, with the
        zeros of rejected examples included).
    """

    values: Array
    weight: float | Array = 1.0
    count: Array | None = None


class Loss(NamedTuple):
    """What `Method.loss` returns.

    Attributes:
      terms: the objective, term by name.
      state: next method state; only what the next step needs.
      monitors: arrays a human wants to see; averaged, never fed back.
    """

    terms: Mapping[str, Term]
    state: PyTree
    monitors: Mapping[str, Array]


class Problem(NamedTuple):
    """Facts known before training. Unlabeled class counts are absent: no oracle by accident."""

    labeled_counts: Array  # [K] exact, from the split
    num_unlabeled: int
    steps_per_epoch: int
    total_steps: int


class Devices(Protocol):
    """The only communication a method may use; no gradient flows through it."""

    def mean(self, tree: PyTree) -> PyTree:
        """Averages each leaf over the devices."""

    def gather(self, tree: PyTree) -> PyTree:
        """Concatenates the devices' batches along axis 0."""


class Rng(Protocol):
    """Randomness of one step."""

    def per_example(self, stream: str, index: Array) -> Array:
        """One key per example `[B]`, the same on any number of devices."""


class Context(NamedTuple):
    """Facts of this step: updates finished so far, and the epoch the update belongs to."""

    step: Array
    epoch: Array
    rng: Rng
    devices: Devices


class Forward(Protocol):
    """Runs views through the network in training mode; calls decide batch-norm groups and order."""

    def __call__(self, images: Images) -> Outputs:
        """Forwards a view by itself. Asking again for the same array is free."""

    def apart(self, *views: Images) -> tuple[Outputs, ...]:
        """Forwards each view by itself, in this order; they may be computed together."""

    def jointly(self, *views: Images) -> tuple[Outputs, ...]:
        """Forwards the concatenation in one pass, sharing batch statistics."""

    def head(self, name: str, features: Array) -> Array:
        """Applies one head to given features."""

    def teacher(self, images: Images) -> Outputs:
        """EMA weights and running statistics, without gradient."""


class Method(Protocol):
    """A paper: frozen hyper-parameters, one declaration and three pure functions."""

    needs: Needs

    def init(self, problem: Problem) -> PyTree:
        """Returns the method state before the first step, with explicit dtypes."""

    def loss(self, state: PyTree, forward: Forward, batch: Batch, ctx: Context) -> Loss:
        """Says which views to forward and returns the named per-example terms."""

    def predict(self, state: PyTree, network: Network, images: Images, epoch: Array) -> Array:
        """Returns logits `[B, K]` in evaluation mode; `epoch` is that of the last update."""

    def scored_by(self, epoch: int) -> str:
        """Says in a few words which head `predict` reads after `epoch`, for tables."""


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
      metrics: their averages.
      num_steps: how many of them were timed: all but those of dispatches that compile.
      seconds: what the timed ones took.
      waited: for how many of these seconds the devices had nothing to do but wait for input.
    """

    step: int
    metrics: Mapping[str, float]
    num_steps: int
    seconds: float
    waited: float = 0.0


@struct.dataclass
class TrainState:
    """Everything a resumed run needs, as plain arrays without a device axis."""

    step: Array
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: Ema
    method_state: PyTree
