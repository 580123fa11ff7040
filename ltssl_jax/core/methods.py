"""What a method is, what it asks for and what it may use."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ltssl_jax.core.batches import Batch, Outputs
from ltssl_jax.core.errors import InputError
from ltssl_jax.core.types import Array, Images, PyTree

Network = Callable[[Images], Outputs]

# --- what a method asks for -----------------------------------------------------------------------


class Head(NamedTuple):
    """A classifier or projection that a method asks for on top of the backbone."""

    name: str
    size: int | None = None  # outputs; None = number of classes
    kind: str = "linear"  # "linear" | "cosine" | "mlp" | "normalized_mlp"


class Needs(NamedTuple):
    """Everything a method asks of the outside.

    Attributes:
      heads: on top of the backbone.
      strong: strong views per unlabeled image.
      weak: weak views per unlabeled image.
      labeled_strong: strong views per labeled image.
      contrastive: views of the recipe of contrastive learning, of labeled and unlabeled images.
      balanced: a second stream of labeled images, drawn class by class.
      branches: further batch norms after the backbone's last, each giving features of its own.
      pool: `refresh` receives the network's answers to the whole pool.
      total_steps: what it does in a step depends on how many the run has.
    """

    heads: tuple[Head, ...] = (Head("base"),)
    strong: int = 1
    weak: int = 1
    labeled_strong: int = 0
    contrastive: int = 0
    balanced: bool = False
    branches: int = 1
    pool: bool = False
    total_steps: bool = False

    def joined(self, other: "Needs") -> "Needs":
        """Returns what serves both: a wrapper and its base."""
        heads = {head.name: head for head in (*self.heads, *other.heads)}
        return Needs(tuple(heads.values()), *map(max, self[1:], other[1:]))


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


class Kept(NamedTuple):
    """Hard pseudo-labels of an unlabeled batch, as a monitor.

    Attributes:
      labels: `[U]` int32.
      mask: `[U]` float32, how much each counts.
    """

    labels: Array
    mask: Array


class Loss(NamedTuple):
    """What `Method.loss` returns.

    Attributes:
      terms: the objective, term by name.
      state: next method state; only what the next step needs.
      monitors: arrays a human wants to see, averaged, and pseudo-labels, counted by class (of these
        the average is that of the mask); never fed back.
    """

    terms: Mapping[str, Term]
    state: PyTree
    monitors: Mapping[str, Array | Kept]


class Problem(NamedTuple):
    """Facts known before training. Unlabeled class counts are absent: no oracle by accident.

    Attributes:
      labeled_counts: `[K]` exact, from the split.
      num_unlabeled: `N_u`.
      steps_per_epoch: what methods count epochs by.
      total_steps: of the run.
      is_labeled: `[N_u]` bool, images that are in the labeled set, too; None: none.
      num_features: `D` of this network.
      given_counts: `[K]` without pseudo-labels of an earlier stage; None: there are none.
    """

    labeled_counts: Array
    num_unlabeled: int
    steps_per_epoch: int
    total_steps: int
    is_labeled: Array | None = None
    num_features: int = 0
    given_counts: Array | None = None


class Devices(Protocol):
    """The only communication a method may use; unless asked for, no gradient flows through it."""

    def mean(self, tree: PyTree) -> PyTree:
        """Averages each leaf over the devices."""

    def gather(self, tree: PyTree, *, differentiable: bool = False) -> PyTree:
        """Concatenates the devices' batches along axis 0; if asked for, with gradient."""

    def share(self, tree: PyTree) -> PyTree:
        """Takes this device's rows of what `gather` returned."""


class Rng(Protocol):
    """Randomness of one step."""

    def per_example(self, stream: str, index: Array) -> Array:
        """One key per example `[B]`, the same on any number of devices."""

    def shared(self, stream: str) -> Array:
        """One key, the same on all devices."""


class Context(NamedTuple):
    """Facts of this step.

    Attributes:
      step: updates finished so far.
      epoch: to which the update being made belongs.
      rng, devices: the only randomness and the only communication of a method.
      steps_per_epoch, total_steps: as in `Problem`.
    """

    step: Array
    epoch: Array
    rng: Rng
    devices: Devices
    steps_per_epoch: int = 1
    total_steps: int = 1


class Forward(Protocol):
    """Runs views through the network in training mode; calls decide batch-norm groups and order."""

    def __call__(self, images: Images) -> Outputs:
        """Forwards a view by itself. Asking again for the same array is free."""

    def apart(self, *views: Images) -> tuple[Outputs, ...]:
        """Forwards each view by itself, in this order; they may be computed together."""

    def jointly(self, *views: Images) -> tuple[Outputs, ...]:
        """Forwards the concatenation in one pass, sharing batch statistics."""

    def replicated(self, images: Images) -> Outputs:
        """Forwards images that are equal on all devices, with the statistics of one of them."""

    def head(self, name: str, features: Array) -> Array:
        """Applies one head to given features `[..., D]`."""

    def kernel(self, name: str) -> Array:
        """Returns the weights `[D, K]` of one linear head."""

    def teacher(self, images: Images, *, by_batch: bool = False) -> Outputs:
        """EMA weights, without gradient; running statistics, or those of this batch."""


# --- what a method is -----------------------------------------------------------------------------


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


class Targets(NamedTuple):
    """What the strong views of an unlabeled batch shall say.

    Attributes:
      probs: `[U, K]`, one-hot where pseudo-labels are hard.
      labels: `[U]` int32, the most probable class of each.
      mask: `[U]` float32, how much each row counts.
    """

    probs: Array
    labels: Array
    mask: Array

    @property
    def kept(self) -> Kept:
        """The pseudo-labels, as a monitor."""
        return Kept(self.labels, self.mask)


class SelfLabeling(Method, Protocol):
    """A method that labels the pool itself, in three parts between which a wrapper can come.

    Its `loss` is `guess`, `accept`, `learn`, one after the other.

    Attributes:
      slots: what a wrapper may change: `"guess"` (the logits), `"accept"` (targets and mask),
        `"supervised"` (the values of that term are those of the labeled rows, in order).
    """

    slots: tuple[str, ...]

    def guess(self, state: PyTree, forward: Forward, batch: Batch, ctx: Context) -> Array:
        """Returns logits `[U, K]` of what the unlabeled images are, without gradient."""

    def accept(
        self, state: PyTree, logits: Array, batch: Batch, ctx: Context
    ) -> tuple[Targets, PyTree]:
        """Makes targets of logits; returns the next state, too."""

    def learn(
        self, state: PyTree, forward: Forward, batch: Batch, targets: Targets, ctx: Context
    ) -> dict[str, Term]:
        """Returns the terms, given the next state."""


class Refreshable(Method, Protocol):
    """A method with work on the whole pool between steps; both functions are optional for others.

    The work is compiled, runs on the devices, and its time is reported by itself.
    """

    def refresh_every(self, problem: Problem) -> int:
        """Returns after how many steps there is work, again and again."""

    def refresh(self, state: PyTree, step: Array, pool: Array | None) -> PyTree:
        """Returns the next state.

        Args:
          state: of the method.
          step: updates finished so far.
          pool: if `needs.pool`, what `predict` says of each unlabeled image, `[N_u, K]` logits.
        """


def check_slots(wrapper: str, base: Method, *slots: str) -> None:
    """Refuses a base between whose parts a wrapper cannot come, or whose work it would not do.

    Raises:
      InputError: names wrapper, base and what is missing or too much.
    """
    offered = getattr(base, "slots", ())
    missing = [slot for slot in slots if slot not in offered]
    if missing:
        raise InputError(
            f"method {wrapper!r} cannot wrap {type(base).__name__}: it changes"
            f" {' and '.join(slots)} of its base, which offers"
            f" {' and '.join(offered) or 'nothing'}; set method.base to one that does, such as"
            " dict(name='fixmatch')"
        )
    if hasattr(base, "refresh_every"):
        raise InputError(
            f"method {wrapper!r} cannot wrap {type(base).__name__}, which works on the pool between"
            " steps; set method.base to one that does not, such as dict(name='fixmatch')"
        )
