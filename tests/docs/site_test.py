"""The pages become a site, without a warning, in which every link leads somewhere."""

import html.parser
import pathlib
import subprocess
import sys
import urllib.parse

import pytest

from tests.docs.pages import ROOT


class Page(html.parser.HTMLParser):
    """The anchors of a page, and where its links and pictures lead."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    built = tmp_path_factory.mktemp("site")
    flags = ["-W", "--keep-going", "-q", "-b", "html", "-d", f"{built}/.trees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, "docs", built],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.resolve(): Page(path) for path in built.glob("*.html")}


@pytest.mark.whole
def test_every_page_is_in_the_site(site):
    names = {path.stem for path in site}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= names


@pytest.mark.whole
def test_every_link_of_the_site_leads_somewhere(site):
    for path, page in site.items():
        for link in page.links:
            file, anchor = urllib.parse.urldefrag(urllib.parse.unquote(link.split("?")[0]))
            if urllib.parse.urlsplit(link).scheme or file.startswith("//"):
                continue
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name} links to {link}"
            known = site[target].anchors if target in site else {anchor}
            assert not anchor or anchor in known, f"{path.name} links to {link}"
