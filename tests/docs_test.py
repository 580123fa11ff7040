"""The documents: the code they show is the code there is, and what they name exists."""

import dataclasses
import re
import textwrap

import pytest

from ltssl_jax import methods
from ltssl_jax.core import InputError
from ltssl_jax.methods.fixmatch import FixMatch
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

METHODS = (ROOT / "docs" / "methods.md").read_text()
SLOTS = ("guess", "accept", "supervised")


@pytest.fixture(params=PAGES, ids=pages.named)
def page(request):
    return request.param


def quotes(text):
    """Yields the path and the pieces of each code block that says which file it is from."""
    for path, body in re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", text, re.M | re.S):
        yield path, [piece.rstrip("\n").split("\n") for piece in body.split("# …\n")]


def place(piece, lines, begin):
    """Returns where `piece` ends in the file, the same but for its indentation, or None."""
    for first in range(begin, len(lines) - len(piece) + 1):
        window = lines[first : first + len(piece)]
        if textwrap.dedent("\n".join(window)).split("\n") == piece:
            return first + len(piece)
    return None


def headings(path):
    """The names by which links reach the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", pages.prose(path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_quoted_line_is_in_its_file_in_that_order(page):
    for path, pieces in quotes(page.read_text()):
        lines, end = (ROOT / path).read_text().split("\n"), 0
        for piece in pieces:
            after = place(piece, lines, end)
            found = "\n".join(piece)
            assert after, f"{page.name}: {path} does not hold, or not in this order:\n{found}"
            end = after


def test_every_method_has_a_section_that_quotes_it():
    _, *sections = re.split(r"^#### (?=`)", METHODS, flags=re.M)
    quoted = {
        re.match(r"`(\w+)`", text)[1]: [path for path, _ in quotes(text)] for text in sections
    }
    assert len(quoted) == len(sections) and sorted(quoted) == list(methods.names())
    for name, paths in quoted.items():
        assert f"ltssl_jax/methods/{name}.py" in paths


def test_every_configuration_that_is_named_exists(page):
    for name in re.findall(r"\bconfigs/[\w*]+\.py", page.read_text()):
        assert any(ROOT.glob(name)), f"{page.name} names {name}"


def test_every_configuration_of_a_method_is_named():
    for path in (ROOT / "configs").glob("*_*.py"):
        assert path.stem == "own_images" or f"`configs/{path.name}`" in METHODS, path.name


def test_nothing_waits_to_be_filled_in(page):
    found = re.findall(r"^[A-Z]{4,}$|@[A-Z]+@|\bTODO\b", pages.prose(page.read_text()), re.M)
    assert not found, f"{page.name} has {found}"


def test_local_links_lead_somewhere(page):
    written = r"(?:\]\(|<a href=\"|<img src=\")([^)\s\"]+)"
    for link in re.findall(written, pages.prose(page.read_text())):
        if re.match(r"\w+:", link):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not heading or heading in headings(target), f"{page.name} links to {link}"


# --- the table of wrappers and bases --------------------------------------------------------------


def table():
    """The wrappers, what they change, and for every base what it offers and which fit it."""
    text = METHODS[METHODS.index("| base | offers |") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]
    (_, _, *wrappers), _, (_, _, *changes), *bases = rows
    names = [wrapper.strip("`") for wrapper in wrappers]
    said = {}
    for cell, offers, *fits in bases:
        assert set(fits) <= {"✓", "–"}
        for base in re.findall(r"`(\w+)`", cell):
            said[base] = offers, dict(zip(names, [fit == "✓" for fit in fits], strict=True))
    return dict(zip(names, changes, strict=True)), said


def is_wrapper(name):
    return "base" in [field.name for field in dataclasses.fields(methods.find(name))]


def can_wrap(name, base):
    """Whether a wrapper takes a method, an object or the name of one."""
    base = methods.make(base) if isinstance(base, str) else base
    try:
        methods.find(name)(base=base)
    except InputError:
        return False
    return True


def words(slots):
    return ", ".join(slots) or "nothing"


def test_the_table_has_every_wrapper_and_what_it_changes():
    changes, _ = table()
    assert list(changes) == [name for name in methods.names() if is_wrapper(name)]
    for name, said in changes.items():
        # It changes what it does not do without.
        bases = {s: type("Base", (FixMatch,), {"slots": {*SLOTS} - {s}})() for s in SLOTS}
        changed = [s for s in SLOTS if not can_wrap(name, bases[s])]
        assert said == words(changed), name
        at_work = type("Base", (FixMatch,), {"refresh_every": lambda self, problem: 1})()
        assert can_wrap(name, at_work) == (not changed), name  # else its work would not be done


def test_the_table_has_every_base_and_which_wrappers_fit():
    changes, said = table()
    assert sorted(said) == list(methods.names())
    for base, (offers, fits) in said.items():
        assert offers == words(getattr(methods.make(base), "slots", ())), base
        for name in changes:
            assert fits[name] == can_wrap(name, base), f"{name} around {base}"
