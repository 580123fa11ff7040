"""The files of a run directory: everything a later reader needs, in plain formats.

`config.json`     configuration, command, commit and identity card; `continued`: how it went on
`metrics.jsonl`   one JSON object per log, evaluation or alarm, see docs/metrics.md
`result.json`     the final numbers, with what they are numbers of
`confusion.npy`   the `[K, K]` counts from which every number can be computed again
`predictions.npz` what the network says of each image, at the end; see `evaluation.predictions`
`skipped.csv`     the files and rows that are not used, and why
"""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.core import InputError


class RunDirectory:
    """Writes the records of one run; only the first process of a run on several writes.

    Args:
      path: made if it is missing.
      is_writer: whether this process writes.
      flag: what the user chose `path` with.

    Raises:
      InputError: nothing can be written there.
    """

    def __init__(self, path: str | os.PathLike, *, is_writer: bool = True, flag: str = "--workdir"):
        self.path = pathlib.Path(path)
        self._is_writer = is_writer
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise PermissionError("it is not writable")
        except OSError as error:
            raise InputError(
                f"{flag} {os.fspath(path)!r} cannot be used ({error}); choose another"
            ) from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes `name` whole or not at all."""
        text = json.dumps(_plain(content), indent=2) + "\n"
        self._replace(name, text.encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads `name`; empty where it is missing or damaged."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_confusion(self, matrix: np.ndarray) -> None:
        """Writes `confusion.npy`."""
        content = io.BytesIO()
        np.save(content, matrix, allow_pickle=False)
        self._replace("confusion.npy", content.getvalue())

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes arrays by name as `.npz`, whole or not at all."""
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        self._replace(name, content.getvalue())

    def write_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows as CSV (UTF-8) with a header, whole or not at all."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([columns, *rows])
        self._replace(name, text.getvalue().encode("utf-8", "backslashreplace"))

    def remove(self, name: str) -> None:
        """Removes `name` if it is there."""
        if self._is_writer:
            (self.path / name).unlink(missing_ok=True)

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`."""
        if self._is_writer:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(_plain(record)) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Reads `metrics.jsonl`."""
        return history(self.path)

    def rewind(self, step: int) -> None:
        """Drops the lines after `step`: a resumed run writes them again."""
        kept = [json.dumps(r) for r in self.history() if r["step"] <= step]
        self._replace("metrics.jsonl", "".join(line + "\n" for line in kept).encode())

    def _replace(self, name: str, content: bytes) -> None:
        if self._is_writer:
            partial = self.path / f"{name}.partial"
            partial.write_bytes(content)
            partial.replace(self.path / name)


def history(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Reads the `metrics.jsonl` of a run directory, which need not be writable; empty without one.

    Damaged lines, as one cut off by a crash, are left out.
    """
    file = pathlib.Path(path, "metrics.jsonl")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    return [record for line in lines if (record := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _plain(value: Any) -> Any:
    """NumPy, paths and tuples to JSON; NaN, which JSON lacks, to null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return os.fspath(value) if isinstance(value, os.PathLike) else value
