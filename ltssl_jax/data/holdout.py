"""Holds images out for testing and validation where a data set has no such parts of its own.

Groups (patients, sites, sequences) are never divided, every class gets as near to the wanted share
as its images and groups allow, none loses its last labeled image, and the same seed gives the same
images.
"""

import dataclasses
import math
import warnings
from fractions import Fraction

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Records, Source

NUM_DRAWS = 10  # of groups, of which the best is taken: they differ in size


def hold_out(source: Source, *, val_fraction: float, test_fraction: float, seed: int) -> Source:
    """Cuts test and validation images out of the labeled training images.

    Images for the pool are never held out; they leave the training set if they share a group with
    an image that is.

    Args:
      source: where the images come from.
      val_fraction: share of the labeled images, from 0.01 to 0.9, or 0 for none.
      test_fraction: likewise; not 0 if there is no test part.
      seed: decides which images are drawn.

    Returns:
      The source with other `train`, `test` and `val`, and notes on what was done.

    Raises:
      InputError: a fraction is out of range, or asks for a part that is there already; the test
        part is missing; or no image can be held out.
    """
    wanted = {"test": test_fraction, "val": val_fraction}
    _check(source, wanted, seed)
    train, parts, notes = source.train, {}, []
    labels, units = _labels(train), _units(train)
    total, is_gone = int((labels >= 0).sum()), np.zeros(len(train), bool)
    for part, fraction in wanted.items():
        if fraction:
            share = min(fraction * total / max((labels >= 0).sum(), 1), 0.9)
            is_held = _drawn(labels, units, share, seed, part)
            parts[part] = train.take(np.flatnonzero(is_held))
            notes.append(_note(part, labels, is_held, total, source.class_names))
            labels = np.where(is_held, -1, labels)
            is_gone |= np.isin(units, units[is_held])
    dropped = int(is_gone.sum()) - sum(map(len, parts.values()))
    if dropped:
        notes.append(f"{dropped:,} pool images share a group with held-out ones and are left out")
    rest = train.take(np.flatnonzero(~is_gone)) if parts else train
    return dataclasses.replace(source, train=rest, notes=(*source.notes, *notes), **parts)


def _check(source, wanted, seed) -> None:
    for part, fraction in wanted.items():
        is_right = fraction == 0 or 0.01 <= fraction <= 0.9
        field = f"data.source.{part}_fraction"
        InputError.check(is_right, field, fraction, "0, or from 0.01 to 0.9")
        records = getattr(source, part)
        if fraction and records is not None:
            raise InputError(
                f"{field} is {fraction}, but data set {source.name!r} has a {part} part of"
                f" {len(records):,} images; leave it at 0, or leave that part out"
            )
    InputError.check(0 <= seed < 2**32, "data.source.holdout_seed", seed, "from 0 to 2 ** 32 - 1")
    if source.test is None and not wanted["test"]:
        raise InputError(
            f"data set {source.name!r} has no test part; give one as data.source.test, or hold out"
            " some of the labeled images with data.source.test_fraction=0.2"
        )
    both = sum(wanted.values())
    InputError.check(both < 1, "data.source.val_fraction + test_fraction", both, "below 1")


def _labels(train: Records) -> np.ndarray:
    """Classes of the images that may be held out, -1 for all others."""
    return train.labels if train.is_pool is None else np.where(train.is_pool, -1, train.labels)


def _units(train: Records) -> np.ndarray:
    """Numbers that are equal where images must stay together."""
    each = np.arange(len(train))
    if train.groups is None:
        return each
    return np.where(train.groups >= 0, train.groups, train.groups.max(initial=-1) + 1 + each)


def _drawn(labels, units, share, seed, part) -> np.ndarray:
    """Marks the images to hold out, `[N]` bool."""
    is_held = np.zeros(len(labels), bool)
    rows = np.flatnonzero(labels >= 0)
    labels, units = labels[rows], np.unique(units[rows], return_inverse=True)[1]
    if rows.size and units.max() > 0:
        is_held[rows] = _spared(_best(labels, units, share, seed), labels, units)
    if not is_held.any():
        raise InputError(
            f"no image can be held out for the {part} part: every class would lose its last labeled"
            f" image or group; give the part as data.source.{part}, or label more images"
        )
    return is_held


def _best(labels, units, share, seed) -> np.ndarray:
    """The draw that is nearest to `share`, of all images and on average over the classes."""
    class_counts = np.bincount(labels)
    present = class_counts > 0
    strata = _strata(labels, units, class_counts)
    num_draws = NUM_DRAWS if len(strata) < len(labels) else 1
    best, least = None, math.inf
    for drawn in _draws(strata, share, seed, num_draws):
        is_held = np.isin(units, drawn)
        held = np.bincount(labels[is_held], minlength=len(class_counts))
        deviation = np.abs(held[present] / class_counts[present] - share).mean()
        deviation += abs(held.sum() / len(labels) - share)
        if deviation < least:
            best, least = is_held, deviation
    return best


def _strata(labels, units, class_counts) -> np.ndarray:
    """The rarest class in each unit: frequent ones, which are in many, even out by themselves."""
    order = np.lexsort((class_counts[labels], units))
    _, first = np.unique(units[order], return_index=True)
    return labels[order[first]]


def _draws(strata, share, seed, num_draws):
    """Yields sets of units, `k` of `n` stratified folds each."""
    from sklearn.model_selection import RepeatedStratifiedKFold

    most = min(max(20, math.ceil(1 / share)), len(strata))
    ratio = max(Fraction(share).limit_denominator(most), Fraction(1, most))
    k, n = min(ratio, 1 - Fraction(1, most)).as_integer_ratio()
    if np.bincount(strata).max() < n:
        strata = np.zeros_like(strata)  # no class is large enough for a share of its own
    splitter = RepeatedStratifiedKFold(n_splits=n, n_repeats=num_draws, random_state=seed)
    with warnings.catch_warnings():
        # of classes smaller than n, which here is no mistake; `_note` tells of those left out
        warnings.simplefilter("ignore", UserWarning)
        folds = [fold for _, fold in splitter.split(strata, strata)]
    for i in range(len(folds)):
        first = i - i % n
        yield np.concatenate([folds[first + (i + j) % n] for j in range(k)])


def _spared(is_held, labels, units) -> np.ndarray:
    """Gives the smallest unit back to each class that would have no labeled image left."""
    class_counts = np.bincount(labels)
    is_lost = class_counts == np.bincount(labels[is_held], minlength=len(class_counts))
    rows = np.flatnonzero(is_held & is_lost[labels])
    order = rows[np.lexsort((np.bincount(units)[units[rows]], labels[rows]))]
    _, first = np.unique(labels[order], return_index=True)
    return is_held & ~np.isin(units, units[order[first]])


def _note(part, labels, is_held, total, class_names) -> str:
    held = np.bincount(labels[is_held], minlength=len(class_names))
    missing = np.setdiff1d(labels[labels >= 0], labels[is_held])
    text = f"{part}: {held.sum():,} of {total:,} labeled images held out ({held.sum() / total:.1%})"
    if not missing.size:
        return text
    names = ", ".join(class_names[k] for k in missing[:5]) + (", …" if missing.size > 5 else "")
    return f"{text}; none of {missing.size} classes of few images or groups: {names}"
