"""The rows of lists of image files, and what several of them say of one image.

A file that is met twice is used once, and never on two sides: test before validation before
training. Only between training and pool it may be met twice, for some pools contain the labeled
images; whether these are used without their label, too, is `data.split.overlap`. Of one training
image several tables may each say something. An id names one image, of which there may be copies,
and whose file may have moved to where another row says.
"""

import difflib
import filecmp
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import ELSEWHERE, Skipped, visible

_CLAIMS = ("test", "val", "train", "pool")  # who gets a file that several parts name
_MOST = 8  # classes of added tables that notes name


class Row(NamedTuple):
    """One image of a list.

    Attributes:
      path: absolute, of the file; or what `open_file` opens.
      name: its id, or its path relative to the root: what reports and predictions call it.
      part: one of `base.PARTS`.
      label: class name; empty where it is unknown.
      group: images of one group never come to lie on two sides; empty: the image is alone.
      table: which of several tables says so.
    """

    path: str
    name: str
    part: str
    label: str = ""
    group: str = ""
    table: str = ""


def each_once(
    rows: Sequence[Row], stamps: Mapping[str, tuple[int, ...]], *, is_plain: bool
) -> tuple[list[Row], list[Skipped]]:
    """Drops what is met again, by file or by name; training's own file in the pool silently.

    Args:
      rows: of all parts.
      stamps: of each path, see `listing.file_stamp`; empty where there is no file.
      is_plain: whether paths are those of files.

    Returns:
      The rows that are left, in their order, and those that are left out.

    Raises:
      InputError: two tables give one image two labels, or two images one id.
    """
    # What is equal for two paths to one file, through links of either kind.
    files = {path: made[:2] if is_plain and made else path for path, made in stamps.items()}

    def is_one(row: Row, other: Row) -> bool:
        is_here = stamps[row.path] and stamps[other.path]
        return not is_here or is_plain and _is_copy(row.path, other.path)

    by_file: dict[Hashable, int] = {}
    by_name: dict[str, int] = {}
    kept: dict[int, Row] = {}
    skipped = []
    for i in sorted(range(len(rows)), key=lambda i: _CLAIMS.index(rows[i].part)):
        row = rows[i]
        at = by_file.get(files[row.path]), by_name.get(row.name)
        why = _why_not(row, *map(kept.get, at), is_one)
        if why:
            skipped.append(Skipped(row.name, row.part, why))
            continue
        if why is None:
            kept[i], by_name[row.name] = row, i
        else:
            i = next(j for j in at if j is not None)
            path = kept[i].path if stamps[kept[i].path] else row.path
            kept[i] = _united(kept[i], row)._replace(path=path)
        by_file.setdefault(files[row.path], i)
    return [kept[i] for i in sorted(kept)], skipped


def _is_copy(path: str, other: str) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:  # who cannot read them cannot know
        return False


def _why_not(
    row: Row, same_file: Row | None, same_name: Row | None, is_one: Callable[[Row, Row], bool]
) -> str | None:
    """Says why a row is left out; nothing if it is not, and "" if that need not be said."""
    if row.part in ("test", "val") and not row.label:
        return "no label"
    other = same_file or same_name
    if other is None:
        return None
    if other.part == row.part == "train" and other.table != row.table:
        if same_file or is_one(other, row):
            return ""
        raise InputError(
            f"{row.name} is {other.path} in {other.table}, but {row.path} in {row.table}: two"
            " images with one id; give one of them another"
        )
    if other.part == row.part:
        contradicts = " with another class" if other.label != row.label else ""
        return f"a second row of this {row.part} image{contradicts}"
    if (other.part, row.part) == ("train", "pool") and (same_file or is_one(other, row)):
        return ""
    if not same_file:
        return f"it has the id of another file in {other.part}"
    return f"{ELSEWHERE}{other.part}"


def _united(row: Row, other: Row) -> Row:
    """Adds what another table says of a training image; the pool's label is for reports only."""
    group = row.group or other.group
    if other.part == "pool" or not other.label:
        return row._replace(group=group)
    if row.label and row.label != other.label:
        raise InputError(
            f"{row.name} is {row.label!r} in {row.table}, but {other.label!r} in {other.table}; "
            "correct one of them, or leave one empty"
        )
    return row._replace(label=other.label, group=group, table=other.table)


def new_classes(known: Iterable[str], added: Sequence[Row]) -> list[str]:
    """Says which classes added tables alone name: a slip of the pen is a class, too.

    Args:
      known: names that the first table has; where it has none, there is nothing to say.
      added: rows of the tables beside it.
    """
    known = set(map(visible, known))
    near = {name.casefold(): name for name in known}
    named = [(visible(row.label), row.table) for row in added if row.part == "train" and row.label]
    counts = Counter(label for label, _ in named if label not in known)
    rarest = counts.most_common()[::-1] if near else []
    notes = []
    for label, count in rarest[:_MOST]:
        tables = dict.fromkeys(os.path.basename(table) for name, table in named if name == label)
        nearest = difflib.get_close_matches(label.casefold(), near, n=1)
        notes.append(
            f"{label!r} is named by {' and '.join(tables)} alone ({count:,}"
            f" {'image' if count == 1 else 'images'})"
            + (f"; did you mean {near[nearest[0]]!r}?" if nearest else "")
        )
    if len(rarest) > _MOST:
        notes.append(f"{len(rarest) - _MOST} more classes are named by added tables alone")
    return notes
