"""What every source of images hands over, and what several of them need."""

import dataclasses
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ltssl_jax.core import InputError

PARTS = ("train", "val", "test", "pool")
COLUMNS = {name: name for name in ("path", "label", "split", "group", "id")}
CHECKS = ("decode", "header")
RESIZES = ("crop", "stretch", "pad")
ELSEWHERE = "also in "  # begins the reason of a row that is used, but in another part

Progress = Callable[[str, int, int], None]  # what is done, how much of it, out of how much


class Skipped(NamedTuple):
    """One file or row that is left out: what reports call it, one of `PARTS`, and why."""

    name: str
    part: str
    reason: str


def tally(reasons: Iterable[str], most: int = 4) -> str:
    """Counts reasons, the most frequent first: "12 x the file is empty, 1 x no label"."""
    counts = Counter(reasons)
    parts = [f"{count:,} x {reason}" for reason, count in counts.most_common(most)]
    return ", ".join(parts + [f"{len(counts) - most} other reasons"] * (len(counts) > most))


@dataclass(frozen=True)
class Records:
    """Images that can be read by position.

    Attributes:
      labels: `[N]` int32 in `[0, K)`; -1 where the class is unknown.
      read: `[n]` int positions to `[n, H, W, C]` uint8, in that order; safe to call from threads.
      image_shape: `(H, W, C)`.
      names: id of each image, or its file relative to the root; None for arrays.
      groups: `[N]` int64, equal where images share a patient, a site, a sequence, over all parts of
        a source; -1 for an image that is alone. None where nothing is known.
      is_pool: `[N]` bool, for the unlabeled pool whatever is known of the class. None: nobody said.
      digest: identifies the pixels, for what is kept on disk about them; empty: keep nothing.
      headers: `[N, 3]` int32, width, height and channels of the files; None where there are none.
      files: absolute path of each image, where each has a file of its own; else None.
      origin: `[N]` int64, where the images were in the records that a source opened; None: as here.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int, int, int]
    names: tuple[str, ...] | None = None
    groups: np.ndarray | None = None
    is_pool: np.ndarray | None = None
    digest: str = ""
    headers: np.ndarray | None = None
    files: tuple[str, ...] | None = None
    origin: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: np.ndarray) -> "Records":
        """Returns the images at `positions` `[n]` int, in that order, as records of their own."""
        positions = np.asarray(positions, np.int64)
        return dataclasses.replace(
            self,
            labels=self.labels[positions],
            read=lambda rows: self.read(positions[rows]),
            names=self.names and tuple(self.names[i] for i in positions),
            groups=None if self.groups is None else self.groups[positions],
            is_pool=None if self.is_pool is None else self.is_pool[positions],
            headers=None if self.headers is None else self.headers[positions],
            files=self.files and tuple(self.files[i] for i in positions),
            origin=positions if self.origin is None else self.origin[positions],
            digest=self.digest and f"{self.digest} {hash_of(positions.tobytes())}",
        )


@dataclass(frozen=True)
class Source:
    """A data set, and the classes in label order.

    Attributes:
      name: what reports call it.
      train: images with a label, then those without, which are the pool.
      test: None only until some of `train` are held out, see `data.holdout`.
      class_names: `K` names.
      val: images to choose checkpoints by, if the data set has them.
      skipped: what was left out.
      notes: what a person should know before training.
    """

    name: str
    train: Records
    test: Records | None
    class_names: tuple[str, ...]
    val: Records | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.num_classes < 2:
            raise InputError(
                f"data set {self.name!r} has {self.num_classes} class "
                f"({', '.join(self.class_names)}); classification needs at least two"
            )
        for what, records in (("test", self.test), ("validation", self.val)):
            if records is not None and records.image_shape != self.train.image_shape:
                raise InputError(
                    f"data set {self.name!r}: training images are {self.train.image_shape}, {what} "
                    f"images {records.image_shape} (height, width, channels); make them equal, for "
                    "example with data.image_size"
                )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Settings:
    """What a user says about a data set: `config.data.source`, and `config.data` about images.

    Attributes:
      name: which data set, for `tfds`; elsewhere what reports call it.
      root: a directory or file; what is expected there depends on the kind. See `roots`.
      val, test, pool: where further images are, if not under `root`; depends on the kind.
      classes: a text file of class names, one a line, in the order of their numbers; else sorted.
      columns: names of columns, by what they mean (`COLUMNS`).
      image_root: directory that paths in a table are relative to, if not the table's own.
      download: allow `tfds` to download and prepare the data set.
      check: "decode" finds every broken file before training, "header" looks at the first bytes.
      max_skipped: share of a part's images that may be left out.
      image_size: side of the square that images are made to fit; 0 leaves them as they are.
      resize: "crop" cuts the largest central square, "stretch" distorts, "pad" adds black.
      channels: 1, 3 or 4 (with alpha); 0 is 1 if all files of `train` are grey, else 3.
      progress: called while files are looked at.
    """

    name: str = ""
    root: str = ""
    val: str = ""
    test: str = ""
    pool: str = ""
    classes: str = ""
    columns: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(COLUMNS))
    image_root: str = ""
    download: bool = False
    check: str = "decode"
    max_skipped: float = 0.05
    image_size: int = 0
    resize: str = "crop"
    channels: int = 0
    progress: Progress | None = None

    def __post_init__(self):
        InputError.check(self.image_size >= 0, "data.image_size", self.image_size, "0 or pixels")
        for field, known in (("data.source.check", CHECKS), ("data.resize", RESIZES)):
            value = getattr(self, field.rpartition(".")[2])
            if value not in known:
                raise InputError.unknown(field, value, known)
        is_right = self.channels in (0, 1, 3, 4)
        InputError.check(is_right, "data.channels", self.channels, "0 (automatic), 1, 3 or 4")
        is_share = 0 <= self.max_skipped <= 1
        InputError.check(is_share, "data.source.max_skipped", self.max_skipped, "from 0 to 1")
        for column in self.columns:
            if column not in COLUMNS:
                raise InputError.unknown("data.source.columns", column, COLUMNS)


def in_memory(images: np.ndarray, labels: np.ndarray, **known: Any) -> Records:
    """Wraps `[N, H, W, C]` uint8 images (an array or a memory map) and `[N]` labels."""
    return Records(
        labels.astype(np.int32), lambda positions: images[positions], images.shape[1:], **known
    )


def roots(root: str) -> list[str]:
    """Returns the paths that `root` names: one that there is, or several with commas between."""
    pieces = [piece.strip() for piece in root.split(",") if piece.strip()]
    is_list = not _exists(root) and any(map(_exists, pieces))
    return pieces if is_list else [root]


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))


def check_root(root: str, kind: str, what: str, *, field: str = "root") -> str:
    """Returns the expanded path of `root`; raises InputError where it is empty or missing."""
    if not root:
        raise InputError(f"data.source.{field} is empty; the source {kind!r} needs {what}")
    path = os.path.abspath(os.path.expanduser(root))
    if not os.path.exists(path):
        raise InputError(f"data.source.{field} is {root!r} but {path} does not exist; give {what}")
    return path


def read_classes(path: str) -> tuple[str, ...]:
    """Reads class names, one a line, from a text file in UTF-8.

    Raises:
      InputError: the file cannot be read, names no class, or one twice.
    """
    path = check_root(path, "", "a text file with one class name a line", field="classes")
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"data.source.classes: {path} cannot be read ({error}); save it as text in UTF-8"
        ) from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise InputError(
            f"data.source.classes: {path} names {', '.join(twice) + ' twice' if twice else 'none'};"
            " give each class one line"
        )
    return names


def printable(name: str) -> str:
    """Returns a file name that every report can hold; bytes that are no UTF-8 become `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def visible(name: str) -> str:
    """Returns a class name in one line, without characters that steer a terminal or a page."""
    hidden = ("Cc", "Cf", "Zl", "Zp")
    escaped = (c.encode("unicode_escape").decode() for c in name)
    return "".join(
        e if unicodedata.category(c) in hidden else c for c, e in zip(name, escaped, strict=True)
    )


def cache_directory() -> str:
    """Returns where what is found out about data is kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "ltssl_jax")


def hash_of(*parts: bytes) -> str:
    """Returns the SHA-256 of the parts, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def import_tensorflow(wanted_by: str) -> Any:
    """Imports TensorFlow and keeps it off the accelerators, which belong to JAX."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it narrates its start
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"{wanted_by} needs TensorFlow, which cannot be imported ({error}); "
            "run `pip install tensorflow-cpu tensorflow-datasets`"
        ) from error
    tf.config.set_visible_devices([], "GPU")
    return tf
