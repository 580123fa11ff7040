"""Predictions on their way into two tables, and the numbers about them at the end."""

import contextlib
import csv
import itertools
import os
import pathlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import Skipped
from ltssl_jax.data.sources.base import tally
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.evaluation.predictions import softmax

COLUMNS = (
    "id", "class", "probability", "runner_up", "runner_up_probability", "entropy", "review",
)  # fmt: skip
SHOWN = 10  # classes in the table for the terminal


class Prediction(NamedTuple):
    """A row of the table; `is_to_review` is None where nobody asked."""

    id: str
    class_name: str
    probability: float
    runner_up: str
    runner_up_probability: float
    entropy: float
    is_to_review: bool | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts in the columns."""
        name, first, p, second, q, entropy, review = self
        flag = "" if review is None else str(int(review))
        return name, first, f"{p:.6g}", second, f"{q:.6g}", f"{entropy:.6g}", flag


def stated(
    names: Sequence[str], deployed: Deployment, logits: np.ndarray, class_names: Sequence[str]
) -> list[Prediction]:
    """Returns what is said of images with `[n]` names and logits `[n, K]`."""
    scores = deployed.scores(logits)
    probs = softmax(scores)
    # By scores: probabilities next to 1 are equal when rounded.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    top = np.take_along_axis(probs, best, axis=1)
    entropies = -(probs * np.log(np.where(probs > 0, probs, 1))).sum(axis=1)
    review = deployed.to_review(top[:, 0])
    rows = zip(names, best.tolist(), top.tolist(), entropies.tolist(), review, strict=True)
    return [
        Prediction(name, class_names[i], p, class_names[j], q, entropy, is_to_review)
        for name, (i, j), (p, q), entropy, is_to_review in rows
    ]


ENDINGS = (".csv", ".tsv", ".txt")  # of files that may be written over


class Output:
    """The two tables: written beside their places, and moved there when both are complete.

    Args:
      out: the table of predictions; its directory is made if it is missing.
      paths: what is predicted, which must not be overwritten.
      console: for saying where the rows are if there is no end.

    Raises:
      InputError: the tables cannot be written there.
    """

    def __init__(self, out: str | os.PathLike, paths: Sequence[str], console: Console):
        self.predictions = pathlib.Path(out)
        with self._refusing():
            self.predictions.parent.mkdir(parents=True, exist_ok=True)
            if self.predictions.exists() and not self.predictions.is_file():
                raise OSError("it is no file")
            if self.predictions.exists() and self.predictions.suffix not in ENDINGS:
                raise OSError("there is a file that is no table; give a name that ends in .csv")
            tempfile.TemporaryFile(dir=self.predictions.parent).close()
        self.skipped = self.predictions.with_suffix(".skipped.csv")
        self._tables = (self.predictions, self.skipped)
        for table, path in itertools.product(self._tables, paths):
            if table.exists() and os.path.exists(path) and table.samefile(path):
                raise InputError(
                    f"{table} is to be predicted and would be overwritten; give another --out"
                )
        self._console, self._num_rows = console, 0

    def __enter__(self) -> "Output":
        with self._refusing():
            self._files = [
                open(_partial(table), "w", newline="", encoding="utf-8", errors="backslashreplace")
                for table in self._tables
            ]
            self._writers = [csv.writer(file) for file in self._files]
            for writer, columns in zip(self._writers, (COLUMNS, Skipped._fields), strict=True):
                writer.writerow(columns)
        return self

    def write(self, rows: Sequence[Prediction], skipped: Sequence[Skipped]) -> None:
        """Appends to both tables."""
        with self._refusing():
            self._writers[0].writerows(row.cells for row in rows)
            self._writers[1].writerows(skipped)
        self._num_rows += len(rows)

    def __exit__(self, kind, *_):
        with self._refusing():
            for file in self._files:
                file.close()
            for table in self._tables:
                if kind is None:
                    _partial(table).replace(table)
                elif not self._num_rows:
                    _partial(table).unlink()
        if kind is not None and self._num_rows:
            self._console.print(
                f"not finished: {self._num_rows:,} predictions are in {_partial(self.predictions)}"
            )

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"--out {os.fspath(self.predictions)!r} cannot be written"
                f" ({error.strerror or error}); choose another"
            ) from error


class Tally:
    """What was predicted, in numbers."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.num_to_review = 0
        self._sums: Counter[str] = Counter()  # of probabilities
        self._reasons: Counter[str] = Counter()
        self._first = None

    @property
    def num_images(self) -> int:
        """Images with a prediction."""
        return self.counts.total()

    @property
    def num_skipped(self) -> int:
        """Images without."""
        return self._reasons.total()

    def add(self, rows: Sequence[Prediction], skipped: Sequence[Skipped]) -> None:
        """Counts a batch."""
        for row in rows:
            self.counts[row.class_name] += 1
            self._sums[row.class_name] += row.probability
            self.num_to_review += bool(row.is_to_review)
        self._reasons.update(one.reason for one in skipped)
        self._first = self._first or next(iter(skipped), None)

    def check(self) -> None:
        """Raises InputError where nothing at all could be read."""
        if not self.num_images:
            raise InputError(
                f"none of {self.num_skipped:,} images can be used ({self.why()}; first:"
                f" {self._first.name}); correct them, or give others"
            )

    def why(self) -> str:
        """Says for which reasons images were skipped."""
        return tally(self._reasons.elements())

    def table(self) -> Table:
        """Shows the classes that were predicted, the most frequent first."""
        table = Table(title=f"{self.num_images:,} images", title_justify="left")
        for column in ("class", "images", "%", "mean probability"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for name, count in self.counts.most_common(SHOWN):
            table.add_row(name, *self._numbers(count, self._sums[name]))
        rest = self.counts.most_common()[SHOWN:]
        if rest:
            count, total = sum(n for _, n in rest), sum(self._sums[name] for name, _ in rest)
            table.add_row(f"{len(rest):,} more classes", *self._numbers(count, total))
        table.add_row("all", *self._numbers(self.num_images, self._sums.total()))
        return table

    def _numbers(self, count: int, total: float) -> tuple[str, str, str]:
        return f"{count:,}", f"{100 * count / self.num_images:.1f}", f"{total / count:.3f}"


def _partial(table: pathlib.Path) -> pathlib.Path:
    return table.with_name(f"{table.name}.partial")
