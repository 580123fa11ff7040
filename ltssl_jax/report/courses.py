"""The figures of what changed over the steps of one run, and of several."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.report import drawing
from ltssl_jax.report.drawing import (
    PALETTE,
    group_style,
    legend,
    line,
    percents,
    short,
)

Found = Mapping[str, Any]

MOST_GROUPS = 12  # in one figure: more cannot be told apart
_COLLAPSE = "collapse/"  # and the kind of pseudo-labels: the name of an alarm
_RANKS = 25  # points of a curve over classes; more classes share them


def training(run: Found) -> dict[str, str]:
    """Draws losses, scores, masks and, where it changes, the learning rate over steps."""
    found = run["curves"]
    losses = {"total": found["loss"]} if "loss" in found else {}
    losses |= _below(found, "loss/")
    sets = [name for name in ("test", "validation") if f"{name}/balanced_accuracy" in found]
    scores = {f"{name}, balanced": found[f"{name}/balanced_accuracy"] for name in sets}
    scores |= {f"{name}, few": found[f"{name}/few"] for name in sets if f"{name}/few" in found}
    rate = found.get("learning_rate", {"values": [0]})
    masks = {} if run["pseudo"]["kinds"] else _below(found, "monitor/mask/")  # coverage says it
    made = {
        "scores": _over_steps(
            "scores", "Balanced accuracy and recall of rare classes", scores, True
        ),
        "losses": _over_steps("losses", "Terms of the loss", losses, False),
        "masks": _over_steps("masks", "Share of unlabeled images in the loss", masks, True),
    }
    if max(rate["values"]) - min(rate["values"]) > 1e-6 * max(rate["values"]):
        made["rate"] = _over_steps("rate", "Learning rate", {"learning rate": rate}, False)
    return made


def pseudo(run: Found) -> dict[str, str]:
    """Draws coverage, precision, recall and divergence of pseudo-labels over steps."""
    kinds = run["pseudo"]["kinds"]
    at = [one["step"] for one in run["alarms"] if one["name"].startswith(_COLLAPSE)]
    coverage = {
        name: {"steps": one["steps"], "values": one["coverage"]} for name, one in kinds.items()
    }
    made = {"coverage": _over_steps("coverage", "Coverage of pseudo-labels", coverage, True, at)}
    for name, one in kinds.items():
        at = [one["step"] for one in run["alarms"] if one["name"] == _COLLAPSE + name]
        for what in ("precision", "recall"):
            if one[what]:
                title = f"{what} of pseudo-labels {name}"
                made[f"{what} {name}"] = _by_group(title, one["steps"], one[what], at)
        if one["divergence"]:
            curves = {
                f"from {of}": {"steps": one["steps"], "values": values}
                for of, values in one["divergence"].items()
            }
            title = f"Divergence of kept pseudo-labels {name} from class frequencies"
            made[f"divergence {name}"] = _over_steps(f"divergence {name}", title, curves, True, at)
        made[f"kept {name}"] = _kept(run, name)
    return made


def comparison(found: Mapping[str, Any]) -> dict[str, str]:
    """Draws several runs: scores over steps, and recall over the rank of the class."""
    made = {}
    for name in ("balanced_accuracy", "few"):
        label = f"{name.replace('_', ' ')} on the test set over steps, by group of runs"
        made[name] = _overlaid(name, label, found, f"test/{name}")
    made["ranks"] = _ranks(found)
    return {name: svg for name, svg in made.items() if svg}


def _overlaid(name: str, label: str, found: Found, key: str) -> str:
    """Draws each run thin and, where there are several of a group, their mean."""
    groups = []
    for group in found["comparison"]["groups"][:MOST_GROUPS]:
        of = [found["runs"][i]["curves"] for i in group["runs"]]
        groups += [(group["name"], [one[key] for one in of if key in one])]
    groups = [(title, curves) for title, curves in groups if curves]
    if not groups:
        return ""

    def draw(axes):
        for place, (title, curves) in enumerate(groups):
            how = {} if len(curves) == 1 else dict(linewidth=0.8, alpha=0.55, marker=None)
            has_mean = len(curves) > 1 and len({tuple(curve["steps"]) for curve in curves}) == 1
            for number, curve in enumerate(curves):
                text = None if has_mean or number else short(title, 40)
                line(axes, curve["steps"], curve["values"], place, text, **how)
            if has_mean:
                mean = np.mean([curve["values"] for curve in curves], axis=0)
                line(axes, curves[0]["steps"], mean, place, f"{short(title, 36)}, mean")
        percents(axes, [v for _, curves in groups for curve in curves for v in curve["values"]])
        _steps(axes, [x for _, of in groups for curve in of for x in curve["steps"]], columns=1)

    return drawing.svg(f"compare {name}", label, draw, height=250 + 14 * len(groups))


def _ranks(found: Found) -> str:
    """Draws the mean recall of each group of runs over classes from frequent to rare."""
    curves = {}
    for group in found["comparison"]["groups"][:MOST_GROUPS]:
        of = [found["runs"][i]["classes"] for i in group["runs"]]
        ranked = [_ranked(one) for one in of if one["recall"]]
        if ranked and len({len(one) for one in ranked}) == 1:
            curves[group["name"]] = np.mean(ranked, axis=0)

    def draw(axes):
        for place, (title, recall) in enumerate(curves.items()):
            size = -(-len(recall) // _RANKS)
            starts = np.arange(0, len(recall), size)
            means = [np.nanmean(recall[start : start + size]) for start in starts]
            line(axes, starts + (size + 1) / 2, means, place, short(title, 40))
        percents(axes, np.concatenate(list(curves.values())))
        axes.xaxis.get_major_locator().set_params(nbins=8, integer=True)
        axes.set_xlabel("class, by rank of labeled images")
        legend(axes, 1)

    label = "Recall on the test set over the rank of the class, by group of runs"
    height = 250 + 14 * len(curves)
    return drawing.svg("compare ranks", label, draw, height=height) if curves else ""


def _ranked(classes: Found) -> np.ndarray:
    recall = np.array([math.nan if r is None else r for r in classes["recall"]])
    return recall[np.argsort(-np.array(classes["labeled"]), kind="stable")]


def _below(found: Found, prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def _over_steps(
    name: str, label: str, curves: Found, is_share: bool, alarms: Sequence[int] = ()
) -> str:
    if not curves:
        return ""

    def draw(axes):
        for place, (title, curve) in enumerate(curves.items()):
            line(axes, curve["steps"], curve["values"], place, short(title, 24))
        values = [value for curve in curves.values() for value in curve["values"]]
        # A term that rewards, such as fairness, is below zero.
        percents(axes, values) if is_share else axes.set_ylim(bottom=min(0, 1.05 * min(values)))
        _steps(axes, [x for curve in curves.values() for x in curve["steps"]], alarms)

    return drawing.svg(name, f"{label} over steps", draw)


def _by_group(title: str, steps: Sequence[int], values: Found, alarms: Sequence[int]) -> str:
    def draw(axes):
        for name, of_group in values.items():
            if any(value is not None for value in of_group):
                clean = [math.nan if value is None else value for value in of_group]
                style = group_style(name) | ({"marker": None} if len(steps) > 20 else {})
                axes.plot(steps, clean, label=name, **style)
        percents(axes, [value for of_group in values.values() for value in of_group])
        _steps(axes, steps, alarms, columns=4)

    return drawing.svg(title, f"{title} by group of classes over steps", draw)


def _steps(axes, steps: Sequence[int], alarms: Sequence[int] = (), *, columns: int = 2) -> None:
    for place, step in enumerate(alarms):
        label = None if place else "alarm: collapse"
        axes.axvline(step, color=PALETTE["red"], linewidth=1.2, label=label)
    drawing.steps(axes, steps)
    legend(axes, columns)


def _kept(run: Found, kind: str) -> str:
    """Draws the classes of the last kept pseudo-labels beside those of pool and labeled images."""
    kept = np.array(run["pseudo"]["kinds"][kind]["last"]["kept"])
    if not kept.sum():
        return ""
    order = np.argsort(-np.array(run["classes"]["labeled"]), kind="stable")
    shares = {"kept": kept / kept.sum()} | {
        {"labeled": "labeled"}.get(of, f"pool, {of}"): np.array(prior)
        for of, prior in run["pseudo"]["priors"].items()
    }

    def draw(axes):
        axes.set_yscale("symlog", linthresh=0.3 / len(order), linscale=0.3)
        for place, (name, share) in enumerate(shares.items()):
            how = dict(marker=None) if len(order) > 30 else {}
            width = 2 if place == 0 else 1.4
            line(
                axes,
                np.arange(1, len(order) + 1),
                share[order],
                place,
                name,
                linewidth=width,
                **how,
            )
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g} %")
        axes.xaxis.get_major_locator().set_params(nbins=8, integer=True)
        axes.set_xlabel("class, by rank of labeled images")
        legend(axes, 2)

    label = f"Share of each class among kept pseudo-labels {kind}, pool and labeled images"
    return drawing.svg(f"kept {kind}", label, draw)
