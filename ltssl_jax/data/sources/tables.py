"""Tables in files: the names of their columns, and their rows one after the other, as text.

.csv .tsv .txt   UTF-8; comma, semicolon or tab, as the header line has more of them
.parquet .pq     read by pyarrow, in batches and only the columns asked for
.json            COCO Camera Traps: one row per image, the names of its categories in `label`

What is missing (null, NaN) is the empty text, a whole number has no decimal point, truth is 1 or 0.
"""

import contextlib
import csv
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from ltssl_jax.core import InputError

SEPARATOR = "\x1f"  # between several categories of one image, in `label`: no name contains it

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".json")
Rows = Iterator[tuple[int, Sequence[str]]]


@dataclass(frozen=True)
class Table:
    """A table whose rows are read when they are asked for.

    Attributes:
      path: of the file.
      columns: their names; those that are used are unique.
      unit: what a row is in this file, for messages: "line", "row" or "image".
      select: from names of columns, None for a column of empty text, to its rows with their place.
      meanings: columns that have other names than `base.COLUMNS` by the format itself.
    """

    path: str
    columns: tuple[str, ...]
    unit: str
    select: Callable[[Sequence[str | None]], Rows]
    meanings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        twice = [name for name, count in Counter(self.columns).items() if name and count > 1]
        if twice:
            raise InputError(
                f"{self.path} has several columns {', '.join(map(repr, twice))}; rename them"
            )

    def rows(self, columns: Sequence[str | None]) -> Rows:
        """Yields place (from 1) and cells of every row; raises InputError where there are none."""
        place = 0
        for place, cells in self.select(columns):
            yield place, cells
        if not place:
            raise InputError(f"{self.path} names its columns but has no rows; add one per image")


def open_table(path: str) -> Table:
    """Opens a table by the ending of its name.

    Raises:
      InputError: the ending is unknown, or the file is not what it says.
    """
    readers = dict(zip(ENDINGS, (_csv, _csv, _csv, _parquet, _parquet, _coco), strict=True))
    ending = os.path.splitext(path)[1].lower()
    if ending not in readers or not os.path.isfile(path):
        raise InputError(
            f"{path} is {'a directory' if os.path.isdir(path) else 'no table'}; give a file that "
            f"ends in {', '.join(readers)}"
        )
    return readers[ending](path)


# --- text -----------------------------------------------------------------------------------------


def _csv(path: str) -> Table:
    delimiter = _delimiter(path)
    with contextlib.closing(_records(path, delimiter)) as records:
        _, header = next(records, (0, None))
    if header is None:
        raise InputError(f"{path} is empty; its first line must name the columns")
    columns = tuple(name.strip() for name in header)
    return Table(path, columns, "line", lambda chosen: _csv_rows(path, delimiter, columns, chosen))


def _csv_rows(path, delimiter, columns, chosen) -> Rows:
    positions = [(*columns, None).index(name) for name in chosen]
    pick = itemgetter(*positions, 0)  # of two or more it makes a tuple
    records = _records(path, delimiter)
    next(records)
    for line, cells in records:
        if len(cells) != len(columns):
            raise InputError(
                f"{path}, line {line} has {len(cells)} cells for {len(columns)} columns; put names "
                "that contain the delimiter between double quotes"
            )
        cells.append("")  # what None picks
        yield line, pick(cells)[:-1]


def _records(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the lines that are not blank, each with its number in the file."""
    with _text(path) as lines:
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        line = 1
        try:
            for cells in reader:
                if any(cells):
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"{path}, line {line}: {error}; close every double quote, and write two for one "
                "inside a cell"
            ) from error


def _delimiter(path: str) -> str:
    with _text(path) as lines:
        header = next((line for line in lines if line.strip()), "")
    return max(",;\t", key=header.count)


@contextlib.contextmanager
def _text(path: str) -> Iterator[Iterator[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield _without_nul(file, path)
    except UnicodeDecodeError as error:
        raise InputError(_not_utf8(path)) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct that") from error


def _without_nul(lines: Iterator[str], path: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise InputError(f"{path}, line {number} has a NUL character; save it as text in UTF-8")
        yield line


def _not_utf8(path: str) -> str:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"{path} is not in UTF-8: line {number}, byte {error.start + 1} is "
                    f"0x{line[error.start]:02x}; save it again in that encoding"
                )
    return f"{path} changes while it is read; try again"


# --- Parquet --------------------------------------------------------------------------------------


def _parquet(path: str) -> Table:
    with _parquet_file(path) as file:
        columns = tuple(file.schema_arrow.names)
    return Table(path, columns, "row", lambda chosen: _parquet_rows(path, chosen))


def _parquet_rows(path: str, chosen: Sequence[str | None]) -> Rows:
    wanted = sorted({name for name in chosen if name is not None})
    with _parquet_file(path) as file:
        place = 0
        for batch in file.iter_batches(columns=wanted):
            columns = {name: batch.column(name).to_pylist() for name in wanted}
            columns[None] = [None] * len(batch)
            for values in zip(*(columns[name] for name in chosen), strict=True):
                place += 1
                yield place, _cells(f"{path}, row {place}", chosen, values)


@contextlib.contextmanager
def _parquet_file(path: str) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{path} needs pyarrow, which cannot be imported ({error}); run `pip install pyarrow`, "
            "or save the table as CSV"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # pyarrow raises what it likes: ArrowInvalid, OSError, ValueError
        raise InputError(
            f"{path} cannot be read ({error}); write it again as Parquet, or as CSV"
        ) from error


# --- COCO Camera Traps ----------------------------------------------------------------------------


def _coco(path: str) -> Table:
    document = _json(path)
    categories = _entries(path, document, "categories", ("id", "name"))
    class_names = {key: _cell(c["name"]) for key, c in _by_id(path, "categories", categories)}
    images = dict(_by_id(path, "images", _entries(path, document, "images", ("id", "file_name"))))
    labels: dict[str, list[str]] = {key: [] for key in images}
    document.setdefault("annotations", [])  # as test information is published
    for annotation in _entries(path, document, "annotations", ("image_id", "category_id")):
        category, image = _cell(annotation["category_id"]), _cell(annotation["image_id"])
        if category not in class_names:
            raise InputError(
                f"{path}: an annotation of image {image!r} has the category_id {category!r}, which "
                "is no id of its categories; add it there"
            )
        # An image that is annotated but not listed becomes a row without file: it is left out.
        if class_names[category] not in labels.setdefault(image, []):
            labels[image].append(class_names[category])
    rows = [
        images.get(key, {"id": key}) | {"label": SEPARATOR.join(names)}
        for key, names in labels.items()
    ]
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    meanings = {"path": "file_name", "group": "location", "id": "file_name"}
    return Table(path, columns, "image", lambda chosen: _coco_rows(path, rows, chosen), meanings)


def _coco_rows(path: str, rows: Sequence[dict[str, Any]], chosen: Sequence[str | None]) -> Rows:
    for place, row in enumerate(rows, 1):
        values = [row.get(name) for name in chosen]
        yield place, _cells(f"{path}, image {row['id']!r}", chosen, values)


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            document = json.load(file)
    except (ValueError, RecursionError, OSError) as error:  # ValueError: no JSON, no UTF-8
        raise InputError(f"{path} cannot be read as JSON ({error}); write it again") from error
    if not isinstance(document, dict):
        raise InputError(
            f"{path} holds a {type(document).__name__}; give COCO Camera Traps, which is an object "
            "with images, annotations and categories"
        )
    return document


def _entries(path: str, document: dict, key: str, needed: Sequence[str]) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise InputError(
            f"{path} has no list {key!r}; give COCO Camera Traps (found: "
            f"{', '.join(sorted(document)) or 'nothing'})"
        )
    for number, entry in enumerate(entries, 1):
        missing = [k for k in needed if not isinstance(entry, dict) or not _is_plain(entry.get(k))]
        if missing:
            raise InputError(
                f"{path}: entry {number} of {key} has no usable {' and '.join(missing)}; each "
                f"needs {' and '.join(needed)}"
            )
    return entries


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _by_id(path: str, key: str, entries: Sequence[dict]) -> Iterator[tuple[str, dict[str, Any]]]:
    seen = set()
    for entry in entries:
        name = _cell(entry["id"])
        if name in seen:
            raise InputError(f"{path}: several of its {key} have the id {name!r}; make them unique")
        seen.add(name)
        yield name, entry


# --- values that are no text yet ------------------------------------------------------------------


def _cells(where: str, columns: Sequence[str | None], values: Sequence[Any]) -> list[str]:
    for column, value in zip(columns, values, strict=True):
        if isinstance(value, list | dict | bytes):
            raise InputError(f"{where}: column {column!r} holds no text; name another column")
    return [_cell(value) for value in values]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    # JSON can hold halves of characters and NUL, which no file name and no report can.
    return str(value).replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
