"""The names that docs/metrics.md explains, and those that it does not."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "metrics.md"
WORDS = {"SET": "(validation|test)", "CLASS": ".+", "NAME": "[a-z0-9_]+"}


def patterns(kind):
    """Returns what names in `kind` ("train", "evaluation", "alarm", "result") may look like."""
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [(row[1], row[2]) for row in rows if len(row) == 7]
    names = [n for cell, where in cells if {kind, "all"} & set(re.findall(r"\w+", where))
             for n in re.findall("`([^`]+)`", cell)]  # fmt: skip
    return [re.sub("|".join(WORDS), lambda word: WORDS[word[0]], name) for name in names]


def undocumented(names, kind):
    """Returns the names that no row explains."""
    known = patterns(kind)
    return [name for name in names if not any(re.fullmatch(p, name) for p in known)]
