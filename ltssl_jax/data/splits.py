"""Labeled and unlabeled subsets of a training set, as plain index arrays.

`long_tailed` makes of a (balanced) data set what the literature trains on; `given` takes real data
as they are. Class `k` of `K` keeps `n_k` labeled and `m_k` unlabeled images. Published protocols
(`data.protocols` knows them by name) differ in four ways, each of which is an argument of
`long_tailed` and changes what a number can be compared with:

- where `M_1`, the unlabeled images of the most frequent class, comes from: given outright, or from
  the share of labeled images;
- how the unlabeled classes are distributed (`unlabeled_shape`). "Uniform" means two things: `M_1`
  images *per class* (`uniform_max`; ACR, SimPro, CCL) or `M_1 / K` (`uniform_mean`; USB, CPE);
- whether the labeled images occur again among the unlabeled ones (`overlap`);
- whether the first images of each class are taken, the same for every seed, or a shuffle of them.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data import counts
from ltssl_jax.data.counts import check

SHAPES = (*counts.SHAPES, "all_rest")


@dataclass(frozen=True)
class Split:
    """Disjoint uses of the images of a training set.

    Attributes:
      labeled: `[N_l]` int64 positions in the training set, class by class.
      unlabeled: `[N_u]` int64 positions, class by class (of a class, those marked for the pool come
        last), then the images of unknown class.
      validation: `[N_v]` int64 positions, in neither of the two.
      is_labeled: `[N_u]` bool, this unlabeled row is in the labeled set, too.
      labeled_counts: `[K]` int64, labeled images of each class.
      unlabeled_counts: `[K]` int64, unlabeled rows of each known class; for reports only.
      fingerprint: SHA-256 of the three position arrays and of the labeled counts; equal splits, and
        only they, share it.
    """

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray
    is_labeled: np.ndarray
    labeled_counts: np.ndarray
    unlabeled_counts: np.ndarray
    fingerprint: str


def long_tailed(
    labels: np.ndarray,
    is_pool: np.ndarray | None = None,
    *,
    num_classes: int,
    num_max: int = 1000,
    imbalance_ratio: float = 100.0,
    unlabeled_num_max: int = 0,
    label_fraction: float = 0.0,
    unlabeled_imbalance_ratio: float = 0.0,
    unlabeled_shape: str = "consistent",
    labeled_counts: Sequence[int] = (),
    unlabeled_counts: Sequence[int] = (),
    overlap: bool = False,
    shuffle: bool = False,
    permute_classes: bool = False,
    validation_per_class: int = 0,
    seed: int = 0,
) -> Split:
    """Splits a training set into long-tailed labeled and unlabeled subsets.

    Args:
      labels: `[N]` int; -1 marks an unknown class: such images all join the unlabeled set.
      is_pool: `[N]` bool, images that join it, too, and are never labeled, whatever their class.
      num_classes: `K`.
      num_max: `N_1`, labeled images of the most frequent class.
      imbalance_ratio: of the labeled set.
      unlabeled_num_max: `M_1`; 0 derives it from `label_fraction`.
      label_fraction: `r` in (0, 1) with `M_1 = (1 - r) / r * N_1`; 0 if `M_1` is given.
      unlabeled_imbalance_ratio: of the unlabeled set; 0 means that of the labeled set.
      unlabeled_shape: one of `SHAPES`; "all_rest" takes whatever remains, without `M_1`.
      labeled_counts: `K` counts by class, in place of `num_max` and `imbalance_ratio`.
      unlabeled_counts: `K` counts by class, in place of every other `unlabeled_*`.
      overlap: the labeled images are unlabeled images as well, in addition to `m_k` others.
      shuffle: permute each class by `seed`; otherwise its first images are taken.
      permute_classes: let `seed` choose which class is how frequent (not for explicit counts).
      validation_per_class: images held out from the end of each class.
      seed: used by the two permutations only.

    Raises:
      InputError: a value is out of range, or a class has too few images.
    """
    check("seed", seed, 0, whole=True)
    check("validation_per_class", validation_per_class, 0, whole=True)
    labeled = counts.long_tailed(num_max, imbalance_ratio, num_classes)
    rank = _generator(seed, "ranks").permutation(num_classes) if permute_classes else slice(None)
    labeled = _explicit("labeled_counts", labeled_counts, num_classes, labeled[rank])
    classes, pool = _class_positions(labels, is_pool, num_classes)
    if unlabeled_shape == "all_rest" or len(unlabeled_counts):
        _refuse_ignored(
            unlabeled_num_max=unlabeled_num_max,
            label_fraction=label_fraction,
            unlabeled_imbalance_ratio=unlabeled_imbalance_ratio,
        )
        rest = np.array([len(positions) for positions in classes]) - labeled - validation_per_class
        unlabeled = rest.clip(min=0)
    else:
        maximum = _unlabeled_max(labeled.max(), unlabeled_num_max, label_fraction)
        ratio = unlabeled_imbalance_ratio or imbalance_ratio
        unlabeled = counts.shaped(unlabeled_shape, maximum, ratio, num_classes)[rank]
    unlabeled = _explicit("unlabeled_counts", unlabeled_counts, num_classes, unlabeled)
    _check_fits(classes, labeled, unlabeled, validation_per_class)
    if shuffle:
        classes = [_generator(seed, "images", k).permutation(c) for k, c in enumerate(classes)]
    return _cut(classes, pool, labeled, unlabeled, validation_per_class, overlap)


def given(
    labels: np.ndarray,
    is_pool: np.ndarray | None = None,
    *,
    num_classes: int,
    overlap: bool = False,
) -> Split:
    """Takes every labeled image and every image of the pool, as real data come.

    Classes without any labeled image are allowed; nothing is held out, which `data.holdout` does.

    Args:
      labels: `[N]` int; -1 marks an unknown class: such images are the pool.
      is_pool: `[N]` bool, images that are of the pool, too, and never labeled.
      num_classes: `K`.
      overlap: the labeled images are unlabeled images as well.

    Raises:
      InputError: no image is labeled, or none is unlabeled.
    """
    classes, pool = _class_positions(labels, is_pool, num_classes)
    labeled = np.array([len(positions) for positions in classes], np.int64)
    if not labeled.any():
        raise InputError("no training image has a label; give some of each class")
    if not overlap and not any(map(len, pool)):
        raise InputError(
            "there is no image without a label; set data.split.overlap=True, which uses the labeled"
            " images as the pool, too, or give the pool as data.source.pool"
        )
    return _cut(classes, pool, labeled, np.zeros_like(labeled), 0, overlap)


def _refuse_ignored(**fields: float) -> None:
    for field, value in fields.items():
        if value:
            raise InputError(
                f"{field} is {value}, but unlabeled_shape 'all_rest' or unlabeled_counts decide the"
                f" unlabeled images already; leave {field} at 0, or choose another unlabeled_shape"
            )


def _unlabeled_max(num_max, unlabeled_num_max, label_fraction) -> float:
    if (unlabeled_num_max == 0) == (label_fraction == 0):
        raise InputError(
            f"unlabeled_num_max is {unlabeled_num_max} and label_fraction is {label_fraction}; "
            "set exactly one of them and leave the other at 0"
        )
    if unlabeled_num_max != 0:
        check("unlabeled_num_max", unlabeled_num_max, 1)
        return unlabeled_num_max
    if not 0 < label_fraction < 1:
        raise InputError(
            f"label_fraction is {label_fraction}; give a fraction between 0 and 1, "
            "such as 0.4 where 40 % of the images are labeled"
        )
    # 0.4 is no binary fraction: (1 - 0.4) / 0.4 * 200 lies just below 300 and would be truncated.
    return round((1 - label_fraction) / label_fraction * num_max, 6)


def _class_positions(labels, is_pool, num_classes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Positions by class: `K` arrays that may be labeled, and `K + 1` of the pool, unknown last."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels have shape {labels.shape} and type {labels.dtype}; give one integer per image"
        )
    if labels.size and not (-1 <= labels.min() and labels.max() < num_classes):
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()} for {num_classes} classes; "
            f"number the classes from 0 to {num_classes - 1}, or -1 where unknown"
        )
    bins = np.where(labels < 0, 2 * num_classes, labels.astype(np.int64))
    if is_pool is not None:
        bins += num_classes * (is_pool & (labels >= 0))
    # Sorted once: looking for each class in turn would cost images times classes.
    order = np.argsort(bins, kind="stable")
    sizes = np.bincount(bins, minlength=2 * num_classes + 1)
    positions = np.split(order, np.cumsum(sizes)[:-1])
    return positions[:num_classes], positions[num_classes:]


def _check_fits(classes, labeled, unlabeled, validation) -> None:
    if not labeled.all():
        raise InputError(
            f"class {int(np.argmin(labeled))} would have no labeled image; "
            "raise num_max or lower imbalance_ratio"
        )
    wanted = labeled + unlabeled + validation
    for k, (positions, want) in enumerate(zip(classes, wanted, strict=True)):
        if want > len(positions):
            raise InputError(
                f"class {k} has {len(positions)} images but the split asks for {want} "
                f"(labeled {labeled[k]} + unlabeled {unlabeled[k]} + validation {validation}); "
                "lower num_max, unlabeled_num_max or validation_per_class, "
                "or raise imbalance_ratio or label_fraction"
            )


def _cut(classes, pool, num_labeled, num_unlabeled, num_validation, overlap) -> Split:
    labeled, unlabeled, validation = [], [], []
    *marked, unknown = pool
    for positions, more, n, m in zip(classes, marked, num_labeled, num_unlabeled, strict=True):
        labeled.append(positions[:n])
        unlabeled.append(np.concatenate([positions[0 if overlap else n : n + m], more]))
        validation.append(positions[len(positions) - num_validation :])
    unlabeled_counts = np.array([len(positions) for positions in unlabeled], np.int64)
    arrays = {
        "labeled": np.concatenate(labeled),
        "unlabeled": np.concatenate([*unlabeled, unknown]),
        "validation": np.concatenate(validation),
    }
    if arrays["unlabeled"].size == 0:
        raise InputError(
            "the unlabeled set is empty; raise unlabeled_num_max, lower num_max or set overlap=True"
        )
    return Split(
        **arrays,
        is_labeled=np.isin(arrays["unlabeled"], arrays["labeled"]),
        labeled_counts=num_labeled,
        unlabeled_counts=unlabeled_counts,
        fingerprint=_fingerprint(arrays | {"labeled_counts": num_labeled}),
    )


def _fingerprint(arrays) -> str:
    digest = hashlib.sha256()
    for name, positions in arrays.items():
        digest.update(f"{name} {positions.size} ".encode())
        digest.update(positions.astype("<i8").tobytes())
    return digest.hexdigest()


def _explicit(name, wanted, num_classes, default) -> np.ndarray:
    if not len(wanted):
        return default
    if len(wanted) != num_classes:
        raise InputError(f"{name} has {len(wanted)} entries; give one per class, {num_classes}")
    for count in wanted:
        check(f"an entry of {name}", count, 0, whole=True)
    return np.array(wanted, np.int64)


def _generator(seed: int, stream: str, item: int = 0) -> np.random.Generator:
    entropy = (seed, zlib.crc32(stream.encode()), item)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
