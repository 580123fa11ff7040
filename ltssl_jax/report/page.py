"""The page: one file without a reference to any other, for screens of any size and for paper."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ltssl_jax.report import charts, courses

METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "worst_class_recall": "worst class",
}
_SIDE = 96  # pixels that a picture keeps of its longer side


def render(found: Mapping[str, Any], pictures: Mapping[str, Sequence[str]]) -> str:
    """Fills the template; whatever comes from files and class names is escaped.

    Args:
      found: what `collected.collect` returns.
      pictures: of one run, data URIs of the images of `mistakes` by set; of several, nothing.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"count": "{:,}".format, "percent": percent, "points": points}
    environment.filters |= {"duration": duration, "flat": flat}
    text = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    drawn = courses.comparison(found) if found["comparison"] else charts.figures(found["runs"][0])
    return environment.from_string(text).render(
        found=found,
        run=found["runs"][0],
        pictures=pictures,
        figures=drawn,
        metrics=METRICS,
        spread=spread,
        most=dict(groups=courses.MOST_GROUPS, named=charts.NAMED, cells=charts.CELLS, shown=27),
    )


def picture(pixels: np.ndarray) -> str:
    """Returns a PNG of `[H, W, C]` uint8 as a data URI; pixels are enlarged by the page."""
    from PIL import Image

    is_grey = pixels.shape[2] < 3
    image = Image.fromarray(pixels[..., 0] if is_grey else pixels)
    longer = max(image.size)
    if longer > _SIDE:
        size = [max(1, round(side * _SIDE / longer)) for side in image.size]
        image = image.resize(size, Image.Resampling.BOX)
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def spread(number: Mapping[str, Any]) -> str:
    """Writes a mean in percent with its standard deviation and, always, of how many runs."""
    if not number["n"]:
        return "– (n = 0)"
    deviation = "" if number["std"] is None else f" ± {percent(number['std'])}"
    return f"{percent(number['mean'])}{deviation} (n = {number['n']})"


def percent(share: float | None) -> str:
    """Writes a share in percent, without the sign."""
    return "–" if share is None else f"{100 * share:.1f}"


def points(share: float | None) -> str:
    """Writes a difference in points of percent."""
    return "–" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Writes a time in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Lists the fields of a nested configuration by their dotted names."""
    found = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        is_block = isinstance(value, Mapping) and value
        found |= flat(value, f"{path}.") if is_block else {path: value}
    return found
