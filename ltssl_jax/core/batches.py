"""Batches: what a feed hands to a step, and the views that a method sees."""

from collections.abc import Mapping

from flax import struct

from ltssl_jax.core.types import Array

# --- what a feed hands to a step: indices, and images unless they already live on the device -----


@struct.dataclass
class Stream:
    """One stream (labeled or unlabeled) of one step, before augmentation.

    Attributes:
      index: `[B]` int32, position of each example in its subset of the split.
      slot: `[B]` int32, place of each example in the global batch; with the step it names the
        example's randomness, whatever the number of devices.
      label: `[B]` int32; -1 throughout the unlabeled stream, whose classes no batch has.
      image: `[B, H, W, C]` uint8, or None where the images are resident on the device.
    """

    index: Array
    slot: Array
    label: Array
    image: Array | None = None


@struct.dataclass
class RawBatch:
    """What one training step receives from a feed.

    Attributes:
      labeled, unlabeled: the two streams that every method reads.
      balanced: labeled images drawn class by class, if `needs.balanced`.
    """

    labeled: Stream
    unlabeled: Stream
    balanced: Stream | None = None


@struct.dataclass
class Resident:
    """What stays on the device from step to step.

    Attributes:
      labeled, unlabeled: uint8 images `[N, H, W, C]`, or None where the feed sends images.
      truth: `[N_u]` int32, true classes of the pool, or None where they are not all known. For the
        count of right pseudo-labels alone: neither views nor methods ever receive it.
    """

    labeled: Array | None = None
    unlabeled: Array | None = None
    truth: Array | None = None


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
    """Labeled examples; the views beyond the first are those that the method's `needs` ask for.

    Attributes:
      image: weak view `[B, H, W, C]` float32.
      label: `[B]` int32.
      index: `[B]` int32, position in the labeled split.
      strong: `needs.labeled_strong` strong views.
      contrastive: `needs.contrastive` views of the recipe of contrastive learning.
    """

    image: Array
    label: Array
    index: Array
    strong: tuple[Array, ...] = ()
    contrastive: tuple[Array, ...] = ()


@struct.dataclass
class Unlabeled:
    """Unlabeled examples; the views are those that the method's `needs` ask for.

    Attributes:
      weak: weak view `[U, H, W, C]` float32.
      strong: `needs.strong` strong views.
      index: `[U]` int32, position in the unlabeled split.
      more_weak: `needs.weak - 1` further weak views.
      contrastive: `needs.contrastive` views of the recipe of contrastive learning.
    """

    weak: Array
    strong: tuple[Array, ...]
    index: Array
    more_weak: tuple[Array, ...] = ()
    contrastive: tuple[Array, ...] = ()


@struct.dataclass
class Batch:
    """One step's views; `balanced` only if the method needs it."""

    labeled: Labeled
    unlabeled: Unlabeled
    balanced: Labeled | None = None


@struct.dataclass
class Outputs:
    """What a network says, by row.

    Attributes:
      features: `[B, D]`, or `[B, P, D]` where the backbone has `P > 1` branches.
      logits: head name to `[B, K]`, or `[B, P, K]`.
    """

    features: Array
    logits: Mapping[str, Array]
