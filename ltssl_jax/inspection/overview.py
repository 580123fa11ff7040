"""What a data set and its split hold: counts, sizes, skipped files, groups on two sides."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ltssl_jax.data.sources.base import Records, Skipped, Source
from ltssl_jax.data.splits import Split

PARTS = ("labeled", "pool", "validation", "test")


def origins(source: Source, split: Split) -> dict[str, tuple[str, np.ndarray]]:
    """Says of each part where its images come from: field of the source, and positions there.

    The pool is without the images that are labeled, too.
    """
    if source.val is None:
        validation = "train", split.validation
    else:
        validation = "val", np.arange(len(source.val))
    return {
        "labeled": ("train", split.labeled),
        "pool": ("train", split.unlabeled[~split.is_labeled]),
        "validation": validation,
        "test": ("test", np.arange(len(source.test))),
    }


def parts(source: Source, split: Split) -> dict[str, Records]:
    """Returns the images of each part."""
    where = origins(source, split)
    return {part: getattr(source, name).take(at) for part, (name, at) in where.items()}


def class_counts(found: Mapping[str, Records], num_classes: int) -> dict[str, np.ndarray]:
    """Counts the images `[K]` of each part whose class is known."""
    return {
        part: np.bincount(records.labels[records.labels >= 0], minlength=num_classes)
        for part, records in found.items()
    }


def imbalance(labeled: np.ndarray) -> dict[str, Any]:
    """Returns the largest over the smallest count of classes that have any labeled image."""
    some = labeled[labeled > 0]
    return {
        "ratio": float(some.max() / some.min()),
        "largest": int(some.max()),
        "smallest": int(some.min()),
    }


def shared_groups(found: Mapping[str, Records]) -> list[dict[str, Any]] | None:
    """Lists groups that lie on two sides, of training and of evaluation; None without groups."""
    groups = {part: r.groups for part, r in found.items() if r.groups is not None and len(r)}
    if not groups:
        return None
    shared = []
    for a in set(groups) & {"labeled", "pool"}:
        for b in set(groups) & {"validation", "test"}:
            both = np.intersect1d(groups[a], groups[b])
            both = both[both >= 0]
            images = int(np.isin(groups[b], both).sum())
            if images:
                shared.append({"parts": [a, b], "groups": len(both), "images": images})
    return sorted(shared, key=lambda one: one["parts"])


def skipped(files: Iterable[Skipped], *, most_listed: int = 1000) -> dict[str, Any]:
    """Counts skipped files by part and reason, most frequent first, and lists the first ones."""
    files = list(files)
    counts = Counter((one.part, one.reason) for one in files).most_common()
    return {
        "total": len(files),
        "by_reason": [
            {"part": part, "reason": reason, "count": count} for (part, reason), count in counts
        ],
        "files": [one._asdict() for one in files[:most_listed]],
    }


def sizes(headers: np.ndarray | None, *, most_listed: int = 20) -> dict[str, Any] | None:
    """Counts widths, heights and channels `[N, 3]` of files; None where none are known."""
    if headers is None or not len(headers):
        return None
    found, counts = np.unique(headers, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {
        "smallest": headers.min(axis=0).tolist(),
        "median": np.median(headers, axis=0).astype(int).tolist(),
        "largest": headers.max(axis=0).tolist(),
        "distinct": len(found),
        "most_common": [
            {"width": w, "height": h, "channels": c, "count": n}
            for (w, h, c), n in zip(found[order].tolist(), counts[order].tolist(), strict=True)
        ][:most_listed],
    }
