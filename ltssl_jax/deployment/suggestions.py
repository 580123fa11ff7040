"""Which images to label next, as a table to fill in and as a sheet to look at.

`suggestions.csv` has a row per image, the most valuable first:

path            absolute; empty where images have no files of their own
label           empty, for you
id              what reports call the image; where it has no name, its place in the data set
guess, probability, runner_up    what the network says
why             uncertain, rare, unlike the labeled images
score           for which it was taken, see `evaluation.acquisition`
"""

import base64
import csv
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import images, tables
from ltssl_jax.evaluation.acquisition import Chosen, Worth

FILES = TABLE, PAGE = "suggestions.csv", "suggestions.html"
_SIDE = 192  # pixels of the longer side of a picture
_HIGH = 0.75  # of a number that is a reason: the share of all images that have less of it


class Suggestion(NamedTuple):
    """A row of the table."""

    path: str
    label: str
    id: str
    guess: str
    probability: str
    runner_up: str
    why: str
    score: str


def told(
    places: Iterable[tuple[str, str]],
    worth: Worth,
    chosen: Chosen,
    class_names: Sequence[str],
    labeled_counts: np.ndarray,
) -> list[Suggestion]:
    """Says in words what was chosen.

    Args:
      places: `n` paths and ids, in the order of `chosen`.
      worth: of all images.
      chosen: among them.
      class_names: `K` names.
      labeled_counts: `[K]` int.
    """
    reasons = _reasons(worth, chosen, class_names, labeled_counts)
    guesses = zip(*(x[chosen.rows] for x in worth[:3]), strict=True)
    return [
        Suggestion(path, "", id_, class_names[k], f"{p:.4g}", class_names[j], why, f"{score:.4g}")
        for (path, id_), (k, j, p), why, score in zip(
            places, guesses, reasons, chosen.scores, strict=True
        )
    ]


def _reasons(worth: Worth, chosen: Chosen, class_names, labeled_counts) -> list[str]:
    """Names what each image has more of than most; at least what it has most of.

    Rare are only classes with fewer labeled images than the mean.
    """
    numbers = worth.uncertainty, worth.rarity
    shares = [[np.mean(x < x[row]) for row in chosen.rows] for x in numbers] + [chosen.novelty]
    found = []
    for row, of_row in zip(chosen.rows, np.array(shares).T, strict=True):
        both = worth.guess[row], worth.runner_up[row]
        rare = min(both, key=lambda k: labeled_counts[k])
        words = (
            f"uncertain: {' or '.join(class_names[k] for k in both)}",
            f"rare: {class_names[rare]} has {labeled_counts[rare]:,} labeled",
            "unlike the labeled images",
        )
        of_row[1] *= labeled_counts[rare] < labeled_counts.mean()
        is_high = (of_row >= _HIGH) | (of_row == of_row.max())
        found.append("; ".join(word for word, high in zip(words, is_high, strict=True) if high))
    return found


# --- the table ------------------------------------------------------------------------------------


def check_free(directory: str | os.PathLike) -> None:
    """Raises InputError where a table with labels would be written over, or no table can be."""
    path = pathlib.Path(directory, TABLE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError("it is not writable")
    except OSError as error:
        raise InputError(f"--out {path.parent} cannot be used ({error}); choose another") from error
    if path.exists() and any(label for _, (label,) in _labels(path)):
        raise InputError(f"{path} has labels, which would be lost; move it, or give another --out")


def _labels(path: pathlib.Path) -> tables.Rows:
    try:
        return list(tables.open_table(os.fspath(path)).rows(["label"]))
    except (InputError, ValueError) as error:  # ValueError: no such column
        raise InputError(f"{path} is no table of suggestions; move it, or give --out") from error


def write(directory: str | os.PathLike, rows: Sequence[Suggestion], page: str) -> None:
    """Writes the table and the page, each whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([Suggestion._fields, *rows])
    for name, content in ((TABLE, text.getvalue()), (PAGE, page)):
        path = pathlib.Path(directory, name)
        partial = path.with_name(f"{name}.partial")
        partial.write_bytes(content.encode("utf-8", "backslashreplace"))
        partial.replace(path)


# --- the sheet ------------------------------------------------------------------------------------


def render(
    rows: Sequence[Suggestion],
    pictures: Sequence[dict[str, Any]],
    *,
    classes: Sequence[tuple[str, int]],
    facts: dict[str, Any],
) -> str:
    """Fills the template; whatever comes from files and class names is escaped.

    Args:
      rows: the table.
      pictures: of each row, from `picture`.
      classes: names of all classes with their labeled images.
      facts: `run`, `network`, `total` images to choose from, and `again`: how to train with the
        labels, or nothing.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"count": "{:,}".format, "percent": lambda p: f"{100 * float(p):.0f} %"}
    text = resources.files(__package__).joinpath("suggestions.html").read_text(encoding="utf-8")
    cards = [
        {"line": line, "row": row, "picture": shown}
        for line, (row, shown) in enumerate(zip(rows, pictures, strict=True), 1)
    ]
    by_rarity = sorted(classes, key=lambda one: one[1])
    groups = [(*one, [c for c in cards if c["row"].guess == one[0]]) for one in by_rarity]
    return environment.from_string(text).render(
        groups=[group for group in groups if group[2]], classes=by_rarity, num=len(rows), **facts
    )


def picture(image: str | np.ndarray) -> dict[str, Any]:
    """Makes a file, or pixels `[H, W, C]` uint8, a picture of the page.

    Returns:
      `uri` of the data, and `is_tiny`, whether its pixels are to be seen.
    """
    pixels = image
    if isinstance(image, str):
        pixels = images.decode(image, images.Policy(0, "", 3))
    shown = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    shown.thumbnail((_SIDE, _SIDE))
    is_tiny, data = max(shown.size) < _SIDE // 2, io.BytesIO()
    kind = "png" if is_tiny else "jpeg"
    shown.save(data, kind, quality=85)
    uri = f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
    return {"uri": uri, "is_tiny": is_tiny}
