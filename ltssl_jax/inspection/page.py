"""The page: one file without a reference to any other, for screens of any size."""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ltssl_jax.inspection.overview import PARTS

_WIDTH, _HEIGHT, _MARGIN = 720, 240, 64
_TO_OPEN = 60  # classes up to which their list is shown at once


def render(found: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    """Fills the template; whatever comes from file and class names is escaped.

    Args:
      found: the content of `inspect.json`.
      pictures: `samples`, a data URI or "" of each class; `copies`, a list of clusters, each with
        `picture`, `captions` and `is_conflict`.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"count": "{:,}".format, "percent": percent, "duration": duration}
    environment.filters |= {"mebibytes": lambda n: f"{n / 2**20:,.0f} MiB"}
    text = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        found=found, pictures=pictures, parts=PARTS, classes=classes(found, pictures["samples"]),
        chart=chart(found["counts"]), groups=groups(found), to_open=_TO_OPEN,
    )  # fmt: skip


def classes(found: Mapping[str, Any], samples: Sequence[str]) -> list[dict[str, Any]]:
    """Lists the classes, most labeled images first, with the width of a bar for each count."""
    counts = {part: np.array(of_part) for part, of_part in found["counts"].items()}
    largest = {part: max(1, of_part.max()) for part, of_part in counts.items()}
    return [
        {
            "name": found["data"]["class_names"][k],
            "counts": {part: int(counts[part][k]) for part in PARTS},
            "widths": {part: 100 * counts[part][k] / largest[part] for part in PARTS},
            "sample": samples[k],
        }
        for k in np.argsort(-counts["labeled"], kind="stable").tolist()
    ]


def chart(counts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Draws counts over the rank of the class by labeled images, on a logarithmic scale."""
    order = np.argsort(-np.array(counts["labeled"]), kind="stable")
    top = max(1, *(max(of_part) for of_part in counts.values()))
    decades = max(1, math.ceil(math.log10(top)))

    def y(count: float) -> float:
        # Half an image lies on the ground line, so that one and none can be told apart.
        share = math.log10(max(count, 0.5) / 0.5) / (decades + math.log10(2))
        return round(_HEIGHT - 16 - share * (_HEIGHT - 32), 1)

    xs = np.linspace(_MARGIN + 8, _WIDTH - 8, len(order)).round(1)
    lines = {
        part: " ".join(f"{x},{y(counts[part][k])}" for x, k in zip(xs, order, strict=True))
        for part in reversed(PARTS)
        if any(counts[part])
    }
    ticks = [{"text": f"{10**d:,}", "y": y(10**d)} for d in range(decades + 1)]
    return dict(lines=lines, ticks=ticks, width=_WIDTH, height=_HEIGHT, left=_MARGIN)


def groups(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists the groups of the shift report, with positions of bars in percent."""
    shift = found["shift"]
    if shift["reason"]:
        return []
    top = max(max(one["high"], one["labeled"]) for one in shift["groups"])
    names = found["data"]["class_names"]
    return [
        one
        | {"name": ", ".join(names[k] for k in one["classes"][:3]), "more": len(one["classes"]) - 3}
        | {f"{key}_at": 100 * one[key] / top for key in ("labeled", "pool", "low", "high")}
        for one in shift["groups"]
    ]


def percent(share: float) -> str:
    """Writes a share with two significant digits, where it has as many."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """Writes a time in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
