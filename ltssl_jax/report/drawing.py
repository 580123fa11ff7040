"""Pictures as SVG inside a page: they take its fonts, and its colours for light, dark and print."""

import contextlib
import html
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

WIDTH, HEIGHT = 400, 250  # pixels on a telephone; wider where there is room

# As on a light ground; in the page each is a variable of this name.
PALETTE = {
    "ink": "#22252a",
    "soft": "#6a707a",
    "line": "#e4e2dd",
    "card": "#fefefe",
    "blue": "#2f6fb0",
    "ochre": "#b07a1e",
    "purple": "#7a58a6",
    "green": "#2f8a5f",
    "red": "#b8432f",
    "grey": "#5b6471",
}
SERIES = ("blue", "ochre", "green", "purple", "red", "grey")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = "os^Dvx"
GROUPS = {"all": "ink", "many": "blue", "medium": "ochre", "few": "red"}


def svg(
    name: str,
    label: str,
    draw: Callable,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    rows: Sequence[float] = (1,),
) -> str:
    """Draws a figure.

    Args:
      name: distinct for each figure of a page.
      label: what is seen, for those who do not see it.
      draw: receives the axes, one below the other.
      width, height: pixels.
      rows: relative heights of the axes.

    Returns:
      An `svg` element whose text is text, equal for equal input.
    """
    from matplotlib.figure import Figure

    content = io.StringIO()
    with _style(name):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots(len(rows), height_ratios=rows, squeeze=False, sharex=len(rows) > 1)
        draw(*axes[:, 0])
        figure.savefig(content, format="svg")
    return _embedded(content.getvalue(), label)


def line(axes, steps: Sequence, values: Sequence, place: int, label: str, **how) -> None:
    """Draws the curve that is the `place`-th of a figure: colours and dashes are a pair's own."""
    style = {
        "color": PALETTE[SERIES[place % len(SERIES)]],
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)] if len(steps) <= 20 else None,
    }
    values = [float("nan") if value is None else value for value in values]
    axes.plot(steps, values, label=label, **style | how)


def group_style(name: str) -> dict[str, Any]:
    """Returns how the curve of a group of classes is drawn, everywhere."""
    place = list(GROUPS).index(name)
    return {
        "color": PALETTE[GROUPS[name]],
        "linestyle": DASHES[place],
        "marker": ".os^"[place],
        "linewidth": 2.2 if name == "all" else 1.6,
    }


def short(text: str, most: int) -> str:
    """Cuts a long name."""
    return text if len(text) <= most else text[: most - 1] + "…"


def legend(axes, columns: int = 3) -> None:
    """Names the curves above the axes."""
    number = len(axes.get_legend_handles_labels()[0])
    if number:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=min(columns, number))


def percents(axes, values: Iterable[float | None]) -> None:
    """Writes shares as percent, from a round number below the least of them to one above all."""
    from matplotlib.ticker import MaxNLocator

    known = [value for value in values if value is not None and not math.isnan(value)]
    low = 0.2 * math.floor(5 * max(0, min(known, default=0) - 0.02))
    high = 0.2 * math.ceil(5 * min(1, max(known, default=1) + 0.02))
    room = 0.04 * (high - low)  # for what lies on the rim
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")


def steps(axes, numbers: Sequence[int]) -> None:
    """Makes the horizontal axis one of steps, of the same width whatever is known at them."""
    room = 0.03 * (max(numbers) - min(numbers)) or 1
    axes.set_xlim(min(numbers) - room, max(numbers) + room)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.xaxis.get_major_locator().set_params(nbins=6, integer=True)
    axes.set_xlabel("step")


def counts(axes, numbers: Sequence[float]) -> None:
    """Makes the horizontal axis one of counts, logarithmic."""
    from matplotlib.ticker import LogLocator

    is_short = max(numbers) < 2000 * min(numbers)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else "0")
    axes.xaxis.set_minor_formatter(lambda *_: "")


def named(axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Writes names beside points where they hide no other name; some may find no place."""
    axes.figure.draw_without_rendering()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in axes.transData.transform(points)]
    frame = axes.bbox.extents
    for point, text in zip(points, texts, strict=True):
        x, y = axes.transData.transform(point)
        size = 5.5 * len(text)
        for dx, dy in ((6, -4), (-6 - size, -4), (-size / 2, 6), (-size / 2, -14)):
            box = (x + dx, y + dy, x + dx + size, y + dy + 8)
            if frame[0] <= box[0] and box[2] <= frame[2] and not any(_meet(box, b) for b in taken):
                axes.annotate(
                    text, point, (dx, dy), textcoords="offset points", fontsize=9, clip_on=False
                )
                taken.append(box)
                break


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@contextlib.contextmanager
def _style(name: str) -> Iterator[None]:
    import matplotlib

    soft, rule = PALETTE["soft"], PALETTE["line"]
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a dollar in the name of a class is a dollar
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "axes.edgecolor": rule,
        "axes.facecolor": "none",
        "axes.labelcolor": soft,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": rule,
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.major.size": 0,
        "text.color": PALETTE["ink"],
        "legend.frameon": False,
        "legend.fontsize": 10,
        "legend.handlelength": 1.8,
        "legend.columnspacing": 1.2,
        "legend.borderpad": 0.2,
        "lines.linewidth": 2,
        "lines.markersize": 4.5,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        # Only for measuring: the page has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Mean of empty slice")  # no image of a group
        yield


def _embedded(text: str, label: str) -> str:
    """Makes a file an element: without references, names, fonts and colours of its own."""
    text = text[text.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', text)[0]
    text = text[text.index(">") + 1 :]
    without = r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"
    text = re.sub(without, "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace(' xlink:href="', ' href="')
    text = re.sub(r'style="[^"]*"', lambda found: _styled(found[0]), text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    return f'<svg {box} role="img" aria-label="{html.escape(label)}">{text}'


def _styled(style: str) -> str:
    style = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", style)
    style = re.sub(r"font-family: [^;\"]*;? ?", "", style)
    for name, colour in PALETTE.items():
        style = style.replace(colour, f"var(--{name})")
    return style
