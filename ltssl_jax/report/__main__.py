"""Writes a report: `python -m ltssl_jax.report RUN [RUN ...] --out report.html`.

RUN is the --workdir of a training, finished or not, or a directory that holds some at any depth.
Of one run the page says whether it worked, where it fails, whether its probabilities can be
trusted, and how it was trained. Several are grouped by configuration, averaged over seeds and
compared with the first.

The page needs no other file and no network. `report.md` and `report.json` beside it say the same.
"""

import os
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from ltssl_jax import command
from ltssl_jax import main as main_
from ltssl_jax.core import InputError
from ltssl_jax.monitoring.progress import printer
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.report import collected, markdown, page, runs
from ltssl_jax.report.runs import Run

# Not absl's own: every command has an --out, and a program may import several commands.
FLAGS = flags.FlagValues()
OUT = flags.DEFINE_string("out", "report.html", "The page to write.", flag_values=FLAGS)
HELP = flags.DEFINE_bool("help", False, "Says all this.", flag_values=FLAGS)


def report(
    paths: Sequence[str | os.PathLike], out: str | os.PathLike, *, is_quiet: bool = False
) -> pathlib.Path:
    """Writes the page on some runs, and the same as Markdown and JSON beside it.

    Args:
      paths: runs, or directories that hold some.
      out: the page; its directory is made if it is missing.
      is_quiet: print nothing.

    Returns:
      The page.

    Raises:
      InputError: a directory holds no run that can be read, or the page cannot be written there.
    """
    out = pathlib.Path(out)
    if out.suffix != ".html":
        raise InputError(f"--out {os.fspath(out)!r} is no page; give a name that ends in .html")
    taken = [path for path in map(out.with_suffix, (".md", ".json")) if path.exists()]
    if taken and not out.exists():
        raise InputError(
            f"--out {os.fspath(out)!r}: {taken[0]} is no report and would be overwritten;"
            " choose another"
        )
    read = [runs.find(path) for path in paths]
    chosen = {run.path.resolve(): run for found, _ in read for run in found}
    reasons = list(dict.fromkeys(reason for _, reasons in read for reason in reasons))
    axes = [axis for path in paths for axis in runs.axes_of(path)]
    found = collected.collect(list(chosen.values()), reasons, axes)
    pictures = {} if found["comparison"] else _pictures(*chosen.values())
    contents = {".html": page.render(found, pictures), ".md": markdown.render(found)}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        RunDirectory(out.parent, flag="--out").write_json(out.with_suffix(".json").name, found)
        for ending, text in contents.items():
            out.with_suffix(ending).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(
            f"--out {os.fspath(out)!r} cannot be written ({error.strerror}); choose another"
        ) from error
    size, say = out.stat().st_size / 1000, printer(is_quiet=is_quiet).print
    for reason in reasons:
        say(f"left out: {reason}")
    say(f"written to {out} ({size:,.0f} kB), beside it .md and .json")
    return out


def _pictures(run: Run) -> dict[str, list[str]]:
    sets, _ = collected.predictions_of(run)
    return {name: [page.picture(pixels) for pixels in one.images] for name, one in sets.items()}


# --- the command ----------------------------------------------------------------------------------


def parsed(argv: Sequence[str]) -> list[str]:
    """Returns the runs, of which there must be one; a mistake is an exit."""
    found = command.arguments("report", __doc__, FLAGS, argv)
    if not found:
        command.refuse("report", "give at least one RUN")
    return found


def cli() -> None:
    """Writes a report; what is wrong with the input is said in one sentence."""
    with main_.in_one_sentence():
        report(parsed(sys.argv), OUT.value)


if __name__ == "__main__":
    cli()
