"""How a time grows along an axis: timing it, judging it, showing it."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import harness
import numpy as np

TOLERANCE = 0.25  # of an exponent between the first and the last point
LOCAL_TOLERANCE = 0.5  # between neighbours: leaving the caches of a CPU is no surprise
Works = dict[int, Callable[[], Any]]


class Axis(NamedTuple):
    """What is varied, what is timed, and the exponent that its growth may have.

    Attributes:
      title: what one call does.
      allowed: exponent of the work that nobody can avoid.
      works: what to time, by the value on the axis.
      repeats: how often one call does it.
    """

    title: str
    allowed: float
    works: Works
    repeats: int = 1


def judged(title: str, allowed: float, times: Mapping[int, list[float]]) -> dict[str, Any]:
    """Summarizes the times of an axis: points, line, exponents of the growth, verdict."""
    xs = np.array(list(times), float)
    low, median, high = np.percentile(list(times.values()), [25, 50, 75], axis=1)
    slope, intercept = np.polyfit(xs, median, 1)
    logs = np.log([xs, median])
    local = np.divide(*np.diff(logs)[::-1])
    exponent = np.divide(*(logs[:, -1] - logs[:, 0])[::-1])
    columns = dict(
        x=xs, low=low, median=median, high=high, relative=median / median[0],
        per_unit=median / xs * (xs[0] / median[0]), exponent=[0.0, *local],
    )  # fmt: skip
    is_surprise = exponent > allowed + TOLERANCE or max(local) > allowed + LOCAL_TOLERANCE
    return dict(
        title=title,
        points=[
            dict(zip(columns, map(float, row), strict=True))
            for row in zip(*columns.values(), strict=True)
        ],
        intercept=float(intercept),
        slope=float(slope),
        exponent=float(exponent),
        allowed=allowed,
        verdict="SURPRISE" if is_surprise else "as it must",
    )


def timed(axis: Axis, rounds: int) -> dict[str, Any]:
    """Times all points of an axis in turns."""
    times = harness.in_turns({str(x): work for x, work in axis.works.items()}, rounds=rounds)
    per_call = {x: [t / axis.repeats for t in times[str(x)]] for x in axis.works}
    return judged(axis.title, axis.allowed, per_call)


def show(entry: Mapping[str, Any]) -> None:
    """Prints one axis."""
    print(f"\n{entry['title']}")
    heads = ("ms", "quartiles", "relative", "per unit", "exponent")
    print("{:>10} {:>10} {:>21} {:>9} {:>9} {:>9}".format("x", *heads))
    for p in entry["points"]:
        low, median, high = (f"{1e3 * p[key]:.4g}" for key in ("low", "median", "high"))
        print(
            f"{p['x']:>10,.0f} {median:>10} {f'{low} - {high}':>21} {p['relative']:>9.2f}"
            f" {p['per_unit']:>9.4f} {p['exponent']:>9.2f}"
        )
    print(
        f"  {1e3 * entry['intercept']:.4g} ms + {1e3 * entry['slope']:.3g} ms * x; grows as"
        f" x^{entry['exponent']:.2f}, allowed x^{entry['allowed']:g}: {entry['verdict']}",
        flush=True,
    )


def draw(entries: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws axes side by side."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (3 * len(entries), 3)
    figure, panels = pyplot.subplots(1, len(entries), figsize=size, squeeze=False)
    for panel, (name, entry) in zip(panels[0], entries.items(), strict=True):
        xs = [p["x"] for p in entry["points"]]
        low, middle, high = (
            [1e3 * p[key] for p in entry["points"]] for key in ("low", "median", "high")
        )
        panel.fill_between(xs, low, high, alpha=0.3)
        panel.plot(xs, middle, "o-")
        panel.set(xscale="log", yscale="log", xlabel=name, ylim=(min(low) / 2, max(high) * 2))
        panel.set_xticks(xs, [f"{x:,.0f}" for x in xs])
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.set_title(f"$x^{{{entry['exponent']:.2f}}}$, allowed $x^{{{entry['allowed']}}}$")
    panels[0][0].set_ylabel("ms a step\n(devices: CPU ms of each)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
