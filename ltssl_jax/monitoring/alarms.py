"""Alarms: what goes wrong while a run goes on, as rules over what it records.

A rule reads the lines that `metrics.jsonl` has of training, the newest last, and yields what it
finds wrong now. Rules are pure; `Alarms` remembers what has been said already. Their numbers are
chosen to be silent over healthy runs: an alarm that is not believed is none.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Line = Mapping[str, Any]

WINDOW = 5  # logs that are looked at together: one by itself is noisy
HORIZON = 50  # logs that are remembered, for the comparison with better times
EARLY = 0.1  # share of a run in which pseudo-labels may be rare, and of the easiest classes
SILENT = 10  # logs without a pseudo-label after which nobody should wait any longer
# Pseudo-labels are judged where so many of the images have one; the first few are always the
# easiest ones.
JUDGED = 0.05
# So much of the expected variety must be left: of classes beyond the first, counted as the
# exponential of the entropy. Ten classes at imbalance ratio 100 count as 5.2; alarming is below 2.
VARIETY = 0.25
RISE = 2.0  # the loss of labeled images against its best window, and ...
RISE_NATS = 0.1  # ... by at least so much: the noise of a loss near zero is no rise
STARVING = 0.3  # share of the time that devices wait for input
NAMED = 5  # classes that a text names


class Alarm(NamedTuple):
    """What is wrong: a short name, and a text that says what it means and what to do."""

    name: str
    text: str


class Facts(NamedTuple):
    """What rules know of a run.

    Attributes:
      class_names: `K` names.
      labeled_counts: `[K]` int.
      total_steps: of the run.
      warmup_steps: after so many steps all parts of the method are at work.
    """

    class_names: Sequence[str]
    labeled_counts: np.ndarray
    total_steps: int
    warmup_steps: int = 0

    def is_early(self, line: Line) -> bool:
        """Says whether pseudo-labels may still be few."""
        return line["step"] <= max(EARLY * self.total_steps, self.warmup_steps)


Rule = Callable[[Sequence[Line], Facts], Iterator[Alarm]]


def collapsed(lines: Sequence[Line], facts: Facts) -> Iterator[Alarm]:
    """Finds pseudo-labels of far fewer classes than there are in the pool.

    Of the pool is known either the truth, or how the labeled images are distributed.
    """
    recent = [line for line in lines[-WINDOW:] if not facts.is_early(line)]
    for name in _named(lines, "pseudo/", "/kept") if len(recent) == WINDOW else ():
        if not all(f"pseudo/{name}/kept" in line for line in recent):
            continue  # begun before these were counted
        kept, seen = _summed(recent, f"pseudo/{name}/kept"), _summed(recent, "pseudo/seen")
        known = all("pseudo/true" in line for line in recent)
        expected = _summed(recent, "pseudo/true") if known else facts.labeled_counts
        there, wanted = effective_classes(kept), effective_classes(expected)
        if kept.sum() < JUDGED * seen or there - 1 >= VARIETY * (wanted - 1):
            continue
        most = np.argsort(-kept, kind="stable")[: max(round(there), 1)]
        yield Alarm(
            f"collapse/{name}",
            f"pseudo-labels ({name}) collapse: {kept[most].sum() / kept.sum():.0%} of those kept"
            f" are {_list(facts, most)}, as varied as {there:.1f} equally frequent classes, where"
            f" {'the pool' if known else 'the labeled images'} would give {wanted:.1f}. The network"
            " learns its own mistakes: raise the threshold, lower optim.learning_rate, or take a"
            " method that balances its guesses (docs/methods.md)",
        )


def silent(lines: Sequence[Line], facts: Facts) -> Iterator[Alarm]:
    """Finds pseudo-labels that never pass the threshold, long after they could have."""
    recent = [line for line in lines[-SILENT:] if not facts.is_early(line)]
    for name in _named(lines, "monitor/mask/") if len(recent) == SILENT else ():
        if not any(line.get(f"monitor/mask/{name}") for line in recent):
            number = recent[-1]["step"] - recent[0]["step"]
            yield Alarm(
                f"silence/{name}",
                f"no pseudo-label ({name}) passes the threshold, for {number:,} steps: the"
                " unlabeled images teach nothing. Lower the threshold, or give more labels; without"
                " them method 'supervised' does the same for less",
            )


def rising(lines: Sequence[Line], facts: Facts) -> Iterator[Alarm]:
    """Finds losses of labeled images far above their best window.

    Only these: what is learned of pseudo-labels may well grow, as there are more of them.
    """
    for name in _named(lines, "loss/supervised") if len(lines) > WINDOW else ():
        values = np.array([line.get(f"loss/supervised{name}", 0.0) for line in lines], float)
        means = np.lib.stride_tricks.sliding_window_view(values, WINDOW)
        means = means[(means > 0).all(axis=1)].mean(axis=1)  # 0: this term was not at work yet
        if len(means) and means[-1] > max(RISE * means.min(), means.min() + RISE_NATS):
            yield Alarm(
                f"rising/supervised{name}",
                f"the loss of the labeled images (supervised{name}) rises: {means[-1]:.3f} in the"
                f" last {WINDOW} logs, {means.min():.3f} at its best. Training comes apart: lower"
                " optim.learning_rate, and start again in another --workdir",
            )


def starving(lines: Sequence[Line], facts: Facts) -> Iterator[Alarm]:
    """Finds devices that wait for images for much of the time."""
    shares = [line.get("input_share", 0.0) for line in lines[-WINDOW:]]
    if len(shares) == WINDOW and min(shares) > STARVING:
        yield Alarm(
            "starving",
            f"the devices wait for input {np.mean(shares):.0%} of the time: they would be as fast"
            " with fewer of them. Set data.feed=resident if the images fit on a device, or raise"
            " data.kept_gib; docs/performance.md says more",
        )


RULES: tuple[Rule, ...] = (collapsed, silent, rising, starving)


def unrecognized(where: str, confusion: np.ndarray, facts: Facts) -> Iterator[Alarm]:
    """Finds classes of which a trained network recognizes no image; `where` names the set."""
    missed = np.flatnonzero((confusion.sum(axis=1) > 0) & (np.diag(confusion) == 0))
    if len(missed):
        yield Alarm(
            f"unrecognized/{where}",
            f"{len(missed)} of {len(confusion)} classes are never recognized on {where}:"
            f" {_list(facts, missed)}; they have {facts.labeled_counts[missed].sum()} labeled"
            " images in all. Train longer if the loss was still falling; else label more of them,"
            " or choose another method (docs/methods.md)",
        )


def effective_classes(counts: np.ndarray) -> float:
    """Returns how many equally frequent classes are as varied: the exponential of the entropy."""
    shares = np.asarray(counts, float)
    shares = shares[shares > 0] / max(shares.sum(), np.finfo(float).tiny)
    return float(np.exp(-np.sum(shares * np.log(shares))))


class Alarms:
    """Says each alarm once, and again if it was gone for a while and came back."""

    def __init__(self, facts: Facts):
        self._facts = facts
        self._lines: deque[Line] = deque(maxlen=HORIZON)
        self._gone: dict[str, int] = {}  # for how many logs it has not held

    def heard(self, line: Line) -> list[Alarm]:
        """Takes the next line of training; returns the alarms that are new."""
        self._lines.append(line)
        found = [a for rule in RULES for a in rule(tuple(self._lines), self._facts)]
        new = [alarm for alarm in found if self._gone.get(alarm.name, WINDOW) >= WINDOW]
        self._gone = {name: gone + 1 for name, gone in self._gone.items()}
        self._gone |= {alarm.name: 0 for alarm in found}
        return new

    def finished(self, where: str, confusion: np.ndarray) -> list[Alarm]:
        """Returns what is wrong at the end, by the counts `[K, K]` of a set."""
        return list(unrecognized(where, confusion, self._facts))


def _named(lines: Sequence[Line], before: str, after: str = "") -> list[str]:
    """Lists what stands between in the names of the newest line."""
    names = [name for name in lines[-1] if name.startswith(before) and name.endswith(after)]
    return [name[len(before) : len(name) - len(after)] for name in names]


def _summed(lines: Sequence[Line], name: str) -> np.ndarray:
    return np.sum([line[name] for line in lines], axis=0)


def _list(facts: Facts, classes: np.ndarray) -> str:
    names = [repr(facts.class_names[k]) for k in classes[:NAMED]]
    more = len(classes) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
