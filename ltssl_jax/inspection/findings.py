"""What a person should know first, in sentences, the most important first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ltssl_jax.inspection import overlaps

LEVELS = ("problem", "warning", "note")
_MUCH = 0.05  # share of files that may be skipped before it is a problem


class Finding(NamedTuple):
    """One sentence; "problem": results would mislead; "warning": look at it; "note": a fact."""

    level: str
    text: str


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Reads the content of `inspect.json`, all but the findings themselves."""
    makers = (_copies, _groups, _skipped, _classes, _shift, _distance, _notes)
    every = [finding for make in makers for finding in make(found)]
    return sorted(every, key=lambda finding: LEVELS.index(finding.level))


def _classes(found) -> Iterator[Finding]:
    names, ratio = found["data"]["class_names"], found["imbalance"]
    yield Finding(
        "note",
        f"imbalance ratio {ratio['ratio']:,.4g}: from {ratio['largest']:,} to"
        f" {ratio['smallest']:,} labeled images a class, {len(names):,} classes",
    )
    few = found["few"]
    if few["classes"]:
        chosen = [names[k] for k in few["classes"]]
        yield Finding(
            "warning",
            f"{len(chosen):,} of {len(names):,} classes have fewer than {few['threshold']} labeled"
            f" images: {some(chosen)}",
        )
    for part, missing in found["absent"].items():
        if missing:
            chosen = some([names[k] for k in missing])
            without = "labeled images" if part == "labeled" else f"{part} images"
            yield Finding("warning", f"{len(missing):,} classes have no {without}: {chosen}")


def _copies(found) -> Iterator[Finding]:
    exact, near = (found["duplicates"][kind] for kind in ("exact", "near"))
    leaks, similar = overlaps.leaked(exact["between"]), overlaps.leaked(near["between"])
    for pair, count in similar.items():
        train, test = pair.split("/")
        same = leaks.get(pair, 0)
        yield Finding(
            "problem" if same else "warning",
            f"leakage: {count:,} {test} images have a copy among the {train} ones, {same:,} of them"
            f" with the same pixels, {count - same:,} look alike",
        )
    if exact["conflicts"]:
        yield Finding(
            "warning", f"{exact['conflicts']:,} images occur with the same pixels and two classes"
        )
    if near["superfluous"]:
        yield Finding(
            "warning" if near["superfluous"] > exact["superfluous"] else "note",
            f"{exact['superfluous']:,} images have the same pixels as another,"
            f" {near['superfluous'] - exact['superfluous']:,} more look the same as another",
        )


def _groups(found) -> Iterator[Finding]:
    for one in found["groups"] or ():
        train, test = one["parts"]
        yield Finding(
            "problem",
            f"leakage: {one['groups']:,} groups lie in {train} and in {test}, with"
            f" {one['images']:,} {test} images; hold out by group (data.source.test_fraction)",
        )


def _skipped(found) -> Iterator[Finding]:
    total = found["skipped"]["total"]
    if total:
        everything = total + sum(found["totals"].values())
        reasons = ", ".join(
            f"{one['count']:,} x {one['reason']} ({one['part']})"
            for one in found["skipped"]["by_reason"][:3]
        )
        level = "problem" if total > _MUCH * everything else "warning"
        yield Finding(level, f"{total:,} files cannot be used: {reasons}")


def _shift(found) -> Iterator[Finding]:
    shift = found["shift"]
    if shift["reason"]:
        yield Finding("note", f"class frequencies of the pool: not estimable ({shift['reason']})")
        return
    distance, low, high = shift["distance"]
    yield Finding(
        "warning" if low > 0.1 else "note",
        f"class frequencies of the pool: {distance:.0%} of its images ({low:.0%} to {high:.0%})"
        " would have to change class to match the labeled frequencies (strong shifts are"
        " understated)",
    )


def _distance(found) -> Iterator[Finding]:
    one = found["frechet"]
    if one["reason"]:
        return
    times = one["distance"] / max(one["yardstick"], 1e-12)
    yield Finding(
        "note",
        f"Fréchet distance of features between labeled and pool: {one['distance']:.3g}"
        f" ({one['low']:.3g} to {one['high']:.3g}), {times:.1f} times that of random halves of the"
        " pool; a diagnostic, no verdict",
    )


def _notes(found) -> Iterator[Finding]:
    for note in found["data"]["notes"]:
        yield Finding("note", note)


def some(names: Sequence[str], limit: int = 8) -> str:
    """Joins the first names and counts the others."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")
