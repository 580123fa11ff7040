"""The pages that people read, and the code in them."""

import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
OTHERS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "launch/README.md",
    "benchmarks/README.md",
)
PAGES = (*(ROOT / name for name in OTHERS), *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>\w+) -->\n)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block, and the word in the comment on the line before it, which no reader sees."""

    language: str
    text: str
    mark: str


def named(path: pathlib.Path) -> str:
    """Returns what tests call a page."""
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[Block]:
    """Returns the blocks of one language."""
    found = (Block(m["language"], m["text"], m["mark"] or "") for m in _FENCE.finditer(text))
    return [block for block in found if block.language == language]


def prose(text: str) -> str:
    """Returns what is not in blocks."""
    return _FENCE.sub("", text)


def inline(text: str) -> list[str]:
    """Returns what stands in backticks outside of blocks, on one line each."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def commands(text: str) -> Iterator[list[str]]:
    """Yields the words of every command: of shell blocks, and of whole ones in backticks."""
    scripts = [block.text for block in blocks(text, "bash")]
    scripts += [code for code in inline(text) if code.startswith("python ") and "…" not in code]
    for line in "\n".join(scripts).replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|[&;|]", line):
            if words := shlex.split(command, comments=True):
                yield words
