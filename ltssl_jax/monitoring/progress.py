"""How far long work has come: a bar where a person watches, a line now and then where none does."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0

Report = Callable[[str, int, int], None]  # what is done, how much of it, out of how much


def printer(*, is_quiet: bool = False) -> Console:
    """Returns a printer of plain lines: class names and paths as they are, brackets included."""
    return Console(quiet=is_quiet, soft_wrap=True, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def progress(*, is_quiet: bool = False) -> Iterator[Report]:
    """Yields a function to call with (what is done, how much of it is done, out of how much)."""
    console = printer(is_quiet=is_quiet)
    if not console.is_terminal:
        yield _lines(console)
        return
    with bar(console) as shown:
        task = shown.add_task("", phase="")
        yield lambda what, done, total: shown.update(task, completed=done, total=total, phase=what)


def bar(console: Console) -> Progress:
    """Returns a bar that vanishes; its tasks have a field `phase`, the words before it."""
    return Progress(
        TextColumn("{task.fields[phase]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _lines(console: Console) -> Report:
    """Prints a line every few seconds; work that is done sooner prints nothing."""
    began: dict[
        str, tuple[float, int]
    ] = {}  # when each work was first heard of, and how far it was
    last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        start, first = began.setdefault(what, (now, done))
        if now - last >= SECONDS_BETWEEN_LINES:
            left = ""
            if done > first:
                seconds = (now - start) / (done - first) * (total - done)
                left = f", {datetime.timedelta(seconds=round(seconds))} left"
            console.print(f"{what}: {done:,} of {total:,}{left}")
            last = now

    return report
