"""What a person sees while a run goes on, and the table at its end."""

import datetime
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from ltssl_jax.core import Log
from ltssl_jax.evaluation import metrics as metrics_
from ltssl_jax.monitoring.progress import bar, printer

ROWS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "geometric_mean": "geometric mean of recalls",
    "geometric_mean_floored": "  with zero recalls raised to 1/(100 K)",
    "worst_class_recall": "worst class",
    "many": "many (most labeled third)",
    "medium": "medium",
    "few": "few (least labeled third)",
    "minority": "rarer half of the classes",
}


WORTH_SAYING = 0.02  # share of the time that the host waited for input
SECONDS_BETWEEN_LINES = 60.0  # of training; `metrics.jsonl` has them all


class Terminal:
    """Prints a run: a bar that a person can watch, plain lines where nobody does."""

    def __init__(self, total_steps: int, images_per_step: int, *, is_quiet: bool = False):
        self._total, self._images = total_steps, images_per_step
        self._console = printer(is_quiet=is_quiet)
        self._bar = bar(self._console)
        self._task = self._bar.add_task("", total=total_steps, phase="training")
        self._printed = -math.inf  # when there was a line of training

    def __enter__(self) -> "Terminal":
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints one line."""
        self._console.print(text)

    def alarm(self, text: str) -> None:
        """Prints what nobody should miss."""
        self._console.print(f"ALARM: {text}", style="bold red")

    def reading(self, done: int, total: int) -> None:
        """Shows how many images have been read; fits `feed.training(progress=…)`."""
        self._bar.update(self._task, completed=done, total=total, phase="reading images")

    def log(self, log: Log) -> None:
        """Prints step, speed, time left, and what the loss is made of: at most once a minute.

        The first and the last log are always printed; a bar moves at every one.
        """
        self._bar.update(self._task, completed=log.step, total=self._total, phase="training")
        now = time.monotonic()
        if now - self._printed < SECONDS_BETWEEN_LINES and log.step < self._total:
            return
        self._printed, speed = now, ""
        if log.num_steps:
            rate = log.num_steps / log.seconds
            left = datetime.timedelta(seconds=round((self._total - log.step) / rate))
            waited = log.waited / log.seconds
            starved = f" ({waited:.0%} waiting for input)" if waited >= WORTH_SAYING else ""
            refreshed = log.refreshed / (log.refreshed + log.seconds)
            if refreshed >= WORTH_SAYING:
                starved += f" (another {refreshed:.0%} refreshing the pool)"
            speed = f"  {rate * self._images:,.0f} images/s{starved}  {left} left"

        def values(kind):
            of_kind = [name for name in log.metrics if name.startswith(kind)]
            return [f"{name.removeprefix(kind)} {log.metrics[name]:.3f}" for name in of_kind]

        terms = ", ".join([" + ".join(values("loss/")), *values("monitor/")])
        self.say(
            f"step {log.step:>{len(str(self._total))}}/{self._total}"
            f"{speed}  loss {log.metrics['loss']:.3f} = {terms}"
        )

    def evaluated(self, step: int, split: str, summary: Mapping[str, float]) -> None:
        """Prints one evaluation."""
        self.say(
            f"step {step:>{len(str(self._total))}}/{self._total}  {split}:"
            f" balanced accuracy {percent(summary['balanced_accuracy'])} %,"
            f" few {percent(summary['few'])} %, worst class"
            f" {percent(summary['worst_class_recall'])} %"
        )

    def results(self, title: str, summary: Mapping[str, float], worst: str) -> None:
        """Prints all metrics of one confusion matrix, in percent; `worst` names the worst class."""
        table = Table(title=title, title_justify="left")
        table.add_column("metric")
        table.add_column("%", justify="right")
        for key, name in ROWS.items():
            named = f"{name}: {worst}" if key == "worst_class_recall" else name
            table.add_row(named, percent(summary[key]))
        self._console.print(table)

    def recalls(
        self,
        title: str,
        confusion: np.ndarray,
        class_names: Sequence[str],
        labeled_counts: np.ndarray,
    ) -> None:
        """Prints the recall of each class, most labeled first; of 30 and more only the extremes."""
        recalls, support = metrics_.recall_per_class(confusion), confusion.sum(axis=1)
        order = np.concatenate(list(metrics_.class_groups(labeled_counts).values()))
        table = Table(title=title, title_justify="left")
        for column in ("class", "labeled", "evaluated", "recall %"):
            table.add_column(column, justify="left" if column == "class" else "right")
        shown = order if len(order) < 30 else np.concatenate([order[:10], [-1], order[-10:]])
        for k in shown:
            row = (class_names[k], labeled_counts[k], support[k], percent(recalls[k]))
            table.add_row(*(("…",) * 4 if k < 0 else map(str, row)))
        self._console.print(table)


def percent(share: float) -> str:
    """Writes a share in percent; a dash where there is none, as of a class without test images."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"
