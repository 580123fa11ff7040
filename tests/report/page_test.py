"""The page is one file, holds what was found, and lets nothing hostile through."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ltssl_jax.report import __main__ as command
from ltssl_jax.report import charts, collected, courses, drawing, page, runs
from tests.report import made

HOSTILE = "<script>alert('x')</script>\"' onerror=alert(1) {{ 271*271 }} $x^2$ | ünï #2f6fb0"
VOID = ("meta", "img", "br", "path", "use", "image", "stop")


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def values(self, *names):
        return [value for name, value in self.attributes if name in names]


def report(path, **how):
    """Writes a run and its report; returns the texts of the page, Markdown and JSON."""
    made.write(path / "run", **how)
    out = command.report([path / "run"], path / "report.html", is_quiet=True)
    return [out.with_suffix(ending).read_text() for ending in (".html", ".md", ".json")]


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return report(tmp_path_factory.mktemp("ten"), validation=True, alarm=True)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    names = [HOSTILE, "b", "c"]
    return report(tmp_path_factory.mktemp("hostile"), names=names, skill=1.0)


def test_hostile_names_are_text(hostile):
    html, markdown, _ = hostile
    tags = Tags(html)
    assert "script" not in tags.tags
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "73441" not in html
    assert "<script" not in markdown and "c | " in markdown and "\\| ün" in markdown
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, re.S))
    assert "&lt;script&gt;" in drawn and "&lt;script&gt;alert" in html.replace(drawn, "")


def test_names_that_are_no_text_are_written_as_bytes(tmp_path):
    html, *_ = report(tmp_path, names=["caf\udce9", "b"], vectors=False)
    assert ">caf\\udce9<" in html


def test_names_in_figures_stay_as_they_are():
    def draw(axes):
        axes.text(0, 0, "$x^2$ #2f6fb0 font: 3px y")

    text = drawing.svg("name", 'a "label" < b', draw)
    assert ">$x^2$ #2f6fb0 font: 3px y<" in text
    assert 'aria-label="a &quot;label&quot; &lt; b"' in text


def test_the_page_refers_to_nothing_outside(ten):
    tags = Tags(ten[0])
    links = tags.values("src", "href", "xlink:href")
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert not {"script", "link", "iframe", "style"} & set(tags.tags) - {"style"}
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", ten[0]))
    assert "http" not in re.sub(r"data:[^\"]*", "", ten[0])
    targets = {link[1:] for link in links if link.startswith("#")}
    assert targets <= set(tags.values("id"))


def test_ids_are_given_once(ten):
    ids = Tags(ten[0]).values("id")
    assert ids and len(ids) == len(set(ids))


def test_everything_has_its_place(ten):
    html = ten[0]
    for title in (
        "What to know first", "Where it fails", "Confident mistakes", "Pseudo-labels",
        "Can its probabilities be trusted?", "Training", "The run",
    ):  # fmt: skip
        assert html.count(f"<h2>{title}</h2>") == 1
    drawn = re.findall(r'<svg [^>]*role="img" aria-label="[^"]{20,}"', html)
    assert len(drawn) == html.count("<svg") == 11
    assert "balanced accuracy" in html and "500 test images; head base, EMA weights" in html
    assert "alarm: collapse/base, step 200" in html
    assert re.search(
        r"temperature of 0\.\d\d, fitted on 500 validation images", " ".join(html.split())
    )
    assert "The learning rate is 0.03 throughout." in html


def test_alarms_of_collapse_are_drawn_where_they_belong(ten):
    with_line = re.findall(
        r"<svg[^>]*aria-label=\"([^\"]*)\"(?:(?!</svg>).)*alarm: collapse", ten[0], re.S
    )
    assert len(with_line) == 4 and all("seudo-labels" in label for label in with_line)


def test_every_colour_of_figures_is_one_of_the_page(ten):
    html = ten[0]
    for ground in re.findall(r":root \{(.*?)\}", html, re.S):
        assert {f"--{name}" for name in drawing.PALETTE} <= set(re.findall(r"--\w+", ground))
    for drawn in re.findall(r"<svg.*?</svg>", html, re.S):
        assert not re.findall(r"(?:fill|stroke): #", drawn)


def test_tables_have_headings(ten):
    for table in re.findall(r"<table.*?</table>", ten[0], re.S):
        assert re.search(r'<th scope="(?:col|row)"', table)
    images = re.findall(r"<img[^>]*>", ten[0])
    assert images and all(re.search(r'alt="class \d, called class \d"', one) for one in images)


@pytest.mark.parametrize(
    ("number", "kilobytes"), [(2, 300), pytest.param(1000, 1000, marks=pytest.mark.whole)]
)
def test_any_number_of_classes(tmp_path, number, kilobytes):
    html, markdown, json = report(tmp_path, num_classes=number, vectors=False)
    Tags(html)
    assert f"All {number:,} classes" in html and f"class {number - 1}" in markdown
    assert max(map(len, (html, json))) < 1000 * kilobytes


def test_a_thousand_classes_share_cells_of_the_confusion():
    order = np.random.default_rng(0).permutation(1000)
    cells = [[k, k, 8] for k in range(1000)] + [[order[0], order[999], 2]]
    shares, is_right = charts.blocks(cells, order)
    assert shares.shape == (200, 200)
    assert shares[0, 199] == pytest.approx(0.2 / 5) and not is_right[0, 199]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert is_right[np.arange(200), np.arange(200)].all()


def test_rows_of_the_confusion_are_in_order_of_labeled_images():
    shares, is_right = charts.blocks([[0, 0, 3], [0, 1, 1], [1, 1, 4]], np.array([1, 0]))
    np.testing.assert_allclose(shares, [[1, 0], [0.25, 0.75]])
    assert is_right.tolist() == [[True, False], [False, True]]


def test_equal_runs_give_equal_pages(tmp_path):
    how = dict(num_classes=3, vectors=False, kept=False)
    assert (
        report(tmp_path / "a", **how)[0].replace("/a/", "/b/") == report(tmp_path / "b", **how)[0]
    )


def test_several_runs_stand_side_by_side(tmp_path):
    for name in ("one", "two"):
        for seed in (0, 1):
            how = dict(seed=seed, method={"name": name}, vectors=False, fingerprint=str(seed))
            made.write(tmp_path / "runs" / f"{name}{seed}", num_classes=4, **how)
    out = command.report([tmp_path / "runs"], tmp_path / "all.html", is_quiet=True)
    html, markdown = out.read_text(), out.with_suffix(".md").read_text()
    Tags(html)
    assert "4 runs compared" in html and "Differences from one" in html
    assert len(re.findall(r"[\d.]+ ± [\d.]+ \(n = 2\)", html)) == 10
    assert html.count("<svg") == 3 and "over 2 seeds" in markdown


@pytest.fixture
def axes(monkeypatch):
    """The axes of the last figure; nothing is written."""
    drawn = []

    def draw_only(name, label, draw, **_):
        drawn.append(Figure().subplots())
        draw(drawn[-1])
        return "svg"

    monkeypatch.setattr(drawing, "svg", draw_only)
    return drawn


def test_terms_below_zero_are_seen(axes):
    terms = {"loss": [2.0, 1.0], "loss/supervised": [2.2, 1.2], "loss/fairness": [-0.2, -0.3]}
    run = {"curves": {}, "pseudo": {"kinds": {}}}
    run["curves"] = {k: dict(steps=[1, 2], values=v) for k, v in terms.items()}
    courses.training(run)
    assert axes[-1].get_ylim()[0] < -0.3
    del run["curves"]["loss/fairness"]
    courses.training(run)
    assert axes[-1].get_ylim()[0] == 0


def test_runs_of_different_lengths_are_named(axes):
    def run(*steps):
        return {"curves": {"test/few": {"steps": steps, "values": [0.5] * len(steps)}}}

    groups = [{"name": "uneven", "runs": [0, 1]}, {"name": "even", "runs": [2, 2]}]
    groups.append({"name": "alone", "runs": [2]})
    found = {"runs": [run(1, 2), run(1, 2, 3), run(1, 2)], "comparison": {"groups": groups}}
    for one in found["runs"]:
        one["classes"] = {"recall": None}
    courses.comparison(found)
    assert axes[-1].get_legend_handles_labels()[1] == ["uneven", "even, mean", "alone"]


def test_pictures_keep_their_pixels():
    def decoded(pixels):
        data = base64.b64decode(page.picture(pixels).partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)))

    rng = np.random.default_rng(0)
    for channels in (1, 2, 3, 4):
        pixels = rng.integers(0, 256, (8, 6, channels), np.uint8)
        wanted = pixels[..., 0] if channels < 3 else pixels
        np.testing.assert_array_equal(decoded(pixels), wanted)
    for wide, kept in (((400, 200, 3), (96, 48, 3)), ((64, 1000, 3), (6, 96, 3))):
        assert decoded(np.zeros(wide, np.uint8)).shape == kept


def test_classes_without_test_images_or_labels_are_no_fault(tmp_path):
    path = made.write(tmp_path / "run", num_classes=4)
    confusion = np.load(path / "confusion.npy")
    confusion[2] = 0
    np.save(path / "confusion.npy", confusion)
    found = collected.collect([runs.read(path)])
    found["runs"][0]["classes"]["labeled"][1] = 0
    Tags(page.render(found, {"test": [""] * 99, "validation": [], "pool": [""] * 99}))
    drawn = charts.recalls(found["runs"][0]["classes"])
    assert ">class 0<" in drawn and ">class 2<" not in drawn and "nan" not in drawn
