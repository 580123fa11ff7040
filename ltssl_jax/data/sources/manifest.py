"""Image files that a table names, with their labels: CSV, Parquet, or COCO Camera Traps JSON.

Columns, by `data.source.columns`, which may say other names; "" is for a column not to be used:

path    relative to the table's directory, or to `data.source.image_root`; or absolute. Without
        extension, the file beside it that has one.
label   class name; empty, NaN or null: unlabeled. Or one column per class that holds 0 or 1: their
        names with commas between, or "*" for all columns that are not used otherwise.
split   "train" (also where it is empty), "val", "test" or "pool"; only in the table `root`.
group   patient, site, sequence: its images never come to lie on two sides of a split.
id      what reports call the image; else its path.

`data.source.val`, `test` and `pool` are tables of more images, `pool` also a directory of them. A
pool image may have a label; only reports see it. Rows that name no usable image are left out and
listed; what could make labels wrong is an error.

`root` may be several tables, with commas between, or a folder (see `folder`) and tables. What they
say of an image is put together; two labels of one image are an error. Columns of those beside the
first may also have the usual names, whatever the first one calls them, and `label` hold the class.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import folder, listing
from ltssl_jax.data.sources.base import (
    PARTS,
    Settings,
    Skipped,
    Source,
    check_root,
    printable,
    roots,
)
from ltssl_jax.data.sources.rows import new_classes
from ltssl_jax.data.sources.tables import SEPARATOR, Table, open_table

USES = ("root", "val", "test", "pool", "classes", "columns", "image_root")

_SPLITS = {"": "train", "training": "train", "validation": "val", "valid": "val", "dev": "val"}
_SPLITS |= {"testing": "test", "unlabeled": "pool", "unlabelled": "pool"}
_SPLITS |= {part: part for part in PARTS}
_MISSING = ("nan", "null", "na", "n/a", "<na>")  # what programs write for none, in any case
_UNLABELED = ("-1", "-1.0")
_BITS = {"1": True, "true": True, "0": False, "false": False, "": False}

Columns = dict[str, list[str]]  # by what they mean; none, one, or the one-hot ones of `label`


def load(settings: Settings) -> Source:
    """Reads the tables and lists the files; images are decoded when they are read.

    Raises:
      InputError: a table is missing or unusable, or see `listing.build`.
    """
    what = "a table of image files: CSV, Parquet or JSON"
    root, *others = [check_root(path, "manifest", what) for path in roots(settings.root)]
    skipped: list[Skipped] = []
    if others and os.path.isdir(root):
        files, asked = Files(_image_root(settings) or root), settings.columns
        rows, class_names = folder.listed(root, settings, skipped)
    else:
        files = Files(_image_root(settings) or os.path.dirname(root))
        rows, class_names, asked = _of_tables(root, settings, files, skipped)
    added = [row for path in others for row in _added(path, settings, asked, files, skipped)]
    known = {*(class_names or ()), *_labels(rows)}
    notes = [] if settings.classes else new_classes(known, added)
    if class_names and os.path.isdir(root):
        class_names = sorted(known | _labels(added))
    name = printable(os.path.splitext(os.path.basename(root))[0])
    told = dict(class_names=class_names, skipped=skipped, notes=notes)
    return listing.build(rows + added, settings, name=name, **told)


def _labels(rows: Sequence[listing.Row]) -> set[str]:
    return {row.label for row in rows if row.part == "train" and row.label}


def listed(settings: Settings) -> tuple[list[listing.Row], list[Skipped]]:
    """Lists what the table `root` says, of all splits, and which rows name no image."""
    root = check_root(settings.root, "manifest", "a table of image files: CSV, Parquet or JSON")
    files, skipped = Files(_image_root(settings) or os.path.dirname(root)), []
    rows, *_ = _of_tables(root, settings, files, skipped)
    return rows, skipped


def _of_tables(root: str, settings: Settings, files: "Files", skipped: list[Skipped]):
    """Returns rows, the classes if columns name them, and the columns to look for in others."""
    table = open_table(root)
    columns = _columns(table, "train", settings.columns)
    asked = {**settings.columns, "label": columns["label"]}  # "*" means the same everywhere
    rows = list(_rows(table, "train", columns, files, skipped))
    for part in ("val", "test", "pool"):
        if getattr(settings, part):
            rows += _further(part, settings, asked, files, skipped)
    return rows, columns["label"] if len(columns["label"]) > 1 else None, asked


def _added(path: str, settings: Settings, asked, files: "Files", skipped) -> Iterator[listing.Row]:
    """Yields the rows of a table beside the first."""
    table = open_table(path)
    known = {role: name if _has(table, name) else role for role, name in asked.items()}
    files = files if settings.image_root else files.at(os.path.dirname(path))
    yield from _rows(table, "train", _columns(table, "train", known), files, skipped)


def _has(table: Table, names: str | list[str]) -> bool:
    names = [names] if isinstance(names, str) else names
    return bool(names) and set(names) <= set(table.columns)


def _image_root(settings: Settings) -> str:
    if not settings.image_root:
        return ""
    return check_root(settings.image_root, "manifest", "a directory", field="image_root")


def _further(
    part: str, settings: Settings, asked, files: "Files", skipped
) -> Iterator[listing.Row]:
    """Yields the rows of `data.source.val`, `test` or `pool`."""
    path = check_root(getattr(settings, part), "manifest", f"a table of {part} images", field=part)
    if part == "pool" and os.path.isdir(path):
        yield from _directory(path, files.at(path), skipped)
    else:
        table = open_table(path)
        files = files if settings.image_root else files.at(os.path.dirname(path))
        yield from _rows(table, part, _columns(table, part, asked), files, skipped)


def _directory(directory: str, files: "Files", skipped) -> Iterator[listing.Row]:
    path = ""
    for path in folder.files(directory, "pool", skipped):
        yield listing.Row(path, files.name(path[len(os.path.join(directory, "")) :]), "pool")
    if not path:
        raise InputError(f"data.source.pool: {directory} has no image; give another directory")


# --- columns --------------------------------------------------------------------------------------


def _columns(table: Table, part: str, asked: Mapping[str, str | list[str]]) -> Columns:
    roles = ("path", "split", "group", "id")
    found = {role: _column(table, part, role, asked.get(role, role)) for role in roles}
    used = {name for names in found.values() for name in names}
    return found | {"label": _label_columns(table, part, asked.get("label", "label"), used)}


def _column(table: Table, part: str, role: str, name: str) -> list[str]:
    is_default = name == role
    name = table.meanings.get(role, name) if is_default else name
    if name in table.columns:
        return [name]
    is_named = name and not is_default and (role != "split" or part == "train")
    if role == "path" or is_named:
        raise _no_column(table, role, name)
    return []


def _label_columns(table: Table, part: str, names: str | list[str], used: set[str]) -> list[str]:
    if names == "*":
        names = [name for name in table.columns if name and name not in used]
    elif isinstance(names, str) and names not in table.columns:
        names = [name.strip() for name in names.split(",") if name.strip()]
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    missing = [name for name in names if name not in table.columns]
    if missing and part != "pool":
        raise _no_column(table, "label", missing[0])
    return [] if missing else names


def _no_column(table: Table, role: str, name: str) -> InputError:
    what = f"{table.path}: data.source.columns.{role}"
    unknown = InputError.unknown(what, name, [column for column in table.columns if column])
    return InputError(f"{unknown}; name the column that holds the {role}")


# --- rows -----------------------------------------------------------------------------------------


def _rows(
    table: Table, part: str, columns: Columns, files: "Files", skipped: list[Skipped]
) -> Iterator[listing.Row]:
    """Yields the rows of a table that name an image; the others join `skipped`."""
    id_, group, split = (next(iter(columns[role]), None) for role in ("id", "group", "split"))
    has_split, class_names = part == "train" and split is not None, columns["label"]
    wanted = [*columns["path"], id_, group, split, *class_names]
    for place, (cell, id_cell, group_cell, split_cell, *cells) in table.rows(wanted):
        name = clean(id_cell) or files.name(cell) or f"{table.unit} {place}"
        try:
            side = _side(split_cell) if has_split else part
            classes = _classes(class_names, cells)
        except InputError as error:
            raise InputError(f"{table.path}, {table.unit} {place} ({name}): {error}") from error
        path, reason = files.find(cell)
        if len(classes) > 1:
            reason = f"several classes: {', '.join(classes)}"
        if reason:
            skipped.append(Skipped(name, side, reason))
        else:
            label = sys.intern("".join(classes))
            yield listing.Row(path, name, side, label, sys.intern(clean(group_cell)), table.path)


def clean(cell: str) -> str:
    cell = cell.strip()
    if cell.endswith(".0") and cell[:-2].isdecimal():
        return cell[:-2]  # a column of whole numbers with gaps is written like this
    return "" if cell.lower() in _MISSING else cell


def _side(cell: str) -> str:
    side = _SPLITS.get(clean(cell).lower())
    if side is None:
        raise InputError.unknown("split", cell, filter(None, _SPLITS))
    return side


def _classes(names: Sequence[str], cells: Sequence[str]) -> list[str]:
    """Returns the classes that a row names, by one column or by one column per class."""
    if len(names) > 1:
        return [name for name, cell in zip(names, cells, strict=True) if _is_one(name, cell)]
    labels = [clean(label) for cell in cells for label in cell.split(SEPARATOR)]
    return [label for label in labels if label and label not in _UNLABELED]


def _is_one(name: str, cell: str) -> bool:
    bit = _BITS.get(clean(cell).lower())
    if bit is None:
        raise InputError(f"column {name!r} holds {cell!r}; one column per class needs 0 or 1")
    return bit


class Files:
    """Finds the files that the cells of a table name.

    Args:
      home: directory that names are relative to, in all tables.
      base: directory that the paths of this table are relative to.
    """

    def __init__(self, home: str, base: str = ""):
        self._home = home
        self._inside = os.path.join(base or home, "")
        self._prefix = os.path.relpath(base or home, home)
        self._extensions = frozenset(Image.registered_extensions())
        self._listed: dict[str, dict[str, list[str]]] = {}

    def at(self, base: str) -> "Files":
        """Returns the same for a table whose paths are relative to `base`."""
        return Files(self._home, base)

    def name(self, cell: str) -> str:
        """Returns what reports call a file: the path as written, seen from `home`."""
        return printable(os.path.normpath(os.path.join(self._prefix, cell))) if cell else ""

    def find(self, cell: str) -> tuple[str, str]:
        """Returns the absolute path and nothing, or why there is none."""
        if not cell.strip():
            return "", "no path"
        path = os.path.normpath(os.path.join(self._inside, cell))
        if not path.startswith(self._inside) and not os.path.isabs(cell):
            return "", f"outside {self._inside}; say with data.source.image_root where paths start"
        if os.path.splitext(path)[1].lower() in self._extensions or os.path.isfile(path):
            return path, ""
        return self._with_extension(path)

    def _with_extension(self, path: str) -> tuple[str, str]:
        directory, stem = os.path.split(path)
        if directory not in self._listed:
            self._listed[directory] = self._stems(directory)
        files = self._listed[directory].get(stem, [stem])
        if len(files) > 1:
            return "", f"several files: {', '.join(files)}"
        return os.path.join(directory, files[0]), ""

    def _stems(self, directory: str) -> dict[str, list[str]]:
        """Maps the names of a directory's images without extension to those with it."""
        stems: dict[str, list[str]] = {}
        with contextlib.suppress(OSError):  # that the files are missing is found out for each
            for file in sorted(os.listdir(directory)):
                stem, extension = os.path.splitext(file)
                if extension.lower() in self._extensions:
                    stems.setdefault(stem, []).append(file)
        return stems
