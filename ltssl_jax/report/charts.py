"""The figures of one run, from its numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.report import courses, drawing
from ltssl_jax.report.drawing import (
    GROUPS,
    PALETTE,
    counts,
    group_style,
    legend,
    named,
    percents,
    short,
)

NAMED = 20  # classes up to which each is named, and each cell has its number
_WORST = 6  # classes that are named where there are more
CELLS = 200  # rows of the picture of a confusion matrix; more classes share them

Found = Mapping[str, Any]


def figures(run: Found) -> dict[str, str]:
    """Draws what there are numbers for: `svg` elements by name."""
    made = {
        "recalls": recalls(run["classes"]) if run["classes"]["recall"] else "",
        "confusion": confusion(run) if run["confusion"] else "",
        **(calibration(run["calibration"]) if run["calibration"] else {}),
        **courses.training(run),
        **courses.pseudo(run),
    }
    return {name: svg for name, svg in made.items() if svg}


def recalls(classes: Found) -> str:
    """Draws the recall of each class over its labeled images, and the means of the groups."""
    labeled = np.maximum(np.array(classes["labeled"], float), 0.5)  # none has a place, too
    alpha = 0.9 if len(labeled) <= 200 else 0.45
    recall = np.array([math.nan if r is None else r for r in classes["recall"]])

    def draw(axes):
        counts(axes, labeled)
        for name, ids in classes["groups"].items():
            if ids:
                style = group_style(name) | dict(linestyle="", alpha=alpha)
                axes.plot(labeled[ids], recall[ids], label=name, **style)
                ends = [labeled[ids].min() / 1.04, labeled[ids].max() * 1.04]
                colour = PALETTE[GROUPS[name]]
                axes.plot(ends, [np.nanmean(recall[ids])] * 2, color=colour, linewidth=1.2)
        percents(axes, recall)
        axes.set_xlabel("labeled images of the class")
        legend(axes)
        number = NAMED if len(recall) <= NAMED else _WORST if len(recall) <= CELLS else 0
        shown = np.argsort(recall, kind="stable")[:number]  # unknown ones last; they have no place
        texts = [short(classes["names"][k], 18) for k in shown]
        named(axes, [(labeled[k], recall[k]) for k in shown], texts)

    label = "Recall of each class on the test set over its number of labeled images"
    return drawing.svg("recalls", label, draw, height=400)


def confusion(run: Found) -> str:
    """Draws shares of true classes (rows) by predicted one, most labeled first; right ones blue."""
    classes = run["classes"]
    number = len(classes["names"])
    order = np.argsort(-np.array(classes["labeled"]), kind="stable")
    shares, is_right = blocks(run["confusion"]["cells"], order)
    colours = np.zeros((*shares.shape, 4), np.uint8)
    colours[..., :3] = np.where(is_right[..., None], _rgb("blue"), _rgb("red"))
    # The root lifts what is rare out of the ground, and paper shows it, too.
    colours[..., 3] = np.round(255 * np.sqrt(shares))

    def draw(axes):
        axes.imshow(colours, interpolation="none", extent=(0, number, number, 0))
        axes.grid(False)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if number <= NAMED:
            _write_cells(axes, shares, [short(classes["names"][k], 14) for k in order])
        else:
            _mark_groups(axes, [len(ids) for ids in classes["groups"].values()])

    label = "Confusion matrix on the test set, classes by number of labeled images"
    return drawing.svg("confusion", label, draw, height=400)


def blocks(cells: Sequence[Sequence[int]], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the picture `[n, n]` of shares, blocks of classes averaged, and which are right."""
    number = len(order)
    size = math.ceil(number / CELLS)
    place = np.empty(number, int)
    place[order] = np.arange(number)
    true, said, images = np.array(cells).T
    weights = images / np.bincount(true, images, number)[true]
    side = math.ceil(number / size)
    shares, hits = np.zeros((2, side, side))
    where = place[true] // size, place[said] // size
    np.add.at(shares, where, weights)
    np.add.at(hits, where, weights * (true == said))
    present = np.bincount(place[np.unique(true)] // size, minlength=side)
    return shares / np.maximum(present, 1)[:, None], hits > shares / 2


def _write_cells(axes, shares: np.ndarray, names: Sequence[str]) -> None:
    middles = np.arange(len(names)) + 0.5
    is_long = max(map(len, names)) * len(names) > 50
    axes.set_xticks(middles, names, rotation=90 if is_long else 0)
    axes.set_yticks(middles, names)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = PALETTE["card" if share > 0.35 else "ink"]
            at = dict(ha="center", va="center", fontsize=9 if len(names) <= 12 else 6.5)
            axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", color=colour, **at)


def _mark_groups(axes, sizes: Sequence[int]) -> None:
    ends = np.cumsum([0, *sizes])
    for end in ends[1:-1]:
        for rule in (axes.axhline, axes.axvline):
            rule(end, color=PALETTE["soft"], linewidth=0.7)
    middles = (ends[:-1] + ends[1:]) / 2
    axes.set_xticks(middles, list(GROUPS)[1:])
    axes.set_yticks(middles, list(GROUPS)[1:], rotation=90, va="center")


def calibration(found: Found) -> dict[str, str]:
    """Draws reliability on the test set: as trained and with a temperature, and by group."""

    def overall(axes, below):
        _diagonal(axes)
        for when, (label, colour, marker) in _WHEN.items():
            if found[when]:
                bins = found[when]["bins"]["all"]
                _bins(axes, bins, label, color=PALETTE[colour], marker=marker)
                x, y = ([one[key] for one in bins] for key in ("confidence", "count"))
                below.bar(x, y, width=0.02, color=PALETTE[colour], alpha=0.8)
        legend(axes)
        below.set_ylabel("images")
        below.set_yscale("log")
        below.set_ylim(bottom=0.7)
        below.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
        below.set_xlabel("probability of the predicted class")

    def groups(axes):
        _diagonal(axes)
        for name, bins in found["after" if found["after"] else "before"]["bins"].items():
            if name != "all" and bins:
                style = group_style(name)
                _bins(axes, bins, name, **style)
        legend(axes)
        axes.set_xlabel("probability of the predicted class")

    label = "Reliability diagram: share of right predictions over their probability"
    return {
        "reliability": drawing.svg("reliability", label, overall, height=330, rows=(3, 1)),
        "reliability_groups": drawing.svg(
            "reliability_groups", f"{label}, by group of true classes", groups, height=330
        ),
    }


_WHEN = {"before": ("as trained", "blue", "o"), "after": ("with temperature", "ochre", "s")}


def _bins(axes, bins: Sequence[Found], label: str, **style) -> None:
    """Draws bins as marks the larger the more images they hold, since few say little."""
    x, y, counts = ([one[key] for one in bins] for key in ("confidence", "accuracy", "count"))
    sizes = 12 + 90 * np.sqrt(np.array(counts) / max(counts))
    axes.plot(x, y, **style | dict(marker="", linewidth=1, alpha=0.6))
    axes.scatter(x, y, sizes, label=label, color=style["color"], marker=style["marker"])


def _diagonal(axes) -> None:
    axes.plot([0, 1], [0, 1], color=PALETTE["soft"], linewidth=1, linestyle=(0, (2, 3)))
    percents(axes, [0, 1])
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes.set_ylabel("right")


def _rgb(name: str) -> list[int]:
    return [int(PALETTE[name][i : i + 2], 16) for i in (1, 3, 5)]
