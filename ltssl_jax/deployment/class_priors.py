"""How frequent the classes are where a network is put to use, as users say it."""

import json
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import tables
from ltssl_jax.data.sources.base import visible

WORDS = ("network", "uniform", "train")
VALUES = ("prior", "count")  # names of the column with the numbers


def named(said: str, class_names: Sequence[str], labeled_counts: np.ndarray) -> np.ndarray | None:
    """Returns class frequencies `[K]` that sum to 1; None for "network", which leaves its own.

    Args:
      said: "network"; "uniform"; "train", as in the labeled images; or a file: CSV with the columns
        `class` and `prior` (or `count`), or a JSON object from names to numbers. Numbers of a file
        may have any sum.
      class_names: `K` names.
      labeled_counts: `[K]` int.

    Raises:
      InputError: there is no such file; a class is missing in it, unknown or there twice; a number
        is negative or none; or all are 0.
    """
    if said == "network":
        return None
    if said == "uniform":
        return np.full(len(class_names), 1 / len(class_names))
    if said == "train":
        return labeled_counts / labeled_counts.sum()
    if not os.path.isfile(said):
        raise InputError(
            f"--prior is {said!r}, which is no file; give one, or {', '.join(WORDS[:-1])} or"
            f" {WORDS[-1]}"
        )
    pairs = _of_json(said) if said.lower().endswith(".json") else _of_table(said)
    return _normalized(pairs, class_names, said)


def _of_table(path: str) -> list[tuple[str, str]]:
    table = tables.open_table(path)
    column = next((name for name in VALUES if name in table.columns), None)
    if "class" not in table.columns or column is None:
        raise InputError(
            f"{path} has the columns {', '.join(table.columns)}; name them class and prior (or"
            " count)"
        )
    return [(name.strip(), value) for _, (name, value) in table.rows(["class", column])]


def _of_json(path: str) -> list[tuple[str, object]]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file, object_pairs_hook=list)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); write it again") from error
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise InputError(f"{path} holds no object; give one from class names to numbers")
    return found


def _normalized(pairs, class_names: Sequence[str], path: str) -> np.ndarray:
    values: dict[str, float] = {}
    class_names = [visible(name) for name in class_names]
    for name, value in ((visible(name), value) for name, value in pairs):
        if name not in class_names:
            raise InputError(f"{path}: {InputError.unknown('class', name, class_names)}")
        if name in values:
            raise InputError(f"{path} has the class {name!r} twice; keep one of them")
        values[name] = _number(value, f"{path}: class {name!r}")
    _check_complete(values, class_names, path)
    prior = np.array([values[name] for name in class_names])
    if not prior.sum():
        raise InputError(f"{path} gives every class 0; give at least one a positive number")
    return prior / prior.sum()


def _number(value: object, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    InputError.check(0 <= number < math.inf, where, value, "a number, 0 or greater")
    return number


def _check_complete(values: Mapping[str, float], class_names: Sequence[str], path: str) -> None:
    missing = [name for name in class_names if name not in values]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise InputError(
            f"{path} lacks {', '.join(map(repr, missing[:8]))}{more}; give every class a number, 0"
            " where it does not occur"
        )
