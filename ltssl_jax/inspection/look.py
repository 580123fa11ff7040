"""Everything that is found out about a data set and its split, in one pass over the images.

The content of `inspect.json`; parts are labeled, pool (without labeled images), validation, test:

data          name, class_names, split_fingerprint, notes
totals        images of each part
counts        images of each class whose class is known, by part
pool_unknown, labeled_in_pool   pool images of unknown class; labeled images used unlabeled, too
imbalance     ratio, largest, smallest: labeled images of a class that has any
few           threshold, and the classes (numbers) with labeled images, but fewer
absent        classes (numbers) without image, by part
images        shape [H, W, C] for training; sizes of the files, or null
skipped       total, by_reason, files (the first 1000)
groups        groups on two sides: parts, groups, images; null where there are no groups
duplicates    exact and near: clusters, images, superfluous, conflicts, between (see `overlaps`),
              is_complete; listed: part, name and class of the images of the first 1000 clusters
shift         reason ("" if estimated); groups (classes, labeled, pool, low, high), distance,
              balanced_accuracy, chance, num_labeled, num_pool (see `shift.Shift`)
frechet       reason; see `frechet.Comparison`
cost          reason; compile_seconds, step_seconds, timed_steps, memory_bytes, steps,
              total_seconds, baseline_seconds (of the total), devices, feed
made_by       the command
findings      level (problem, warning, note) and text, most important first
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ltssl_jax.data.sources.base import Progress, Records, Source
from ltssl_jax.data.splits import Split
from ltssl_jax.inspection import (
    duplicates,
    features,
    frechet,
    overlaps,
    overview,
    pictures,
    probe,
    scan,
    shift,
)
from ltssl_jax.inspection.overview import PARTS

_MOST_LABELED, _MOST_POOL = 20_000, 10_000  # images whose features are computed
_DIMENSIONS = 128
_MOST_CLUSTERS, _SHOWN_OF_CLUSTER = 36, 4  # of copies, in pictures
_LISTED_CLUSTERS = 1000  # of copies, in the JSON file


def look(
    source: Source, split: Split, *, few: int, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inspects a data set.

    Args:
      source, split: what is inspected.
      few: a class with fewer labeled images is named.
      progress: called with (what is done, how much of it, out of how much).

    Returns:
      What `inspect.json` holds about the data, and the pictures for `page.render`.
    """
    found = overview.parts(source, split)
    facts, small = _scanned(found, progress)
    part = np.repeat(np.arange(len(PARTS)), [len(records) for records in found.values()])
    labels = np.concatenate([records.labels for records in found.values()])
    images = _Images(source, split, part)
    progress("comparing images", 0, 1)
    copies, clusters = _copies(facts, part, labels)
    copies["listed"] = [images.described(cluster) for cluster in clusters[:_LISTED_CLUSTERS]]
    content = {
        "data": {
            "name": source.name,
            "class_names": list(source.class_names),
            "split_fingerprint": split.fingerprint,
            "notes": list(source.notes),
        },
        **_counted(found, source.num_classes, few),
        "labeled_in_pool": int(split.is_labeled.sum()),
        "images": {
            "shape": list(source.train.image_shape),
            "sizes": overview.sizes(_headers(source)),
        },
        "skipped": overview.skipped(source.skipped),
        "groups": overview.shared_groups(found),
        "duplicates": copies,
        **_comparison(small, source.num_classes, progress),
    }
    shown = {
        "samples": _samples(found["labeled"], source.num_classes),
        "copies": [images.shown(cluster, labels) for cluster in clusters[:_MOST_CLUSTERS]],
    }
    return content, shown


def _headers(source: Source) -> np.ndarray | None:
    parts = (source.train, source.val, source.test)
    known = [part.headers for part in parts if part is not None and part.headers is not None]
    return np.concatenate(known) if known else None


def _counted(found: Mapping[str, Records], num_classes: int, few: int) -> dict[str, Any]:
    counts = overview.class_counts(found, num_classes)
    labeled = counts["labeled"]
    return {
        "totals": {name: len(records) for name, records in found.items()},
        "counts": {name: of_part.tolist() for name, of_part in counts.items()},
        "pool_unknown": int((found["pool"].labels < 0).sum()),
        "imbalance": overview.imbalance(labeled),
        "few": {
            "threshold": few,
            "classes": np.flatnonzero((labeled > 0) & (labeled < few)).tolist(),
        },
        "absent": {
            name: np.flatnonzero(counts[name] == 0).tolist()
            for name in ("labeled", "validation", "test")
            if len(found[name])
        },
    }


def _copies(facts: scan.Facts, part, labels) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Returns the counts of copies, and the clusters of those that look alike, worst first."""
    exact = duplicates.exact(facts.digests)
    near = duplicates.near(facts.digests, facts.hashes, facts.thumbnails)
    counted = {
        "distance": duplicates.DISTANCE,
        "correlation": duplicates.CORRELATION,
        "exact": overlaps.summary(exact, part, labels),
        "near": overlaps.summary(near, part, labels),
    }
    return counted, overlaps.worst_first(near, part, labels)


def _samples(labeled: Records, num_classes: int) -> list[str]:
    side = min(48, max(32, labeled.image_shape[0]))
    return [
        pictures.strip(labeled.read(rows), side=side) if len(rows) else ""
        for rows in pictures.samples(labeled.labels, num_classes)
    ]


class _Images:
    """The images of all parts, numbered through."""

    def __init__(self, source: Source, split: Split, part: np.ndarray):
        self._found = list(overview.parts(source, split).values())
        self._origins = list(overview.origins(source, split).values())
        self._class_names, self._part = source.class_names, part
        self._first = np.searchsorted(part, np.arange(len(PARTS)))

    def described(self, cluster: np.ndarray) -> list[dict[str, Any]]:
        """Says of each image where it is, what it is called, and its class ("" if unknown)."""
        described = []
        for i in cluster.tolist():
            records, at = self._at(i)
            origin, positions = self._origins[self._part[i]]
            label = int(records.labels[at])
            described.append(
                {
                    "part": PARTS[self._part[i]],
                    "name": records.names[at] if records.names else f"{origin}[{positions[at]}]",
                    "class": self._class_names[label] if label >= 0 else "",
                }
            )
        return described

    def shown(self, cluster: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """Returns the first images of a cluster of copies, with captions."""
        firsts = cluster[np.unique(self._part[cluster], return_index=True)[1]]  # one of each part
        chosen = np.concatenate([firsts, np.setdiff1d(cluster, firsts)])[:_SHOWN_OF_CLUSTER]
        images = np.concatenate(
            [records.read(np.array([at])) for records, at in map(self._at, chosen)]
        )
        captions = [
            f"{one['part']}: {one['class'] or '?'} ({one['name']})"
            for one in self.described(chosen)
        ]
        more = len(cluster) - len(chosen)
        return {
            "picture": pictures.strip(images, side=64),
            "captions": captions + [f"and {more:,} more"] * (more > 0),
            "is_conflict": overlaps.is_conflict(cluster, labels),
        }

    def _at(self, i: int) -> tuple[Records, int]:
        part = self._part[i]
        return self._found[part], int(i - self._first[part])


def _scanned(found: Mapping[str, Records], progress: Progress) -> tuple[scan.Facts, dict[str, Any]]:
    """Reads every image once; returns the facts of all, and the small images by part."""
    total, done, facts = sum(map(len, found.values())), 0, []
    most = {"labeled": _MOST_LABELED, "pool": _MOST_POOL}
    small = {}
    for part, records in found.items():
        rows = _drawn(len(records), most.get(part, 0))
        is_kept = np.isin(np.arange(len(records)), rows)

        def report(read: int, done: int = done) -> None:
            progress("reading images", done + read, total)

        facts.append(scan.scan(records, is_kept, report))
        small[part] = facts[-1].small, records.labels[is_kept]
        done += len(records)
    return scan.Facts(*map(np.concatenate, zip(*facts, strict=True))), small


def _drawn(size: int, most: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(size)[:most]


def _comparison(small, num_classes: int, progress: Progress) -> dict[str, Any]:
    """Compares labeled images and pool by features."""
    (labeled, labels), (pool, _) = small["labeled"], small["pool"]
    if not len(labeled) or not len(pool):
        reason = {"reason": "the pool has no images beside the labeled ones"}
        return {"shift": reason, "frechet": reason}
    progress("computing features", 0, 1)
    labeled, pool = _features(labeled, pool)
    progress("estimating the class frequencies of the pool", 0, 1)
    return {
        "shift": _shift(labeled, labels, pool, num_classes),
        "frechet": _frechet(labeled, pool),
    }


@threadpool_limits.wrap(limits=1)  # see `shift.estimate`
def _features(labeled: np.ndarray, pool: np.ndarray) -> list[np.ndarray]:
    both = np.concatenate([labeled, pool])
    vectors = features.extract(both, features.learn(both))
    return np.split(probe.project(vectors, _DIMENSIONS), [len(labeled)])


def _shift(labeled, labels, pool, num_classes: int) -> dict[str, Any]:
    try:
        found = shift.estimate(labeled, labels, pool, num_classes=num_classes)
    except shift.NotEstimable as error:
        return {"reason": str(error)}
    columns = (found.labeled, found.pool, found.low, found.high)
    return {
        "reason": "",
        "groups": [
            dict(zip(("classes", "labeled", "pool", "low", "high"), row, strict=True))
            for row in zip(
                [g.tolist() for g in found.groups], *(c.tolist() for c in columns), strict=True
            )
        ],
        "distance": list(found.distance),
        "balanced_accuracy": found.balanced_accuracy,
        "chance": found.chance,
        "num_labeled": len(labels),
        "num_pool": len(pool),
    }


def _frechet(labeled, pool) -> dict[str, Any]:
    found = frechet.compare(labeled, pool)
    if found is None:
        return {"reason": "64 labeled images and 128 of the pool are the least"}
    return {"reason": "", **found._asdict()}
