"""Cuts a data set by a protocol of the literature, so that a number meets those it belongs with.

A protocol fixes, for each data set, whether the labeled images are unlabeled ones, too, which
images of a class are taken, how many are held out, and what "uniform" means (`data.published`). The
counts stay those of the user, who is told if nobody published them.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data import counts, splits
from ltssl_jax.data.published import GIVEN, UNLESS_SEED_0, Conventions, conventions
from ltssl_jax.data.sources.base import Records
from ltssl_jax.data.splits import Split

# What a field of a split is when nobody decided anything.
NEUTRAL = {
    name: parameter.default
    for name, parameter in inspect.signature(splits.long_tailed).parameters.items()
    if parameter.kind == parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
}


def apply(
    protocol: str, dataset: str, fields: Mapping[str, Any], class_counts: np.ndarray
) -> dict[str, Any]:
    """Returns the fields of a split as the protocol has them.

    A field that the protocol fixes may be left as it is by default, or say the same. Counts stay
    as they are, unless the protocol has no choice of them.

    Args:
      protocol: see `conventions`.
      dataset: see `conventions`.
      fields: arguments of `splits.long_tailed`.
      class_counts: `[K]` int, images that may be labeled.

    Raises:
      InputError: a field says something else, no counts are given; or see `conventions`.
    """
    known = conventions(protocol, dataset)
    fields = NEUTRAL | dict(fields)
    fixed = _fixed(known, fields["seed"], class_counts)
    for field, value in fixed.items():
        if fields[field] not in (NEUTRAL[field], value):
            raise InputError(
                f"data.split.{field} is {fields[field]!r}, but protocol {protocol!r} has {value!r}"
                f" on {dataset}; leave it at {NEUTRAL[field]!r}, or set data.split.protocol='' to"
                " choose all fields yourself"
            )
    _check_uniform(protocol, known.uniform, fields)
    _check_counts(protocol, dataset, known, fields)
    return fields | fixed


def cut(
    train: Records, *, num_classes: int, dataset: str, protocol: str = "", **fields: Any
) -> tuple[Split, tuple[str, ...]]:
    """Cuts a training set by a published protocol, by the fields alone, or not at all.

    Args:
      train: its labels, and which images are for the pool.
      num_classes: `K`.
      dataset: see `conventions`; read only where a published protocol is named.
      protocol: a published one; "" for the fields of `splits.long_tailed` as they are; "given" for
        labels and pool as they are (of the fields, only `overlap` counts).
      fields: `config.data.split`.

    Returns:
      The split, and what a person should know about it.

    Raises:
      InputError: see `apply`, `splits.long_tailed` and `splits.given`.
    """
    images = (train.labels, train.is_pool)
    if protocol == GIVEN:
        return splits.given(*images, num_classes=num_classes, overlap=_only_overlap(fields)), ()
    if not protocol:
        return splits.long_tailed(*images, num_classes=num_classes, **fields), ()
    pool = train.labels < 0 if train.is_pool is None else (train.labels < 0) | train.is_pool
    class_counts = np.bincount(train.labels[~pool], minlength=num_classes)
    fields = apply(protocol, dataset, fields, class_counts)
    split = splits.long_tailed(*images, num_classes=num_classes, **fields)
    return split, tuple(_notes(protocol, dataset, fields, split, class_counts))


def _fixed(known: Conventions, seed: int, class_counts) -> dict[str, Any]:
    shuffle = seed != 0 if known.shuffle == UNLESS_SEED_0 else known.shuffle
    fixed = dict(overlap=known.overlap, shuffle=shuffle, validation_per_class=known.held_out)
    fixed["permute_classes"] = False  # of all protocols the first class is the most frequent one
    if known.pool == "own":
        fixed |= dict(unlabeled_counts=(0,) * len(class_counts), unlabeled_shape="consistent")
    if known.pool == "rest":
        fixed["unlabeled_shape"] = "all_rest"
    if known.labeled_share:
        labeled = np.around(known.labeled_share * class_counts)
        fixed["labeled_counts"] = tuple(labeled.astype(int).tolist())
    return {field: value for field, value in fixed.items() if value is not None}


def _check_uniform(protocol, uniform, fields) -> None:
    """Two shapes are called uniform; and ratio 1, which gives the first, is in some configs."""
    shape, ratio = fields["unlabeled_shape"], fields["unlabeled_imbalance_ratio"]
    if not uniform or shape == uniform:
        return
    if shape.startswith("uniform") or (ratio == 1 and uniform == "uniform_mean"):
        raise InputError(
            f"data.split.unlabeled_shape is {shape!r} with unlabeled_imbalance_ratio {ratio:g}, but"
            f" protocol {protocol!r} means {uniform!r} by uniform; set unlabeled_shape={uniform!r}"
            " and leave the ratio at 0, or set data.split.protocol=''"
        )


def _check_counts(protocol, dataset, known, fields) -> None:
    given = ("unlabeled_num_max", "label_fraction", "unlabeled_counts")
    is_given = fields["unlabeled_shape"] == "all_rest" or any(fields[name] for name in given)
    if known.pool == "chosen" and not is_given:
        raise InputError(
            f"protocol {protocol!r} leaves the counts to you: set data.split.num_max,"
            f" unlabeled_num_max and imbalance_ratio; published on {dataset}: {_words(known)}"
        )


def _only_overlap(fields) -> bool:
    for name, neutral in NEUTRAL.items():
        if name not in ("overlap", "seed") and fields.get(name, neutral) != neutral:
            raise InputError(
                f"data.split.{name} is {fields[name]!r}, but data.split.protocol='given' takes"
                f" labels and pool as they are; leave it at {neutral!r}. To hold images out, set"
                " data.source.val_fraction or test_fraction"
            )
    return fields.get("overlap", False)


def _notes(protocol, dataset, fields, split, class_counts):
    known = conventions(protocol, dataset)
    if known.shuffle is None:
        used = fields["shuffle"]
        yield f"protocol {protocol!r}: whether it shuffles is not known; shuffle={used} is used"
    if not known.labeled_share and not _is_published(known, split, class_counts):
        yield (
            f"protocol {protocol!r}: these counts are none that are known to be published on"
            f" {dataset}, which are: {_words(known)}"
        )


def _is_published(known, split, class_counts) -> bool:
    labeled = split.labeled_counts
    others = split.unlabeled_counts - labeled if known.overlap else split.unlabeled_counts
    for setting in known.settings:
        if np.array_equal(labeled, _labeled(setting, len(labeled))):
            if known.pool != "chosen":
                return True
            # What a class does not have is silently missing in the released codes: SVHN's class 0.
            fitting = np.minimum(_unlabeled(setting, len(labeled)), class_counts - labeled)
            if np.array_equal(others, fitting):
                return True
    return False


def _labeled(setting, num_classes) -> Sequence[int]:
    if "labeled_counts" in setting:
        return setting["labeled_counts"]
    return counts.long_tailed(setting["num_max"], setting["imbalance_ratio"], num_classes)


def _unlabeled(setting, num_classes) -> Sequence[int]:
    if "unlabeled_counts" in setting:
        return setting["unlabeled_counts"]
    shape = setting.get("unlabeled_shape", "consistent")
    ratio = setting.get("unlabeled_imbalance_ratio", setting["imbalance_ratio"])
    return counts.shaped(shape, setting["unlabeled_num_max"], ratio, num_classes)


def _words(known) -> str:
    settings = [" ".join(f"{k}={v}" for k, v in setting.items()) for setting in known.settings]
    return "; ".join(settings) or "none known"
