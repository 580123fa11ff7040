"""What a person should know first, in sentences, the most important first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ltssl_jax.data.sources.base import ELSEWHERE
from ltssl_jax.inspection import overlaps

LEVELS = ("problem", "warning", "note")
_MUCH = 0.05  # share of files that may be skipped before it is a problem


class Finding(NamedTuple):
    """One sentence; "problem": results would mislead; "warning": look at it; "note": a fact."""

    level: str
    text: str


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Reads the content of `inspect.json`, all but the findings themselves."""
    makers = (_copies, _groups, _skipped, _named_twice, _classes, _shift, _distance, _notes)
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
            "warning", f"{exact['conflicts']:,} sets of equal images have more than one class"
        )
    if near["superfluous"]:
        same, more = exact["superfluous"], near["superfluous"] - exact["superfluous"]
        yield Finding(
            "warning" if more else "note",
            f"{near['superfluous']:,} images look the same as another of their part or of another,"
            f" {same:,} of them pixel by pixel",
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
    total, reasons = _left_out(found, is_elsewhere=False)
    if total:
        is_much = total > _MUCH * (total + sum(found["totals"].values()))
        level = "problem" if is_much else "warning"
        yield Finding(level, f"{total:,} files cannot be used: {reasons}")


def _named_twice(found) -> Iterator[Finding]:
    total, reasons = _left_out(found, is_elsewhere=True)
    if total:
        yield Finding("note", f"{total:,} images are in two parts and used in one: {reasons}")


def _left_out(found, *, is_elsewhere: bool) -> tuple[int, str]:
    """Counts images that are left out, because they are used elsewhere or for other reasons."""
    chosen = [
        one
        for one in found["skipped"]["by_reason"]
        if one["reason"].startswith(ELSEWHERE) == is_elsewhere
    ]
    words = [f"{one['count']:,} x {one['reason']} ({one['part']})" for one in chosen[:3]]
    return sum(one["count"] for one in chosen), ", ".join(words)


def _shift(found) -> Iterator[Finding]:
    shift = found["shift"]
    if shift["reason"]:
        yield Finding("note", f"class frequencies of the pool: not estimable ({shift['reason']})")
        return
    distance, low, high = shift["distance"]
    between = f"{low:.0%} to {high:.0%} of its images"
    if low < 0.01:
        text = f"no difference from the labeled ones is seen (at most {high:.0%} of its images)"
    else:
        text = f"{between} ({distance:.0%}) would have to change class to match the labeled ones"
    yield Finding(
        "warning" if low > 0.1 else "note",
        f"class frequencies of the pool: {text}; strong shifts are understated",
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
